"""README's table of the demo: made from its results, and compared with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import readme
from mimic.errors import BadInput
from mimic.infra.storage import Workspace, write_json

METRICS = {
    "reconstruction": {"masking": {"visible": 6, "patches": 64}, "flat_loss": 0.99},
    "depth": {"train_size": 64},
    "depth-frozen": {"train_size": 64},
    "correspondence": {"chance": {"exact": 0.0156}},
}


@pytest.fixture
def demo(tmp_path: Path) -> Path:
    """Forged results of the two runs that the table shows."""
    for run, value in (("random", 1.5), ("croco-3m", 0.75)):
        for task, metrics in METRICS.items():
            said = {
                "value": value,
                "name": "x",
                "higher_is_better": task != "reconstruction",
                "preset": "standard",
            }
            record = {
                **said,
                "metrics": metrics,
                "test_size": 32,
                "standard_error": 0.0125,
                "protocol": "",
            }
            write_json(Workspace(tmp_path).metrics(run, task), record)
    return tmp_path


def test_cells_come_from_results_and_from_the_papers(demo: Path) -> None:
    lines = readme.table(demo).splitlines()
    assert len(lines) == 2 + len(readme.ROWS) + len(readme.NOT_RUN)
    assert lines[2:] == [
        "| view completion, loss ↓ | 0.292 | 1.500 | 0.750 ± 0.013 | 32 pairs; patch means 0.990 |",
        "| NYUv2 depth, δ1 ↑ | 91.79 | 1.500 | 0.750 ± 0.013 | 64 train, 32 test images |",
        "| the same, frozen encoder | 85.81 | 1.500 | 0.750 ± 0.013 | 64 train, 32 test images |",
        "| patch matching, recall ↑ | – | 1.500 | 0.750 ± 0.013 | 32 pairs; chance 0.016 |",
        "| ADE20K, mIoU ↑ | 42.18 | not run | not run | `segmentation` |",
        "| COCO keypoints, AP ↑ | 72.8 | not run | not run | `pose` |",
        "| Taskonomy normals, L1 ↓ | 53.02 | not run | not run | `taskonomy` |",
    ]


def test_a_number_that_the_demo_does_not_give_is_found(demo: Path) -> None:
    made = readme.table(demo)
    page = readme.written(f"# x\n{readme.BEGIN}\nold\n{readme.END}\nrest\n", made)
    assert page.startswith("# x\n")
    assert page.endswith("\nrest\n")
    assert "old" not in page
    assert readme.differences(page, made) == []
    assert (
        readme.differences(page.replace("0.750", "0.759"), made) == []
    )  # rounding of another processor
    assert (
        "README says 0.715 where the demo gives 0.75"
        in readme.differences(page.replace("0.750", "0.715", 1), made)[0]
    )
    assert "README says" in readme.differences(page.replace("91.79", "91.97"), made)[0]
    assert (
        "other lines"
        in readme.differences(page.replace("| patch matching", "| a |\n| patch matching"), made)[-1]
    )
    with pytest.raises(SystemExit, match="no lines"):
        readme.written("# x\n", made)


def test_without_a_demo_nothing_is_made_up(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="run make demo first"):
        readme.table(tmp_path)


def test_readme_has_the_table(repository: Path) -> None:
    page = (repository / "README.md").read_text()
    stands = page.partition(readme.BEGIN)[2].partition(readme.END)[0]
    for row in (*readme.ROWS, *readme.NOT_RUN):
        assert f"\n| {row.label} | " in stands
    widths = [len(cell.strip()) for line in stands.splitlines()[2:] for cell in line.split("|")]
    assert max(widths) <= 32  # five short columns, no wall
