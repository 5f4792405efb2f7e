"""Views as the rule sees them: squares of mining size, and their features, computed once."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import UInt8

from mimic.geometry import features, overlap, resize
from mimic.geometry.overlap import Outcome
from mimic.sources.base import Group, Image, Unreadable, View, damage


@dataclass(frozen=True, eq=False)
class ViewFeatures:
    """A view at mining size, and its features, computed once; or why there are none."""

    key: str
    image: UInt8[np.ndarray, "size size 3"] | None
    features: features.Features | None
    rejected: Outcome | None  # UNREADABLE or BLURRED


class ViewCache:
    """Views of a clip as the rule sees them; remembers as many as the largest group of the clip so
    far has.

    unreadable: keys of views that could not be read, and why; these are all remembered.
    """

    def __init__(self, rule: overlap.Rule, sharpness_min: float) -> None:
        self._rule = rule
        self._sharpness_min = sharpness_min
        self._cache: OrderedDict[str, ViewFeatures] = OrderedDict()
        self._capacity = 2
        self.unreadable: dict[str, str] = {}

    def reserve(self, group: Group) -> None:
        self._capacity = max(self._capacity, len(group.views))

    def get(self, view: View) -> ViewFeatures:
        """A view's features, computed once as long as it is remembered; what is unreadable or
        blurred has none."""
        if view.key not in self._cache:
            self._cache[view.key] = self._compute(view)
            if len(self._cache) > self._capacity:
                self._cache.popitem(last=False)
        self._cache.move_to_end(view.key)
        return self._cache[view.key]

    def _compute(self, view: View) -> ViewFeatures:
        full = read(view, self.unreadable)
        if full is None:
            return ViewFeatures(view.key, None, None, Outcome.UNREADABLE)
        image = squared(full, self._rule)
        if self.is_blurred(full):
            return ViewFeatures(view.key, image, None, Outcome.BLURRED)
        return ViewFeatures(view.key, image, features.extract(image), None)

    def is_blurred(self, full: Image) -> bool:
        least = self._sharpness_min
        return least > 0 and sharpness(full, self._rule.size_px) < least


def read(view: View, unreadable: dict[str, str]) -> Image | None:
    """The view's image; None where it cannot be read, and the reason is noted under the view's
    key."""
    try:
        return view.read()
    except (Unreadable, OSError) as error:
        unreadable[view.key] = damage(error)
        return None


def squared(
    image: UInt8[np.ndarray, "height width 3"], rule: overlap.Rule
) -> UInt8[np.ndarray, "size size 3"]:
    """The square that is mined, shrunk as the rule's mode shrinks."""
    return resize.to_square(image, rule.size_px, rule.mode)


def sharpness(image: UInt8[np.ndarray, "height width 3"], size_px: int) -> float:
    """Variance of the Laplacian of the 8-bit grey square.

    Always of the square as `reference` shrinks: the published thresholds were set on such pictures,
    and averaging lowers the variance.
    """
    square = resize.to_square(image, size_px, "reference")
    return float(cv2.Laplacian(cv2.cvtColor(square, cv2.COLOR_RGB2GRAY), cv2.CV_64F).var())
