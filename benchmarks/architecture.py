"""The picture of docs/architecture.md: `python -m benchmarks.architecture` writes it anew.

Packages are boxes in the layers of pyproject.toml's import contract, and arrows are the imports
that exist. An arrow that follows from others (a imports b, b imports c, and a imports c) is left
out: the arrows drawn are the fewest with the same meaning.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

from benchmarks.house import REPOSITORY, between_packages

PICTURE = REPOSITORY / "docs" / "architecture.svg"
WIDTH_PX = 1180
BOX_HEIGHT_PX = 42
LAYER_PX = 86  # from one layer to the next
MARGIN_PX = 20
CHARACTER_PX = 7.6  # of the bold name
HINT_CHARACTER_PX = 5.6  # of the line below it
COLOURS = {"pipeline": "#e8f0fe", "pure": "#e6f4ea", "other": "#f6f6f6"}
PURE = {"mimic.geometry", "mimic.models"}
STYLE = """
  text { font-family: Helvetica, Arial, sans-serif; text-anchor: middle; fill: #202124; }
  .name { font-size: 13px; font-weight: bold; }
  .hint { font-size: 10px; fill: #5f6368; }
  .legend { font-size: 11px; fill: #5f6368; text-anchor: start; }
  rect { stroke: #9aa0a6; }
  path { fill: none; stroke: #80868b; stroke-width: 1.1; }
"""
ARROW = (
    '<marker id="arrow" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0,0 L8,4 L0,8 z" style="fill:#80868b;stroke:none"/></marker>'
)
LEGEND = (
    "An arrow is an import; arrows that follow from others are left out. "
    "Blue: a stage of the pipeline. Green: pure, arrays and numbers only."
)
HINTS = {
    "mimic.flows": "Prefect: schedules the stages",
    "mimic.cli": "the command line",
    "mimic.commands": "commands that are no stage",
    "mimic.reporting": "parts of the report",
    "mimic.params": "params.yaml, whole",
    "mimic.tasks": "downstream tasks, a folder a family",
    "mimic.training": "the training loop, checkpoints",
    "mimic.mining": "judges candidate pairs",
    "mimic.synthetic": "generated data",
    "mimic.sources": "readers of raw data",
    "mimic.pairs": "shards and manifests",
    "mimic.scenes": "3-D engines",
    "mimic.infra": "disks, clusters, trackers",
    "mimic.models": "encoder, decoder, heads",
    "mimic.geometry": "features, homographies, overlap",
    "mimic.config": "the sections of params.yaml",
    "mimic.errors": "the error a user sees",
}
# Where a package stands between left and right, so that few arrows pass behind a box; those of a
# layer without an entry are spread evenly.
POSITIONS = {
    "mimic.flows": 0.5,
    "mimic.cli": 0.5,
    "mimic.commands": 0.89,
    "mimic.reporting": 0.89,
    "mimic.params": 0.4,
    "mimic.tasks": 0.34,
    "mimic.training": 0.34,
    "mimic.mining": 0.7,
    "mimic.synthetic": 0.08,
    "mimic.sources": 0.68,
    "mimic.pairs": 0.34,
    "mimic.scenes": 0.13,
    "mimic.infra": 0.32,
    "mimic.config": 0.32,
    "mimic.models": 0.5,
    "mimic.geometry": 0.82,
    "mimic.errors": 0.15,
}


@dataclass(frozen=True)
class Box:
    """A package: its middle and its width, in pixels."""

    x: float
    y: float
    width: float


def main() -> None:
    PICTURE.write_text(draw(read_layers(), direct_imports()), encoding="utf-8")
    print(PICTURE)


def read_layers(root: Path = REPOSITORY) -> list[list[str]]:
    """The layers of the import contract, the highest first."""
    settings = tomllib.loads((root / "pyproject.toml").read_text())
    contracts = settings["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return [[name.strip(" ()") for name in _split(layer)] for layer in layers]


def _split(layer: str) -> list[str]:
    """Siblings stand beside each other, `a | b` or `a : b`."""
    return layer.replace(":", "|").split("|")


def direct_imports() -> dict[str, set[str]]:
    """What each first-level package of mimic imports."""
    graph = grimp.build_graph("mimic", cache_dir=None)
    modules = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    return between_packages(modules)


def fewest_arrows(imports: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The imports that do not follow from others; sorted.

    Args:
        imports: a graph without circles.
    """
    reachable = {name: _reachable(name, imports) for name in imports}
    return sorted(
        (name, target)
        for name, targets in imports.items()
        for target in targets
        if not any(target in reachable[other] for other in targets - {target})
    )


def _reachable(name: str, imports: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [*imports.get(name, ())]
    while waiting:
        target = waiting.pop()
        if target not in found:
            found.add(target)
            waiting.extend(imports.get(target, ()))
    return found


# ---------------------------------------------------------------------------- drawing


def draw(layers: list[list[str]], imports: dict[str, set[str]]) -> str:
    """The picture as SVG text."""
    boxes = place_boxes(layers)
    arrows = [pair for pair in fewest_arrows(imports) if set(pair) <= set(boxes)]
    height = len(layers) * LAYER_PX + 2 * MARGIN_PX
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH_PX} {height}" '
        f'width="{WIDTH_PX}" height="{height}" role="img">',
        "<title>Packages of mimic and their imports</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{ARROW}</defs>",
        '<rect width="100%" height="100%" style="fill:#ffffff;stroke:none"/>',
        *(_arrow(boxes[start], boxes[end], start, end) for start, end in arrows),
        *(_box(name, box, layers) for name, box in boxes.items()),
        f'<text class="legend" x="{MARGIN_PX}" y="{height - 10}">{LEGEND}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def place_boxes(layers: list[list[str]]) -> dict[str, Box]:
    """Each layer is a row."""
    boxes = {}
    for row, names in enumerate(layers):
        y = MARGIN_PX + row * LAYER_PX + BOX_HEIGHT_PX / 2
        for column, name in enumerate(names):
            position = POSITIONS.get(name, (column + 0.5) / len(names))
            x = MARGIN_PX + position * (WIDTH_PX - 2 * MARGIN_PX)
            boxes[name] = Box(x, y, _text_width(name))
    return boxes


def _text_width(name: str) -> float:
    name_px = CHARACTER_PX * len(_short(name))
    return max(name_px, HINT_CHARACTER_PX * len(HINTS.get(name, ""))) + 24


def _short(name: str) -> str:
    return name.removeprefix("mimic.")


def _box(name: str, box: Box, layers: list[list[str]]) -> str:
    left = box.x - box.width / 2
    top = box.y - BOX_HEIGHT_PX / 2
    return (
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{box.width:.0f}" height="{BOX_HEIGHT_PX}" '
        f'rx="6" style="fill:{COLOURS[_kind(name, layers)]}"/>{"".join(_words(name, box))}'
    )


def _kind(name: str, layers: list[list[str]]) -> str:
    if name in PURE:
        return "pure"
    stages = next((layer for layer in layers if "mimic.pretrain" in layer), [])
    return "pipeline" if name in stages else "other"


def _words(name: str, box: Box) -> Iterator[str]:
    hint = HINTS.get(name)
    baseline = box.y - 2 if hint else box.y + 4
    yield f'<text class="name" x="{box.x:.0f}" y="{baseline:.0f}">{escape(_short(name))}</text>'
    if hint:
        yield f'<text class="hint" x="{box.x:.0f}" y="{box.y + 13:.0f}">{escape(hint)}</text>'


def _arrow(start: Box, end: Box, importer: str, imported: str) -> str:
    """A curve from the lower edge of one box to the upper edge of another."""
    y_start = start.y + BOX_HEIGHT_PX / 2
    y_end = end.y - BOX_HEIGHT_PX / 2 - 1
    bend = (y_end - y_start) / 2
    curve = (
        f"M{start.x:.0f},{y_start:.0f} C{start.x:.0f},{y_start + bend:.0f} "
        f"{end.x:.0f},{y_end - bend:.0f} {end.x:.0f},{y_end:.0f}"
    )
    title = f"{_short(importer)} imports {_short(imported)}"
    return f'<path d="{curve}" marker-end="url(#arrow)"><title>{title}</title></path>'


if __name__ == "__main__":
    main()
