"""Mixtures of flow and stereo sets: what a part is called, and how many pairs the published ones
have."""

from __future__ import annotations

from collections.abc import Sequence

from mimic.tasks.flow_stereo.config import MotionPart

# Pairs of each part, once: what CroCo v2's own listing insists on. Of Booster's subtrain it does
# not say.
PAIRS: dict[str, int] = {
    "sintel without temple_2, temple_3": 2 * 943,
    "sintel only temple_2, temple_3": 2 * 98,
    "flying_things only TRAIN": 2 * 40302,
    "flying_chairs only train": 22232,
    "tartanair": 306268,
    "crestereo": 200000,
    "sceneflow only TRAIN": 2 * 22390,
    "sceneflow only TEST": 2 * 4370,
    "driving": 2 * 4400,
    "monkaa": 2 * 8664,
    "eth3d without delivery_area_3s, electro_3l, playground_3l": 24,
    "eth3d only delivery_area_3s, electro_3l, playground_3l": 3,
    "middlebury_2005 without Reindeer": 45,
    "middlebury_2006 without Rocks1, Wood2": 171,
    "middlebury_2014 without Umbrella-imperfect, Vintage-perfect": 132,
    "middlebury_2021 without traproom1, traproom2": 335,
    "middlebury without Vintage": 14,
    "middlebury only Vintage": 1,
    "booster": 228,
}


def described(part: MotionPart) -> str:
    """A part without its weight and its place, such as "sintel only temple_2, temple_3"."""
    only = "" if part.only is None else f" only {', '.join(part.only)}"
    without = f" without {', '.join(part.without)}" if part.without else ""
    return f"{part.layout}{only}{without}"


def mixture(parts: Sequence[MotionPart], counts: Sequence[int]) -> list[str]:
    """Each part with its weight and its pairs, and how many the published set has where it has more
    or fewer."""
    descriptions = []
    for part, count in zip(parts, counts, strict=True):
        published = PAIRS.get(described(part), count)
        pairs = f"{count} pairs" if count == published else f"{count} of {published} pairs"
        descriptions.append(f"{part.repeat} * {described(part)} ({pairs})")
    return descriptions
