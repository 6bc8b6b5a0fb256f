"""Chromium without a window, controlled through a pipe by the DevTools protocol.

https://chromedevtools.github.io/devtools-protocol/
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")

SWITCHES = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-pipe",
)


class Browser:
    """One page of Chromium."""

    def __init__(self, write_to: int, read_from: int) -> None:
        self._commands = os.fdopen(write_to, "wb")
        self._answers = os.fdopen(read_from, "rb")
        self._buffer = b""
        self._number = 0
        self.messages: list[str] = []  # errors of the page, such as what its policy has blocked
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")
        self._call("Log.enable")

    def open(self, path: Path, *, width: int, height: int, scheme: str = "light") -> None:
        """Open a file in a window of this size, and wait until it is loaded.

        A window that is narrower than 600 pixels is that of a phone.
        """
        self._call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self._call("Emulation.setEmulatedMedia", features=features)
        self._call("Page.navigate", url=path.resolve().as_uri())
        while self._receive().get("method") != "Page.loadEventFired":
            pass

    def evaluate(self, expression: str) -> Any:
        """Return the value of a JavaScript expression on the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def picture(self, form: Literal["png", "webp"] = "png", *, whole: bool = True) -> bytes:
        """Return a picture of the whole page, or of what the window shows."""
        answer = self._call("Page.captureScreenshot", format=form, captureBeyondViewport=whole)
        return base64.b64decode(answer["data"])

    def close(self) -> None:
        """End the browser."""
        self._session = None
        self._call("Browser.close")
        self._commands.close()
        self._answers.close()

    def _call(self, method: str, **parameters: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        self._commands.write(json.dumps(message).encode() + b"\0")
        self._commands.flush()
        while (answer := self._receive()).get("id") != self._number:
            pass
        assert "error" not in answer, answer
        return answer["result"]

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            more = os.read(self._answers.fileno(), 1 << 16)
            assert more, "Chromium has ended"
            self._buffer += more
        content, self._buffer = self._buffer.split(b"\0", 1)
        message: dict[str, Any] = json.loads(content)
        if message.get("method") == "Log.entryAdded":
            self.messages.append(message["params"]["entry"]["text"])
        return message


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start Chromium with an empty profile, and end it after the block."""
    assert CHROMIUM is not None
    their_input, our_output = os.pipe()
    our_input, their_output = os.pipe()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        # A shell puts the ends of the pipes where Chromium expects them.
        script = f'exec "$@" 3<&{their_input} 4>&{their_output}'
        process = subprocess.Popen(
            ["/bin/bash", "-c", script, "bash", CHROMIUM, *SWITCHES, f"--user-data-dir={profile}"],
            pass_fds=(their_input, their_output),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(their_input)
        os.close(their_output)
        try:
            browser = Browser(our_output, our_input)
            yield browser
            browser.close()
            process.wait(timeout=10)
        finally:
            process.kill()
            process.wait()
