"""A headless Chromium that visits pages, told what to do by its DevTools protocol."""

import asyncio
import base64
import json
import re
import shutil
import subprocess
import urllib.request
from pathlib import Path

from tornado.websocket import websocket_connect

PROGRAM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
# images that did not load; `decode` waits for those that load lazily
BROKEN = """Promise.all([...document.images].map(async i => {
    i.loading = 'eager';
    try { await i.decode(); return null } catch { return i.src }
})).then(found => found.filter(Boolean))"""


class Browser:
    """A page of a browser; a context manager that starts the program and ends it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.errors: list[str] = []
        self._last = 0

    async def __aenter__(self):
        self.process = subprocess.Popen(
            [
                PROGRAM,
                *("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"),
                *("--remote-debugging-port=0", f"--user-data-dir={self.folder}", "about:blank"),
            ],
            stderr=subprocess.PIPE,
            text=True,
        )
        line = next(line for line in self.process.stderr if "DevTools listening" in line)
        port = re.search(r":(\d+)/", line).group(1)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json") as answer:
            target = next(one for one in json.load(answer) if one["type"] == "page")
        self.socket = await websocket_connect(
            target["webSocketDebuggerUrl"], max_message_size=100_000_000
        )
        for domain in ("Page", "Runtime", "Log"):
            await self.call(f"{domain}.enable")
        return self

    async def __aexit__(self, *exception):
        self.socket.close()
        self.process.terminate()
        self.process.wait(20)
        self.process.stderr.close()

    async def call(self, method, **parameters):
        """Call a method of the protocol, and return its result."""
        self._last += 1
        await self.socket.write_message(
            json.dumps({"id": self._last, "method": method, "params": parameters})
        )
        while True:
            message = await self._next()
            if message.get("id") == self._last:
                assert "error" not in message, message
                return message["result"]

    async def visit(self, address):
        """Open an address, wait until it is loaded, and return the errors that it logged."""
        self.errors.clear()
        await self.call("Page.navigate", url=address)
        while (await self._next()).get("method") != "Page.loadEventFired":
            pass
        return self.errors

    async def evaluate(self, script):
        """Return the value of a script, awaited."""
        found = await self.call(
            "Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True
        )
        return found["result"].get("value")

    async def picture(self, path, width, height):
        """Save a picture of the page at a width and height."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            **{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600},
        )
        await asyncio.sleep(0.3)
        found = await self.call("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(found["data"]))

    async def _next(self):
        text = await asyncio.wait_for(self.socket.read_message(), 60)
        assert text is not None, "the browser closed the connection"
        message = json.loads(text)
        found = message.get("params", {})
        if message.get("method") == "Runtime.exceptionThrown":
            self.errors.append(found["exceptionDetails"]["text"])
        if message.get("method") == "Runtime.consoleAPICalled" and found["type"] == "error":
            self.errors.append(str(found["args"]))
        if message.get("method") == "Log.entryAdded" and found["entry"]["level"] == "error":
            self.errors.append(found["entry"]["text"] + " " + found["entry"].get("url", ""))
        return message
