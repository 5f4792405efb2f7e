"""Random choices of a step, and views cropped, mirrored, jittered and normalised on the device, a
whole batch at once.

Every choice is a function of (seed, step): resuming or another number of loading threads changes
nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mimic.models.encoder import image_statistics, normalise, on_device

ASPECT = (3 / 4, 4 / 3)  # of a random resized crop
TRIES = 10  # draws of a box before the whole image is taken, as torchvision does
GREY = (0.299, 0.587, 0.114)


@dataclass(frozen=True)
class Choices:
    """What one step draws: for b samples of v views with n patches each."""

    noise: Tensor  # [b, n] in 0..1; the lowest stay visible
    swap: Tensor  # bool [b]: the views change roles
    flip: Tensor  # bool [b]: mirrored, all views of a sample alike
    box: Tensor  # [b, v, 4] crop: top, left, height, width as whole pixels of the stored image
    factor: Tensor  # [b, v, 3] brightness, contrast, saturation
    order: Tensor  # [b, v, 3] in which order they are applied
    untouched: bool  # nothing of the whole batch is cropped, resized or mirrored

    def part(self, samples: slice) -> Choices:
        """Of some samples only; `untouched` stays the batch's, as rounding must not depend on who
        else is in a part."""
        return self._each(lambda tensor: tensor[samples])

    def pinned(self) -> Choices:
        """In memory that a GPU can read on its own."""
        return self._each(Tensor.pin_memory)

    def to(self, device: torch.device) -> Choices:
        return self._each(lambda tensor: tensor.to(device, non_blocking=True))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Choices:
        noise, swap, flip, box, factor, order = map(
            change, (self.noise, self.swap, self.flip, self.box, self.factor, self.order)
        )
        return Choices(noise, swap, flip, box, factor, order, self.untouched)


def generator(seed: int, step: int) -> torch.Generator:
    """The random numbers of one step."""
    state = np.random.SeedSequence([seed, step]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state) >> 1)


def choose(
    step: int,
    seed: int,
    *,
    batch: int,
    views: int,
    patches: int,
    stored_px: tuple[int, int],
    size_px: tuple[int, int],
    swap: float,
    crop: str,
    crop_area: tuple[float, float],
    flip: float,
    jitter: float,
) -> Choices:
    """Draw a step's choices; everything is drawn whether used or not, so options do not shift each
    other's numbers."""
    random = generator(seed, step)
    noise = torch.rand(batch, patches, generator=random)
    coins = torch.rand(2, batch, generator=random)
    corner = torch.rand(2, batch, views, generator=random)
    area = torch.rand(batch, views, TRIES, generator=random)
    aspect = torch.rand(batch, views, TRIES, generator=random)
    factor = 1 + jitter * (2 * torch.rand(batch, views, 3, generator=random) - 1)
    order = torch.rand(batch, views, 3, generator=random).argsort(-1)
    match crop:
        case "window":
            extent = torch.tensor(size_px).expand(batch, views, 2)
        case "resized":
            extent = _extent(area, aspect, crop_area, stored_px)
        case _:
            extent = torch.tensor(stored_px).expand(batch, views, 2)
    room = torch.tensor(stored_px) - extent
    corners = (corner.movedim(0, -1) * (room + 1)).floor().long().minimum(room)
    mirrored = coins[1] < flip
    untouched = (
        stored_px == size_px
        and bool((extent == torch.tensor(size_px)).all())
        and not bool(mirrored.any())
    )
    return Choices(
        noise,
        coins[0] < swap,
        mirrored,
        torch.cat([corners, extent], dim=-1),
        factor,
        order,
        untouched,
    )


def _extent(
    area: Tensor, aspect: Tensor, crop_area: tuple[float, float], stored_px: tuple[int, int]
) -> Tensor:
    """Height and width of random resized crops: the first of the tries that fits into the image,
    else the whole image."""
    height, width = stored_px
    pixels = (crop_area[0] + (crop_area[1] - crop_area[0]) * area) * height * width
    ratio = torch.exp(math.log(ASPECT[0]) + (math.log(ASPECT[1]) - math.log(ASPECT[0])) * aspect)
    extents = torch.stack(
        [(pixels / ratio).sqrt().round(), (pixels * ratio).sqrt().round()], dim=-1
    ).long()
    full = torch.tensor(stored_px).expand_as(extents[..., :1, :])
    extents = torch.cat([extents, full], dim=-2)
    fits = ((extents >= 1) & (extents <= torch.tensor(stored_px))).all(-1)
    first = fits.int().argmax(-1)[..., None, None].expand(*fits.shape[:-1], 1, 2)
    return extents.gather(-2, first).squeeze(-2)


def apply(images: Tensor, choices: Choices, size_px: tuple[int, int], *, jitter: bool) -> Tensor:
    """The model's input.

    Args:
        images: uint8 [b, v, H, W, 3], on the device.
        choices: of these samples, on the device too.
        size_px: height and width wanted.
        jitter: apply the colour factors.

    Returns:
        fp32 [b, v, 3, h, w], normalised.
    """
    if images.shape[1] > 1:
        images = torch.where(choices.swap[:, None, None, None, None], images.flip(1), images)
    stored_px = (images.shape[2], images.shape[3])
    if choices.untouched and not jitter:
        return normalise(images)
    x = (images / 255.0).movedim(-1, -3)
    down = resample_matrix(choices.box[..., 0], choices.box[..., 2], stored_px[0], size_px[0])
    across = resample_matrix(choices.box[..., 1], choices.box[..., 3], stored_px[1], size_px[1])
    across = torch.where(choices.flip[:, None, None, None], across.flip(-2), across)
    x = (down[:, :, None] @ x @ across[:, :, None].mT).clamp(0, 1)
    if jitter:
        x = _jitter(x, choices.factor, choices.order)
    mean, std = (values[:, None, None] for values in image_statistics(images.device))
    return (x - mean) / std


def resample_matrix(start: Tensor, length: Tensor, inputs: int, outputs: int) -> Tensor:
    """Weights [..., outputs, inputs] that cut pixels start .. start + length from a row and resize
    them: bicubic, antialiased, as PIL does.

    Cropping and resizing any box is then two matrix products; a box of `outputs` pixels is copied
    exactly.
    """
    device = start.device
    # Where each output pixel's centre falls in the row, in input pixels.
    scale = (length / outputs)[..., None, None]
    centre = start[..., None, None] + (torch.arange(outputs, device=device)[:, None] + 0.5) * scale
    # A kernel around it, as wide as an output pixel where the box shrinks (antialiasing).
    pixel = torch.arange(inputs, device=device)
    weight = _cubic((pixel + 0.5 - centre) / scale.clamp(min=1))
    # Pixels outside the box have no say; what is left sums to 1.
    inside = (pixel >= start[..., None, None]) & (pixel < (start + length)[..., None, None])
    weight = weight * inside
    return weight / weight.sum(-1, keepdim=True)


def _cubic(x: Tensor) -> Tensor:
    """Keys' cubic kernel with a = -1/2."""
    x = x.abs()
    near = (1.5 * x - 2.5) * x * x + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return torch.where(x < 1, near, torch.where(x < 2, far, torch.zeros_like(x)))


def _jitter(x: Tensor, factor: Tensor, order: Tensor) -> Tensor:
    """Brightness (0), contrast (1) and saturation (2), each a blend with black, the mean grey, the
    grey image, in each view's own order."""
    weights = on_device(GREY, x.device)[:, None, None]
    for turn in range(3):
        kind = order[..., turn]
        amount = factor.gather(-1, kind[..., None])[..., None, None]
        grey = (x * weights).sum(-3, keepdim=True)
        kind = kind[..., None, None, None]
        towards = torch.where(kind == 1, grey.mean((-2, -1), keepdim=True), grey) * (kind != 0)
        x = (amount * x + (1 - amount) * towards).clamp(0, 1)
    return x
