"""The page that goes with an exported dataset: what it holds, where from, and under which terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

SIZES = {
    "n<1K": 10**3,
    "1K<n<10K": 10**4,
    "10K<n<100K": 10**5,
    "100K<n<1M": 10**6,
    "1M<n<10M": 10**7,
}


@dataclass
class Contents:
    """What went into an export, counted on the way."""

    dataset: str
    manifest_digest: str  # sha256 of the manifest
    allowed: Sequence[str] = ()  # what the licences of the sources allow together, in lines
    size_px: int = 0
    patch_px: int = 0
    splits: Counter[str] = field(default_factory=Counter)
    sources: Counter[tuple[str, str]] = field(default_factory=Counter)  # (source, licence) -> pairs
    params_digests: set[str] = field(default_factory=set)
    versions: set[str] = field(default_factory=set)

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row of the manifest."""
        self.splits[row["split"]] += 1
        self.sources[row["source"], row["licence"]] += 1
        self.params_digests.add(row["params_digest"])
        self.versions.add(row["versions"])
        self.size_px = row["size_px"]
        self.patch_px = row["patch_px"]


def write(contents: Contents, layout: str, front_matter: Mapping[str, Any]) -> str:
    """Markdown, with a YAML head that Hugging Face reads.

    Args:
        layout: how the files are to be read.
        front_matter: what a format adds to the head.
    """
    pairs = contents.splits.total()
    size = next((name for name, limit in SIZES.items() if pairs < limit), "n>10M")
    head = {
        "pretty_name": contents.dataset,
        "license": "other",
        "license_name": "terms-of-the-sources",
        "tags": ["cross-view", "self-supervised", "image-pairs"],
        "size_categories": [size],
        **front_matter,
    }
    grid = contents.size_px // max(contents.patch_px, 1)
    sources = "\n".join(
        f"| {source} | {count} | {licence} |"
        for (source, licence), count in sorted(contents.sources.items())
    )
    allowed = "\n".join(f"* {line}" for line in contents.allowed)
    splits = ", ".join(f"{count} {split}" for split, count in sorted(contents.splits.items()))
    return f"""---
{yaml.safe_dump(head, sort_keys=False).strip()}
---

# {contents.dataset}

{pairs} pairs of views of one place ({splits}), {contents.size_px} x {contents.size_px} pixels,
for cross-view pretraining. Each pair knows which of its {grid} x {grid} patches show the same.
Made with `mimic`.

## Sources and terms

The pictures belong to their publishers. A set of mined pairs is, to most of them, a modified
version of their data: before you pass this folder on, read the terms of every source below.

| source | pairs | terms |
|---|---|---|
{sources}

{allowed}

## Files

{layout}

## Where every number comes from

| | |
|---|---|
| manifest | sha256 {contents.manifest_digest} |
| parameters of mining | {", ".join(sorted(contents.params_digests))} |
| versions | {"; ".join(sorted(contents.versions))} |
"""
