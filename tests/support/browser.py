"""Pages in a real browser: Chromium, told what to do through its debugging pipe."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: Seconds that a page has for what it is asked, on a machine that does other things too.
PATIENCE = 300


def find_browser() -> str:
    """Chromium; without one the test is skipped, or with W2S_REQUIRE_BROWSER=1 it fails."""
    names = ("chromium", "chromium-browser", "google-chrome")
    if browser := next(filter(None, map(shutil.which, names)), None):
        return browser
    missing = "no Chromium; Debian: apt-get install --no-install-recommends chromium"
    if os.environ.get("W2S_REQUIRE_BROWSER") == "1":
        pytest.fail(f"{missing}; W2S_REQUIRE_BROWSER asks for one")
    pytest.skip(missing)


class OpenPage:
    """A page that is open in Chromium.

    Attributes:
        asked: addresses that the page asked for, its own file among them.
    """

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = os.fdopen(commands, "wb"), os.fdopen(answers, "rb")
        self._unread, self._number, self._session = b"", 0, {}
        self.asked: list[str] = []

    def _call(self, method: str, **params: Any) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params, **self._session}
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while True:
            while b"\0" not in self._unread:
                self._unread += self._answers.read1()
            text, _, self._unread = self._unread.partition(b"\0")
            answer = json.loads(text)
            if answer.get("method") == "Network.requestWillBeSent":
                self.asked.append(answer["params"]["request"]["url"])
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, file: Path) -> None:
        """Open a file in a new tab."""
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        session = self._call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self._session = {"sessionId": session}
        self._call("Network.enable")
        self._call("Page.enable")
        self._call("Performance.enable", timeDomain="threadTicks")
        self._call("Page.navigate", url=file.as_uri())
        self.wait("document.readyState === 'complete' && location.protocol === 'file:'")

    def run(self, script: str) -> Any:
        """The value of an expression in the page, as JSON has it."""
        found = self._call("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def seconds(self) -> float:
        """CPU time that the page has taken in its main thread."""
        metrics = self._call("Performance.getMetrics")["metrics"]
        return next(metric["value"] for metric in metrics if metric["name"] == "TaskDuration")

    def wait(self, condition: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(condition):
            assert time.monotonic() < end, condition
            time.sleep(0.05)


@contextmanager
def open_page(html: str, folder: Path) -> Iterator[OpenPage]:
    """A page in a browser of its own, which ends with the test."""
    (folder / "index.html").write_text(html, encoding="utf-8")
    (theirs, commands), (answers, their_answers) = os.pipe(), os.pipe()
    browser = subprocess.Popen(
        [
            # Chromium reads commands from descriptor 3 and answers on 4.
            *("bash", "-c", f'exec "$@" 3<&{theirs} 4>&{their_answers}', "bash", find_browser()),
            *("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={folder / 'profile'}"),
        ],
        pass_fds=(theirs, their_answers),
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs)
    os.close(their_answers)
    page = OpenPage(commands, answers)
    try:
        page.open(folder / "index.html")
        yield page
    finally:
        browser.terminate()
        browser.wait(timeout=30)
