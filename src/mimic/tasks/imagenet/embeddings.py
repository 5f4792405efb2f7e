"""ImageNet as one feature vector per image: views, pooling, and what tasks on it share."""

from __future__ import annotations

import math

import cv2
import numpy as np
from PIL import Image

from mimic.errors import BadInput
from mimic.models.encoder import VisionTransformer
from mimic.tasks.api import EvalModel, EvalPaths, Figure
from mimic.tasks.engine.feature_cache import FeatureArray, ImageSet, features, pooled
from mimic.tasks.imagenet.config import ImageNetTask
from mimic.tasks.imagenet.dataset import ClassSet
from mimic.training.batches import evenly_spaced

RATIO = (3 / 4, 4 / 3)  # width to height of random crops
PICTURE_PX = 160


def pooling(task: ImageNetTask, encoder: VisionTransformer) -> str:
    """How vectors are made: "class" or "mean".

    Raises:
        BadInput: the class token of an encoder that has none, or patches do not divide the image.
    """
    if task.size_px % encoder.patch_px:
        raise BadInput(
            f"size_px {task.size_px} is not a multiple of the encoder's patches of "
            f"{encoder.patch_px} px"
        )
    if task.pool == "class" and not encoder.class_token:
        raise BadInput("pool class: this encoder has no class token; set pool: mean, or null")
    return task.pool or ("class" if encoder.class_token else "mean")


def center_crop_features(
    task: ImageNetTask,
    data: ClassSet,
    split: str,
    subject: EvalModel,
    folders: EvalPaths,
) -> FeatureArray:
    """Vectors [images, width] of the centre squares of a split ("train" or "val")."""
    paths = (data.train if split == "train" else data.val)[0]
    view = {"split": split, "view": "centre", "resize_px": task.resize_px, "size_px": task.size_px}

    def read(index: int) -> np.ndarray:
        return centre_square(data.read(paths[index]), task.resize_px, task.size_px)

    return _vectors(
        task, ImageSet(str(data.extent["digest"]), view, len(paths), read), subject, folders
    )


def random_crop_features(
    task: ImageNetTask,
    area: tuple[float, float],
    number: int,
    data: ClassSet,
    subject: EvalModel,
    folders: EvalPaths,
) -> FeatureArray:
    """Vectors of random crop `number` of every training image, mirrored by chance; they depend on
    the task's seed."""
    paths = data.train[0]
    view = {
        "split": "train",
        "view": "crop",
        "area": area,
        "number": number,
        "size_px": task.size_px,
        "seed": task.seed,
    }

    def read(index: int) -> np.ndarray:
        return random_crop(
            data.read(paths[index]),
            area,
            task.size_px,
            np.random.default_rng([task.seed, number, index]),
        )

    return _vectors(
        task, ImageSet(str(data.extent["digest"]), view, len(paths), read), subject, folders
    )


def _vectors(
    task: ImageNetTask, images: ImageSet, subject: EvalModel, folders: EvalPaths
) -> FeatureArray:
    pool = pooling(task, subject.encoder)
    what = {"vector": pool, "norm": True}
    return features(
        folders.features,
        images,
        subject.encoder,
        pooled(subject.encoder, pool),
        what,
        task.eval_batch,
        "float32",
    )


def centre_square(image: np.ndarray, resize_px: int, size_px: int) -> np.ndarray:
    """The smaller side becomes resize_px (the larger is truncated), bicubic with antialiasing; then
    the middle size_px square."""
    height, width = image.shape[:2]
    scale = resize_px / min(height, width)
    size = (resize_px, int(height * scale)) if width <= height else (int(width * scale), resize_px)
    resized = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    top, left = (round((side - size_px) / 2) for side in resized.shape[:2])
    return resized[top : top + size_px, left : left + size_px]


def random_crop(
    image: np.ndarray, area: tuple[float, float], size_px: int, rng: np.random.Generator
) -> np.ndarray:
    """A box of uniform area and log-uniform aspect ratio, clipped to the image rather than drawn
    again, resized; mirrored half the time."""
    height, width = image.shape[:2]
    target = height * width * rng.uniform(*area)
    ratio = math.exp(rng.uniform(math.log(RATIO[0]), math.log(RATIO[1])))
    crop_width = min(width, round(math.sqrt(target * ratio)))
    crop_height = min(height, round(math.sqrt(target / ratio)))
    left = int(rng.integers(0, width - crop_width + 1))
    top = int(rng.integers(0, height - crop_height + 1))
    # Cut first: Pillow's own `box` would let pixels outside of it into the border.
    inside = image[top : top + max(1, crop_height), left : left + max(1, crop_width)]
    out = np.asarray(Image.fromarray(inside).resize((size_px, size_px), Image.Resampling.BICUBIC))
    return np.ascontiguousarray(out[:, ::-1]) if rng.random() < 0.5 else out


def accuracy_error(accuracy: float, images: int) -> float:
    """Standard error of a share of independent images."""
    return math.sqrt(accuracy * (1 - accuracy) / images)


def pictures(task: ImageNetTask, data: ClassSet, predicted: np.ndarray) -> list[Figure]:
    """Evenly spaced validation images with their class and the predicted one."""
    paths, classes = data.val
    out = []
    for index in evenly_spaced(len(paths), task.samples):
        image = centre_square(data.read(paths[index]), task.resize_px, task.size_px)
        truth = data.wnids[classes[index]]
        prediction = data.wnids[predicted[index]]
        caption = f"{paths[index].stem}: {truth}, " + (
            "found" if truth == prediction else f"taken for {prediction}"
        )
        enlarged = cv2.resize(image, (PICTURE_PX, PICTURE_PX), interpolation=cv2.INTER_AREA)
        out.append(Figure(f"image-{index + 1:05d}", enlarged, caption))
    return out
