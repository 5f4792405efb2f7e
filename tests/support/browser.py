"""A headless chromium that a test leads through a page as a person would: go, wait until something
is to be seen, look."""

from __future__ import annotations

import base64
import itertools
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=1600,1200",
)
LOOK_S = 0.3
PROBE_S = 300.0
CLICK = """(text => {
  const all = [...document.body.querySelectorAll("*")];
  const shown = all.filter(node => (node.innerText || "").trim() === text
    && node.getClientRects().length);
  shown.slice(-1).forEach(node => node.click());
  return shown.length;
})(TEXT)"""
SEEN = "document.body ? document.body.innerText : ''"


class Browser:
    """One tab, over the browser's own debugging protocol."""

    def __init__(self, channel: Connection) -> None:
        self._channel = channel
        self._numbers = itertools.count(1)

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._channel.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:  # what the page tells by itself is passed over
            answer = json.loads(self._channel.recv(timeout=60))
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])

    def evaluate(self, expression: str) -> Any:
        """What an expression of the page's language gives, a promise waited for."""
        asked = {"expression": expression, "returnByValue": True, "awaitPromise": True}
        return self.call("Runtime.evaluate", **asked)["result"].get("value")

    def open(self, address: str, *expected: str, patience_s: float = 240) -> str:
        """Go there, and wait until the page shows all that is expected; its visible text."""
        self.call("Page.navigate", url=address)
        return self.wait(*expected, patience_s=patience_s)

    def wait(self, *expected: str, patience_s: float = 240) -> str:
        until = time.monotonic() + patience_s
        while True:
            text = str(self.evaluate(SEEN) or "")
            unseen = [one for one in expected if one not in text]
            if not unseen:
                return text
            if time.monotonic() > until:
                raise AssertionError(f"the page never showed {unseen}; it shows:\n{text[:4000]}")
            time.sleep(LOOK_S)

    def click(self, text: str, patience_s: float = 120) -> None:
        """What bears just this text, once it is there; the innermost such thing."""
        until = time.monotonic() + patience_s
        while not self.evaluate(CLICK.replace("TEXT", json.dumps(text))):
            assert time.monotonic() < until, f"nothing to click: {text}"
            time.sleep(LOOK_S)

    def picture(self, path: Path) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))
        return path


def probed(chromium: str, page: Path, profile: Path, *flags: str) -> tuple[dict[str, Any], str]:
    """What a script in a page left in its element `probe`, as JSON, however long its pictures took;
    and what the browser's console complained of."""
    until = time.monotonic() + PROBE_S
    with browsing(chromium, profile, "--enable-logging=stderr", *flags) as browser:
        browser.call("Page.navigate", url=page.as_uri())
        while not (left := browser.evaluate("document.querySelector('#probe')?.textContent")):
            assert time.monotonic() < until, f"{page} left nothing"
            time.sleep(LOOK_S)
    said = (profile / "log").read_text(errors="replace").splitlines()
    return json.loads(left), "\n".join(line for line in said if "CONSOLE" in line)


@contextmanager
def browsing(chromium: str, profile: Path, *flags: str) -> Iterator[Browser]:
    """A browser with a profile of its own, ended with the block."""
    profile.mkdir(parents=True)
    command = [chromium, *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
    with (profile / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        with connect(_tab(profile, process), max_size=None) as channel:
            yield Browser(channel)
    finally:
        process.terminate()
        process.wait(30)


def _tab(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """The address of the first tab, once the browser says where it listens."""
    said = profile / "DevToolsActivePort"
    until = time.monotonic() + 240
    while not (said.exists() and len(said.read_text().splitlines()) == 2):
        assert process.poll() is None, (profile / "log").read_text()[-2000:]
        assert time.monotonic() < until, "the browser did not come up"
        time.sleep(0.1)
    port = said.read_text().split()[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
        tabs = json.load(answer)
    address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
    return str(address)
