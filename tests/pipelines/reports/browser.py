"""A headless Chromium, where one is installed: `apt-get install chromium`."""

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import connect

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMIUM_OPTIONS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --remote-debugging-port=0 --window-size=1200,900"
)

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed: apt-get install chromium")


class Browser:
    """A page in a headless Chromium, driven over the DevTools protocol until the end of a `with`.

    address: a file:// or http:// URL.
    """

    def __init__(self, address: str) -> None:
        self._folder = tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        words = [str(CHROMIUM), *CHROMIUM_OPTIONS.split(), f"--user-data-dir={self._folder.name}", address]
        self._process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._stack = contextlib.ExitStack()
        self._socket = self._stack.enter_context(connect(self._address(), max_size=None))
        self._number = 0
        self.wait("location.protocol !== 'about:' && document.readyState === 'complete'")

    def _address(self) -> str:
        port = Path(self._folder.name) / "DevToolsActivePort"
        for _ in range(600):
            if port.exists() and (lines := port.read_text().splitlines()):
                with urllib.request.urlopen(f"http://127.0.0.1:{lines[0]}/json/list") as answer:
                    pages = [one for one in json.load(answer) if one["type"] == "page"]
                if pages:
                    return str(pages[0]["webSocketDebuggerUrl"])
            time.sleep(0.1)
        raise TimeoutError("Chromium did not start")

    def send(self, method: str, **params: Any) -> Any:
        """A command of the protocol; its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": params}))
        while True:
            answer = json.loads(self._socket.recv(timeout=60))
            if answer.get("id") == self._number:
                return answer["result"]

    def evaluate(self, code: str) -> Any:
        """The value of an expression in the page."""
        result = self.send("Runtime.evaluate", expression=code, returnByValue=True)
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def wait(self, code: str) -> None:
        """Until the expression is true."""
        for _ in range(300):
            if self.evaluate(code):
                return
            time.sleep(0.1)
        raise TimeoutError(code)

    def type(self, text: str) -> None:
        """Into what has the focus."""
        self.send("Input.insertText", text=text)

    def press(self, key: str) -> None:
        """A key, by its name or by what it types."""
        codes = {"Enter": 13, "Escape": 27, "Tab": 9}
        codes |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
        common = {"key": key, "windowsVirtualKeyCode": codes.get(key) or ord(key.upper())}
        typed = "\r" if key == "Enter" else key if len(key) == 1 else ""
        self.send("Input.dispatchKeyEvent", type="keyDown", **common, **({"text": typed} if typed else {}))
        self.send("Input.dispatchKeyEvent", type="keyUp", **common)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """The mouse, pressed at one place of the window and let go at another."""
        middle = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2
        for kind, (x, y) in (("Pressed", start), ("Moved", middle), ("Moved", end), ("Released", end)):
            button = {"button": "left", "buttons": 1, "clickCount": 1}
            self.send("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y, **button)

    def picture(self) -> bytes:
        """What the window shows, as a PNG file."""
        return base64.b64decode(self.send("Page.captureScreenshot")["data"])

    def __enter__(self) -> "Browser":
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()
        self._process.terminate()
        self._process.wait()
        self._folder.cleanup()
