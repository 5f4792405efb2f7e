"""The network behind FID against an independent one, on shared random weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from mimic.models.inception import SIZE_PX, FidInception, as_input, complete


@pytest.fixture(scope="module")
def network() -> FidInception:
    """Weights and statistics that keep numbers in range through all layers, and differ from channel
    to channel."""
    random = torch.Generator().manual_seed(0)
    made = FidInception().eval()
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.data = (
                torch.randn(module.weight.shape, generator=random) * (2 / fan_in) ** 0.5
            )
        elif isinstance(module, nn.BatchNorm2d):
            module.running_mean.copy_(0.3 * torch.randn(module.num_features, generator=random))
            module.running_var.copy_(0.5 + torch.rand(module.num_features, generator=random))
    return made


def test_features_equal_an_independent_network(network: FidInception, tmp_path: Path) -> None:
    """At 299 px neither of the two resizes; what the other takes off, 128 of 256, is put into our
    input."""
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    other = FeatureExtractorInceptionV3("inception", ["2048"], str(tmp_path / "weights.pth"))
    images = torch.randint(
        0,
        256,
        (2, 3, SIZE_PX, SIZE_PX),
        dtype=torch.uint8,
        generator=torch.Generator().manual_seed(1),
    )
    with torch.inference_mode():
        expected = other(images)[0]
        found = network((images.float() - 128) / 128)
    assert found.shape == (2, 2048)
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_border_averages_and_the_last_maximum_matter(network: FidInception) -> None:
    """What torchvision's own blocks would give is something else."""
    x = torch.rand(1, 2048, 8, 8, generator=torch.Generator().manual_seed(2))
    corner = x[0, :, :2, :2]  # a corner has three neighbours, and no zeros around it
    torch.testing.assert_close(network.Mixed_7b.pooled(x)[0, :, 0, 0], corner.mean(dim=(1, 2)))
    torch.testing.assert_close(network.Mixed_7c.pooled(x)[0, :, 0, 0], corner.amax(dim=(1, 2)))
    middle = x[0, :, 2:5, 3:6]
    torch.testing.assert_close(network.Mixed_7b.pooled(x)[0, :, 3, 4], middle.mean(dim=(1, 2)))
    torch.testing.assert_close(network.Mixed_7c.pooled(x)[0, :, 3, 4], middle.amax(dim=(1, 2)))


def test_the_file_has_torchvisions_names_and_1008_classes(network: FidInception) -> None:
    """Files of before torch counted batches lack the counters."""
    state = network.state_dict()
    assert state["fc.weight"].shape == (1008, 2048)
    assert state["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert not any(key.startswith("AuxLogits") for key in state)
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert (
        len(old) == 94 * 5 + 2
    )  # 94 convolutions, each with a weight and four vectors of its normalisation
    network.load_state_dict(complete(old, network), strict=True)


def test_input_is_enlarged_plainly_and_goes_from_minus_one_to_one() -> None:
    images = torch.zeros(1, 4, 4, 3, dtype=torch.uint8)
    images[:, :, 2:] = 255
    x = as_input(images)
    assert x.shape == (1, 3, SIZE_PX, SIZE_PX)
    assert (x.min(), x.max()) == pytest.approx((-1, 1))
    column = (torch.arange(SIZE_PX) + 0.5) * 4 / SIZE_PX - 0.5  # pixel centres at halves
    torch.testing.assert_close(x[0, 0, 100], 2 * (column - 1).clamp(0, 1) - 1, atol=1e-5, rtol=0)
