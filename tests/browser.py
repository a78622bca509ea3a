"""A headless Chromium, driven through chromedriver's own HTTP protocol (W3C WebDriver)."""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
MISSING = None if CHROMIUM and DRIVER else "chromium and chromedriver are not installed"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class Page:
    """One tab."""

    session: str

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        data = json.dumps(body or {}).encode() if method == "POST" else None
        request = urllib.request.Request(self.session + path, data=data, method=method)
        request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)["value"]

    def open(self, url: str) -> None:
        self.call("POST", "/url", {"url": url})

    def run(self, script: str) -> Any:
        return self.call("POST", "/execute/sync", {"script": script, "args": []})

    def devtools(self, command: str, **parameters: Any) -> Any:
        """A command of Chromium's own protocol, such as `Emulation.setEmulatedMedia`."""
        return self.call("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def text(self) -> str:
        return str(self.run("return document.body.innerText"))

    def wait(self, script: str, timeout_s: float = 40) -> Any:
        """The first true value of `script`."""
        until = time.monotonic() + timeout_s
        while not (value := self.run(script)):
            assert time.monotonic() < until, f"waited in vain for {script}; the page says:\n{self.text()[:3000]}"
            time.sleep(0.3)
        return value

    def picture(self, to: Path) -> None:
        to.write_bytes(base64.b64decode(self.call("GET", "/screenshot")))


@contextlib.contextmanager
def page(folder: Path, width: int = 1700, height: int = 900, arguments: Sequence[str] = ()) -> Iterator[Page]:
    """A tab of a browser whose profile lies in `folder`; both processes are gone afterwards.

    `arguments` are Chromium's own, such as `--host-resolver-rules=...`.
    """
    port = free_port()
    driver = subprocess.Popen(
        [str(DRIVER), f"--port={port}"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    options = {
        "binary": CHROMIUM,
        "args": [
            *("--headless=new", "--no-sandbox", "--disable-gpu", f"--window-size={width},{height}"),
            f"--user-data-dir={folder}/profile",
            *arguments,
        ],
    }
    tab = None
    try:
        base = Page(f"http://127.0.0.1:{port}")
        until = time.monotonic() + 30
        while True:
            try:
                made = base.call("POST", "/session", {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}})
                break
            except OSError:
                assert time.monotonic() < until, "chromedriver did not start"
                time.sleep(0.2)
        tab = Page(f"{base.session}/session/{made['sessionId']}")
        yield tab
    finally:
        if tab is not None:
            with contextlib.suppress(OSError):
                tab.call("DELETE", "")
        driver.terminate()
        driver.wait(10)
