"""The report as a browser shows it: headless Chromium, light and dark, wide and narrow."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mimic import report
from mimic.params import load_params
from tests.support.browser import probed
from tests.support.published import publish_everything

# Run inside the page: decodes every picture, and measures what a reader would see.
PROBE = """
<script>
(async () => {
  const drawn = [...document.querySelectorAll("img, svg image")]
    .map(node => node.getAttribute("src") || node.getAttribute("href"));
  let blank = 0;
  for (const source of drawn) {
    const image = new Image(), canvas = document.createElement("canvas");
    const loaded = await new Promise(done => {
      image.onload = () => done(true);
      image.onerror = () => done(false);
      image.src = source;
    });
    if (!loaded) { blank++; continue; }
    canvas.width = canvas.height = 16;
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0, 16, 16);
    const data = context.getImageData(0, 0, 16, 16).data;
    if (data.every((value, index) => value === data[index % 4])) blank++;
  }
  const light = colour => {
    const linear = v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4;
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map(v => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const paper = light(getComputedStyle(document.body).backgroundColor);
  const contrast = selector => {
    const style = getComputedStyle(document.querySelector(selector));
    const ink = light(selector.startsWith("svg") ? style.fill : style.color);
    return (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  };
  const best = document.createElement("td");  // marked only where seeds decide
  best.className = "number best";
  document.querySelector("table.results tbody tr").append(best);
  const contrasts = Object.fromEntries(["p", ".note", "a", ".best", "svg text.tick", "svg text.end"]
    .map(name => [name, contrast(name)]));
  best.remove();
  const found = {
    pictures: drawn.length, blank, paper,
    rows: document.querySelectorAll("table.results tbody tr").length,
    cells: document.querySelectorAll("table.results tbody td.number").length,
    charts: [...document.querySelectorAll("svg.chart")]
      .filter(node => node.getBoundingClientRect().height > 50).length,
    contrast: contrasts,
    overflow: document.documentElement.scrollWidth - window.innerWidth,
  };
  const out = document.createElement("pre");
  out.id = "probe";
  out.textContent = JSON.stringify(found);
  document.body.append(out);
})();
</script>
"""


@pytest.fixture(scope="module")
def page(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of a full workspace, with the probe added."""
    root = tmp_path_factory.mktemp("page")
    params = load_params(repository / "params.yaml")
    publish_everything(params, root)
    report.main(params, root)
    probed = root / "probed.html"
    probed.write_text(
        (root / "report" / "index.html").read_text().replace("</body>", PROBE + "</body>")
    )
    return probed


@pytest.mark.parametrize(
    "flags",
    [
        ("--window-size=1280,1400",),
        ("--window-size=500,900", "--blink-settings=preferredColorScheme=0"),
    ],
)
def test_a_reader_sees_everything(
    page: Path,
    repository: Path,
    require_program: Callable[[str], str],
    tmp_path: Path,
    flags: tuple[str, ...],
) -> None:
    params = load_params(repository / "params.yaml")
    found, console = probed(require_program("chromium"), page, tmp_path / "profile", *flags)
    assert console == ""
    assert found["pictures"] >= 2 * params.report.pairs * len(params.sources)
    assert found["blank"] == 0
    assert found["rows"] == len(params.table.runs)
    assert found["cells"] == len(params.table.runs) * len(params.table.tasks)
    assert found["charts"] >= 2 + len(params.table.tasks)
    assert found["overflow"] <= 0, "the page scrolls sideways; only tables may"
    assert (found["paper"] < 0.1) is ("--blink-settings=preferredColorScheme=0" in flags)
    assert {name: ratio for name, ratio in found["contrast"].items() if ratio < 4.5} == {}
