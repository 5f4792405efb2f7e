"""ImageNet-1K: its layouts, linear probe and nearest neighbours on kept features."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import timm.optim
import torch
from PIL import Image
from pydantic import ValidationError

from mimic.config import ShapesSet
from mimic.errors import BadInput
from mimic.models.heads import ClassifierHead, parameter_count
from mimic.synthetic import toy_datasets
from mimic.synthetic.toy_datasets.imagenet import WNIDS
from mimic.tasks import TASKS, run_task
from mimic.tasks.checks import check
from mimic.tasks.engine.batches import step_indices
from mimic.tasks.engine.feature_cache import FeatureArray
from mimic.tasks.imagenet import embeddings, knn, linear_probe
from mimic.tasks.imagenet.config import KnnTask, LinearProbeTask
from mimic.tasks.imagenet.dataset import DEVKIT, META, SOLUTION, TRUTH, ImageNet
from mimic.tasks.imagenet.lars import Lars
from tests.support.miniatures import as_subject, folders_in, make_encoder


@pytest.fixture(scope="session")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shapes") / "imagenet"
    folder.mkdir()
    toy_datasets.write(
        ShapesSet(first_seed=540, train_per_class=8, test_per_class=3, size_px=40), folder
    )
    return folder


@pytest.fixture
def root(shapes: Path, tmp_path: Path) -> Path:
    """A workspace with a copy of the set, to break."""
    shutil.copytree(shapes, tmp_path / "imagenet")
    return tmp_path


# ---------------------------------------------------------------------------- the set


def test_real_samples(real_data: Path, tmp_path: Path) -> None:
    """The real images as a set sorted into classes; a flat validation folder with the devkit's
    table says the same."""
    source = real_data / "imagenet"
    for split in ("train", "val"):
        shutil.copytree(source, tmp_path / "sorted" / split)
    found = ImageNet(tmp_path / "sorted", (20, 20, 20))
    assert found.wnids[0] == "n01630670"
    assert found.train[1].tolist() == list(range(20)) == found.val[1].tolist()
    for path in found.val[0]:
        image = found.read(path)
        assert image.dtype == np.uint8
        assert image.shape[2] == 3
        assert min(image.shape[:2]) > 50
    shutil.copytree(source, tmp_path / "flat/train")
    (tmp_path / "flat/val").mkdir()
    order = np.random.default_rng(0).permutation(20)
    for number, index in enumerate(order, 1):
        shutil.copy(found.val[0][index], tmp_path / f"flat/val/ILSVRC2012_val_{number:08d}.JPEG")
    _write_devkit(tmp_path / "flat" / DEVKIT, found.wnids, order)
    assert ImageNet(tmp_path / "flat", None).val[1].tolist() == order.tolist()


def _write_devkit(folder: Path, wnids: list[str], classes: np.ndarray) -> None:
    """meta.mat as the devkit has it: its numbers are not in the order of the ids, and classes that
    are no leaves follow."""
    numbers = np.random.default_rng(1).permutation(len(wnids)) + 1
    synsets = np.zeros(
        len(wnids) + 1, dtype=[("ILSVRC2012_ID", object), ("WNID", object), ("words", object)]
    )
    for place, (number, wnid) in enumerate(
        [*zip(numbers, wnids, strict=True), (len(wnids) + 1, "n00001740")]
    ):
        synsets[place] = (float(number), wnid, "thing")
    folder.mkdir(parents=True)
    scipy.io.savemat(folder / META, {"synsets": synsets[:, None]})
    (folder / TRUTH).write_text("".join(f"{numbers[index]}\n" for index in classes))


def test_a_list_that_says_other_classes_is_other_data(root: Path) -> None:
    """Of a flat val/: the pictures are the same."""
    opened = ImageNet(root / "imagenet", None)
    wnids, classes = opened.wnids, opened.val[1]
    flat = root / "flat"
    shutil.copytree(root / "imagenet/train", flat / "train")
    (flat / "val").mkdir()
    for number, path in enumerate(opened.val[0], 1):
        shutil.copy(path, flat / f"val/ILSVRC2012_val_{number:08d}.JPEG")
    _write_devkit(flat / DEVKIT, wnids, classes)
    before = ImageNet(flat, None).extent["digest"]
    shutil.rmtree(flat / DEVKIT)
    _write_devkit(flat / DEVKIT, wnids, np.roll(classes, 1))
    assert ImageNet(flat, None).extent["digest"] != before


def _pixels(height: int, width: int) -> np.ndarray:
    across = np.linspace(0, 255, width).astype(np.uint8)
    return np.stack([np.tile(across, (height, 1)), np.full((height, width), 90, np.uint8)] * 2, -1)


ODD: dict[str, Image.Image] = {
    "PNG": Image.fromarray(_pixels(30, 40)[..., :3]),
    "PNG with alpha": Image.fromarray(_pixels(30, 40), "RGBA"),
    "CMYK": Image.fromarray(_pixels(30, 40), "CMYK"),
    "grey": Image.fromarray(_pixels(30, 40)[..., 0]),
    "one pixel": Image.fromarray(_pixels(1, 1)[..., :3]),
    "a stripe": Image.fromarray(_pixels(5, 2000)[..., :3]),
    "upright stripe": Image.fromarray(_pixels(2000, 5)[..., :3]),
}


@pytest.mark.parametrize("kind", ODD)
def test_odd_pictures_are_read_and_measured(root: Path, knn_task: KnnTask, kind: str) -> None:
    """ILSVRC 2012 holds CMYK files and a PNG under the name .JPEG."""
    path = root / f"imagenet/train/{WNIDS[0]}/{WNIDS[0]}_1.JPEG"
    assert path.exists()
    ODD[kind].save(path, "PNG" if kind.startswith("PNG") else "JPEG", quality=95)
    width, height = ODD[kind].size
    image = ImageNet(root / "imagenet", None).read(path)
    assert image.shape == (height, width, 3)
    assert image.dtype == np.uint8
    expected = np.asarray(ODD[kind].convert("RGB")).astype(int)
    assert np.abs(image.astype(int) - expected).mean() < 10, "as far as JPEG keeps it"
    check(knn_task, root)
    assert embeddings.centre_square(image, 36, 32).shape == (32, 32, 3)
    drawn = embeddings.random_crop(image, (0.2, 1.0), 32, np.random.default_rng(0))
    assert drawn.shape == (32, 32, 3)


def test_generated_set(shapes: Path, tmp_path: Path) -> None:
    found = ImageNet(shapes, (8, 64, 24))
    assert tuple(found.wnids) == WNIDS
    assert np.bincount(found.val[1]).tolist() == [3] * 8
    assert len({found.read(path).shape for path in found.train[0][:3]}) == 3  # sizes differ
    toy_datasets.write(
        ShapesSet(first_seed=540, train_per_class=8, test_per_class=3, size_px=40), tmp_path
    )
    assert ImageNet(tmp_path, None).extent == found.extent


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _replace(path: Path, old: str, new: str) -> None:
    path.write_text(path.read_text().replace(old, new))


def _devkit_without(folder: Path, name: str) -> None:
    (folder / SOLUTION).unlink()
    _write_devkit(folder / DEVKIT, list(WNIDS), np.repeat(np.arange(8), 3))
    (folder / DEVKIT / name).unlink()


def _only_archives(folder: Path) -> None:
    for wnid in WNIDS:
        shutil.rmtree(folder / "train" / wnid)
    (folder / f"train/{WNIDS[0]}.tar").touch()


BREAKS = {
    "no train": (lambda f: shutil.rmtree(f / "train"), r"train: no such folder; point `data` at"),
    "no val": (lambda f: shutil.rmtree(f / "val"), r"val: no such folder"),
    "strange class": (
        lambda f: (f / "train/tench").mkdir(),
        r"tench: not a WordNet id.*of your own may have any names: set layout: folders",
    ),
    "other suffix": (
        lambda f: [p.rename(p.with_suffix(".jpg")) for p in (f / f"train/{WNIDS[1]}").iterdir()],
        rf"{WNIDS[1]}: holds no \.JPEG file; its 8 \.jpg files are not read: name them \.JPEG",
    ),
    "empty class": (
        lambda f: [p.unlink() for p in (f / f"train/{WNIDS[2]}").iterdir()],
        rf"{WNIDS[2]}: holds no \.JPEG",
    ),
    "classes in archives": (
        _only_archives,
        r"0 classes; unpack the archive of each class",
    ),
    "no list": (
        lambda f: (f / SOLUTION).unlink(),
        r"neither LOC_val_solution\.csv nor .*ground_truth\.txt says theirs",
    ),
    "short list": (
        lambda f: _replace(f / SOLUTION, "ILSVRC2012_val_00000007", "ILSVRC2012_val_00000099"),
        r"val_00000007\.JPEG: .*does not name it",
    ),
    "other list": (
        lambda f: _replace(f / SOLUTION, WNIDS[1], "n99999999"),
        r"says n99999999, which has no training images",
    ),
    "no list at all": (
        lambda f: (f / SOLUTION).write_text("<html>\n<body>\n"),
        r"expected lines such as",
    ),
    "devkit without table": (lambda f: _devkit_without(f, META), r"meta\.mat: no such file"),
    "half sorted": (
        lambda f: (f / f"val/{WNIDS[0]}").mkdir(),
        r"holds both class folders and ILSVRC",
    ),
    "truncated": (
        lambda f: _truncate(f / f"train/{WNIDS[0]}/{WNIDS[0]}_1.JPEG"),
        r"_1\.JPEG: damaged",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_broken_copies_are_one_clear_line(root: Path, knn_task: KnnTask, case: str) -> None:
    breaks, message = BREAKS[case]
    breaks(root / "imagenet")
    with pytest.raises(BadInput, match=message) as error:
        check(knn_task, root)
    assert "\n" not in str(error.value)


def test_counts_are_those_of_the_set(root: Path, knn_task: KnnTask) -> None:
    assert check(knn_task, root)["splits"] == {"train": 64, "test": 24}
    with pytest.raises(
        BadInput,
        match="8 classes, 64 training images, 24 validation images, expected 1000, 1281167, 50000",
    ):
        check(knn_task.model_copy(update={"images": (1000, 1281167, 50000)}), root)


# ---------------------------------------------------------------------------- views


def test_centre_square_equals_torchvision() -> None:
    from torchvision.transforms import v2

    theirs = v2.Compose(
        [v2.Resize(24, interpolation=v2.InterpolationMode.BICUBIC), v2.CenterCrop(20)]
    )
    for size in ((50, 70), (71, 33), (24, 24)):
        image = np.random.default_rng(0).integers(0, 255, (*size, 3), dtype=np.uint8)
        np.testing.assert_array_equal(
            embeddings.centre_square(image, 24, 20), np.asarray(theirs(Image.fromarray(image)))
        )


def test_random_crops() -> None:
    """Brightness tells the place: boxes stay inside, cover what was asked for, and are mirrored
    half the time."""
    ramp = np.tile(np.linspace(0, 255, 80).astype(np.uint8)[None, :, None], (60, 1, 3))
    crops = [
        embeddings.random_crop(ramp, (0.2, 0.5), 16, np.random.default_rng(seed)).astype(int)
        for seed in range(200)
    ]
    widths = np.array([abs(crop[8, -1, 0] - crop[8, 0, 0]) / 255 for crop in crops])
    mirrored = np.mean([crop[8, -1, 0] < crop[8, 0, 0] for crop in crops])
    assert 0.4 < mirrored < 0.6
    assert widths.min() > 0.25
    assert widths.max() < 0.75
    np.testing.assert_array_equal(
        crops[3], embeddings.random_crop(ramp, (0.2, 0.5), 16, np.random.default_rng(3))
    )


def test_a_random_crop_is_cut_before_it_is_resized() -> None:
    """Outside the box everything is black: torchvision's crop never sees it."""
    from PIL import Image
    from torchvision.transforms.functional import InterpolationMode, resized_crop

    for seed in range(20):
        rng = np.random.default_rng(seed)
        image = rng.integers(0, 256, (61, 83, 3), dtype=np.uint8)
        draws = np.random.default_rng(seed)
        target = 61 * 83 * draws.uniform(0.1, 0.5)
        ratio = np.exp(draws.uniform(np.log(3 / 4), np.log(4 / 3)))
        width = min(83, round(np.sqrt(target * ratio)))
        height = min(61, round(np.sqrt(target / ratio)))
        left = int(draws.integers(0, 83 - width + 1))
        top = int(draws.integers(0, 61 - height + 1))
        box = (top, left, height, width)
        cut = resized_crop(Image.fromarray(image), *box, [16, 16], InterpolationMode.BICUBIC)
        theirs = np.asarray(cut)
        theirs = theirs[:, ::-1] if draws.random() < 0.5 else theirs
        ours = embeddings.random_crop(image, (0.1, 0.5), 16, np.random.default_rng(seed))
        np.testing.assert_array_equal(ours, theirs)


# ---------------------------------------------------------------------------- linear probe


def test_lars_equals_timm() -> None:
    """timm's with two groups is, to the last bit, what the published probes used."""
    torch.manual_seed(0)
    ours, theirs = torch.nn.Linear(12, 5), torch.nn.Linear(12, 5)
    theirs.load_state_dict(ours.state_dict())
    groups = [{"params": [theirs.weight], "always_adapt": True}, {"params": [theirs.bias]}]
    reference = timm.optim.Lars(
        groups, lr=6.4, momentum=0.9, trust_coeff=0.001, weight_decay=0.0, eps=0.0
    )
    mine = Lars(ours.parameters(), momentum=0.9, trust=0.001, weight_decay=0.0)
    mine.param_groups[0]["lr"] = 6.4
    x, y = torch.randn(64, 12), torch.randint(0, 5, (64,))
    for _ in range(30):
        for model, optimizer in ((ours, mine), (theirs, reference)):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(x), y).backward()
            optimizer.step()
    assert torch.equal(ours.weight, theirs.weight)
    assert torch.equal(ours.bias, theirs.bias)


def test_lars_by_hand() -> None:
    """Weights of norm 5 and a gradient of norm 2: the step is lr * trust * 5 along the gradient,
    twice with momentum; decay comes first."""
    weight, bias = (
        torch.nn.Parameter(torch.tensor([[3.0, 4.0]])),
        torch.nn.Parameter(torch.tensor([1.0])),
    )
    optimizer = Lars([weight, bias], momentum=0.5, trust=0.01, weight_decay=0.0)
    optimizer.param_groups[0]["lr"] = 2.0
    weight.grad, bias.grad = torch.tensor([[0.0, 2.0]]), torch.tensor([0.25])
    optimizer.step()
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 3.9]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([0.5]))
    optimizer.step()
    second = 0.5 * 0.05 + 0.01 * float(torch.tensor([3.0, 3.9]).norm())
    torch.testing.assert_close(weight.detach(), torch.tensor([[3.0, 3.9 - 2 * second]]))
    torch.testing.assert_close(bias.detach(), torch.tensor([0.5 - 2 * (0.5 * 0.25 + 0.25)]))
    decayed = torch.nn.Parameter(torch.tensor([[3.0, 4.0]]))
    optimizer = Lars([decayed], momentum=0.0, trust=0.1, weight_decay=0.5)
    optimizer.param_groups[0]["lr"] = 1.0
    decayed.grad = torch.tensor([[-1.5, 0.0]])
    optimizer.step()
    torch.testing.assert_close(decayed.detach(), torch.tensor([[3.0, 3.5]]))


def test_published_schedule(linear_probe_task: LinearProbeTask) -> None:
    """Rate 6.4 at a batch of 16,384; 1,281,167 images make 78 updates an epoch (312 batches of 512
    on each of 8 GPUs, by fours)."""
    published = TASKS["linear-probe"].presets["published"]
    peer = LinearProbeTask.model_validate(
        {**linear_probe_task.model_dump(), **published, "preset": "published"}
    )
    assert 1_281_167 // (512 * 8) == 312
    assert 312 // 4 == 1_281_167 // peer.batch == 78
    rates = [linear_probe.learning_rate(peer, step, 78) for step in range(90 * 78)]
    assert max(rates) == rates[780] == pytest.approx(6.4, abs=1e-12)
    assert rates[0] == 0
    assert rates[39] == pytest.approx(0.32)
    assert rates[780 + 3120] == pytest.approx(3.2)
    assert 0 < rates[-1] < 1e-6 * 6.4
    assert len({tuple(step_indices(step, 4, 13, 0)) for step in range(3)}) == 3
    assert parameter_count(ClassifierHead(768, 1000)) == 769_000
    assert linear_probe.build(peer, 768, 1000).output.weight.std().item() == pytest.approx(
        0.01, rel=0.02
    )


def test_linear_probe_end_to_end(root: Path, linear_probe_task: LinearProbeTask) -> None:
    """Colours pass a random encoder: better than chance. The second run finds its features."""
    folders, subject = folders_in(root), as_subject(make_encoder(class_token=True))
    result = run_task(linear_probe_task, subject, folders)
    metrics = result.metrics
    assert result.name == "top1"
    assert result.value == metrics["top1"] == metrics["top1_by_epoch"][-1]
    assert 1.3 * metrics["chance"] < metrics["top1"] <= metrics["top5"] <= 1
    assert len(metrics["top1_by_epoch"]) == linear_probe_task.epochs
    assert metrics["standard_error"] == pytest.approx(
        (result.value * (1 - result.value) / 24) ** 0.5
    )
    assert "class token" in result.protocol
    assert len(result.pictures) == linear_probe_task.samples
    kept = {path: path.stat().st_mtime_ns for path in folders.features.rglob("*.npy")}
    assert len(kept) == 1 + linear_probe_task.views
    assert run_task(linear_probe_task, subject, folders).metrics == metrics
    assert kept == {path: path.stat().st_mtime_ns for path in folders.features.rglob("*.npy")}
    best = run_task(linear_probe_task.model_copy(update={"selection": "best"}), subject, folders)
    assert best.value == max(metrics["top1_by_epoch"])
    assert "best epoch by validation accuracy" in best.selection
    averaged = run_task(
        linear_probe_task.model_copy(
            update={"pool": "mean", "views": 0, "epochs": 1, "warmup_epochs": 0}
        ),
        subject,
        folders,
    )
    assert "mean of the patch tokens" in averaged.protocol
    assert "centre crops" in averaged.protocol


def test_the_linear_layer_starts_without_bias(linear_probe_task: LinearProbeTask) -> None:
    """Weights normal of deviation 0.01, bias 0 (MAE)."""
    made = linear_probe.build(linear_probe_task, 768, 1000).output
    assert made.bias.abs().max() == 0
    assert abs(made.weight.std().item() - 0.01) < 1e-4


def test_accuracies_equal_torchmetrics() -> None:
    from torchmetrics.functional.classification import multiclass_accuracy

    torch.manual_seed(0)
    head = ClassifierHead(6, 9).eval()
    test, truth = torch.randn(50, 6), torch.randint(0, 9, (50,))
    found, predicted = linear_probe.accuracies(head, FeatureArray([test.numpy()]), truth)
    logits = head(test)
    for k in (1, 5):
        theirs = multiclass_accuracy(logits, truth, num_classes=9, average="micro", top_k=k)
        assert found[f"top{k}"] == pytest.approx(float(theirs))
    assert predicted.tolist() == logits.argmax(dim=1).tolist()


# ---------------------------------------------------------------------------- nearest neighbours


def test_votes_equal_a_plain_loop() -> None:
    rng = np.random.default_rng(0)
    bank, test, classes = rng.normal(size=(40, 5)), rng.normal(size=(13, 5)), rng.integers(0, 4, 40)
    found = knn.classify(
        FeatureArray([bank.astype(np.float32)]),
        torch.from_numpy(classes),
        FeatureArray([test.astype(np.float32)]),
        (1, 3, 40),
        0.07,
        torch.device("cpu"),
    )
    for k, predicted in found.items():
        for vector, answer in zip(test, predicted, strict=True):
            cosine = bank @ vector / np.linalg.norm(bank, axis=1) / np.linalg.norm(vector)
            votes = np.zeros(4)
            for place in np.argsort(-cosine)[:k]:
                votes[classes[place]] += np.exp(cosine[place] / 0.07)
            assert answer == votes.argmax()


def test_a_bank_in_blocks_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    bank, test = (FeatureArray([rng.normal(size=(n, 5)).astype(np.float32)]) for n in (40, 13))
    classes = torch.from_numpy(rng.integers(0, 4, 40))
    whole = knn.classify(bank, classes, test, (5, 11), 0.07, torch.device("cpu"))
    monkeypatch.setattr(knn, "GALLERY_BLOCK", 7)
    monkeypatch.setattr(knn, "QUERIES", 4)
    parts = knn.classify(bank, classes, test, (5, 11), 0.07, torch.device("cpu"))
    assert all((whole[k] == parts[k]).all() for k in (5, 11))


def test_knn_end_to_end(root: Path, knn_task: KnnTask) -> None:
    result = run_task(knn_task, as_subject(make_encoder()), folders_in(root))
    assert result.name == "top1"
    assert result.value == result.metrics["by_k"]["3"]
    assert result.metrics["by_k"].keys() == {"1", "3"}
    assert result.value > result.metrics["chance"]
    assert "mean of the patch tokens" in result.protocol
    with pytest.raises(BadInput, match="k 1000, but there are 64 training images"):
        run_task(
            knn_task.model_copy(update={"k": (1000,)}), as_subject(make_encoder()), folders_in(root)
        )


def test_one_picture_a_class_can_be_measured(root: Path, knn_task: KnnTask) -> None:
    for folder in (root / "imagenet/train").iterdir():
        for path in sorted(folder.iterdir())[1:]:
            path.unlink()
    task = knn_task.model_copy(update={"k": (1,), "value_k": 1})
    assert check(task, root)["splits"] == {"train": 8, "test": 24}
    result = run_task(task, as_subject(make_encoder()), folders_in(root))
    assert 0 <= result.value <= 1


def test_wrong_requests(root: Path, knn_task: KnnTask) -> None:
    with pytest.raises(ValidationError, match="value_k 5 is not one of k"):
        KnnTask.model_validate({**knn_task.model_dump(), "value_k": 5})
    with pytest.raises(ValidationError, match="cannot be cut from"):
        KnnTask.model_validate({**knn_task.model_dump(), "size_px": 999})
    with pytest.raises(BadInput, match="this encoder has no class token"):
        run_task(
            knn_task.model_copy(update={"pool": "class"}),
            as_subject(make_encoder()),
            folders_in(root),
        )
    with pytest.raises(BadInput, match="not a multiple of the encoder's patches of 8 px"):
        run_task(
            knn_task.model_copy(update={"size_px": 30}),
            as_subject(make_encoder()),
            folders_in(root),
        )


def test_a_batch_of_one_has_no_deviation(linear_probe_task: LinearProbeTask) -> None:
    with pytest.raises(ValidationError, match="batch"):
        LinearProbeTask.model_validate({**linear_probe_task.model_dump(), "batch": 1})
