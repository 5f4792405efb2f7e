"""A few pictures of every reason to reject a pair, for people to look at.

Of each outcome the candidates with the lowest hash are shown: the same ones, however many workers
mine, whatever was killed.
"""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from mimic.geometry.explanation import explain
from mimic.geometry.overlap import Comparison, Outcome
from mimic.infra import earlier, publishing, storage
from mimic.pairs.write import encode_image

PER_OUTCOME = 4
SIDE_PX = 112  # of each view
GAP_PX = 4
QUALITY = 85
UNSEEN = frozenset(
    {Outcome.KEPT, Outcome.UNREADABLE, Outcome.FAILED, Outcome.WITHHELD}
)  # in the shards; no picture; not to be seen

Picture = UInt8[np.ndarray, "size size 3"]
Entry = dict[str, Any]


class RejectSamples:
    """The examples of the candidates offered so far, a bounded number."""

    def __init__(
        self,
        guard: Callable[[np.ndarray], np.ndarray | None] | None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """
        Args:
            guard: blurs or withholds a picture before it is written, as with pairs.
            entries: chosen among the candidates that were offered before.
        """
        self._guard = guard
        self._chosen: dict[Outcome, list[Entry]] = {}
        for entry in entries:
            self._chosen.setdefault(Outcome(entry["outcome"]), []).append(entry)

    def add(
        self,
        outcome: Outcome,
        clip: str,
        frames: tuple[str, str],
        images: tuple[Picture | None, Picture | None],
        seen: Comparison,
    ) -> None:
        """Take the candidate if it is among those to show; costs next to nothing otherwise."""
        image_a, image_b = images
        if outcome in UNSEEN or image_a is None or image_b is None:
            return
        chosen = self._chosen.setdefault(outcome, [])
        rank = hashlib.blake2b("\0".join((clip, *frames)).encode(), digest_size=8).hexdigest()
        if len(chosen) == PER_OUTCOME and rank >= chosen[-1]["place"]:
            return
        picture = self._picture(image_a, image_b)
        if picture is None:
            return
        entry = {
            "outcome": outcome.value,
            "place": rank,
            "clip": clip,
            "frames": list(frames),
            "overlap": None if seen.b_from_a is None else round(seen.overlap, 4),
            "matches": seen.matches,
            "inliers": seen.inliers,
            "why": explain(seen),
            "picture": base64.b64encode(picture).decode(),
        }
        self._chosen[outcome] = _lowest([*chosen, entry])

    def entries(self) -> list[Entry]:
        """The chosen ones, JSON-able, for `publish`."""
        return [entry for entries in self._chosen.values() for entry in entries]

    def _picture(self, image_a: Picture, image_b: Picture) -> bytes | None:
        small = []
        for image in (image_a, image_b):
            shown = image if self._guard is None else self._guard(image)
            if shown is None:
                return None
            small.append(cv2.resize(shown, (SIDE_PX, SIDE_PX), interpolation=cv2.INTER_AREA))
        gap = np.full((SIDE_PX, GAP_PX, 3), 255, np.uint8)
        return encode_image(np.hstack([small[0], gap, small[1]]), QUALITY)


def together(shards: Iterable[list[Entry]]) -> list[Entry]:
    """The examples of several shards as those of one: at most PER_OUTCOME of each outcome."""
    chosen: dict[str, list[Entry]] = {}
    for entries in shards:
        for entry in entries:
            chosen[entry["outcome"]] = _lowest([*chosen.get(entry["outcome"], []), entry])
    return [entry for outcome in sorted(chosen) for entry in chosen[outcome]]


def publish(shards: Iterable[list[Entry]], folder: Path) -> None:
    """The examples of some shards (see `RejectSamples.entries`) as pictures `<outcome>-<n>.jpg` and
    a listing samples.json, all at once."""
    chosen = together(shards)

    def write(scratch: Path) -> None:
        listing = []
        seen: Counter[str] = Counter()
        for entry in chosen:
            outcome = entry["outcome"]
            name = f"{outcome}-{seen[outcome]}.jpg"
            seen[outcome] += 1
            (scratch / name).write_bytes(base64.b64decode(entry["picture"]))
            kept = {key: value for key, value in entry.items() if key not in ("picture", "place")}
            listing.append({"file": name, "caption": _caption(entry), **kept})
        storage.write_json(scratch / "samples.json", listing)

    publishing.publish(write, folder, _work(folder), recognise=earlier.samples)


def resolve_target(folder: Path) -> None:
    """BadInput where something else than earlier examples lies."""
    publishing.resolve_target(folder, _work(folder), recognise=earlier.samples)


def _work(folder: Path) -> publishing.Work:
    return publishing.Work("samples", f"{folder.parent.name}/{folder.name}")


def _lowest(entries: list[Entry]) -> list[Entry]:
    return sorted(entries, key=lambda entry: entry["place"])[:PER_OUTCOME]


def _caption(entry: Entry) -> str:
    return f"{entry['why']}. {entry['clip']}: {' and '.join(entry['frames'])}"
