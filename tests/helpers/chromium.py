"""A real browser without a window, told what to do through a pair of pipes.

It speaks the DevTools protocol of Chromium, as JSON that ends with a zero byte; so no
driver and no library are needed.
"""

import contextlib
import json
import os
import select
import shutil
import subprocess
import time

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage")
FLAGS += ("--hide-scrollbars", "--no-first-run", "--disable-background-networking")
PATIENCE = 60  # seconds for an answer


def program():
    """Returns the path of the browser, None if there is none."""
    return next(filter(None, map(shutil.which, PROGRAMS)), None)


class Browser:
    """One tab of a browser."""

    def __init__(self, write, read):
        self._write, self._read, self._rest = write, read, b""
        self._number, self._session = 0, None
        self.events = []
        target = self("Target.createTarget", url="about:blank")["targetId"]
        told = self("Target.attachToTarget", targetId=target, flatten=True)
        self._session = told["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self(f"{domain}.enable")

    def __call__(self, method, **params):
        """Returns the answer to a command."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def wait_for(self, method):
        """Returns when something has happened since the last time it did."""
        while not any(event.get("method") == method for event in self.events):
            self.events.append(self._next())

    def open(self, path, *, width, height=900, scheme="light"):
        """Opens a file in a window of a size, and returns when it is loaded."""
        media = [{"name": "prefers-color-scheme", "value": scheme}]
        self("Emulation.setEmulatedMedia", features=media)
        size = {"width": width, "height": height, "deviceScaleFactor": 1}
        self("Emulation.setDeviceMetricsOverride", **size, mobile=False)
        self.events.clear()
        self("Page.navigate", url=path.as_uri())
        self.wait_for("Page.loadEventFired")

    def run(self, script):
        """Returns the value of an expression."""
        told = self("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    def press(self, key):
        """Presses a key."""
        for kind in ("keyDown", "keyUp"):
            self("Input.dispatchKeyEvent", type=kind, key=key)

    def complaints(self):
        """Returns what the browser complained of, and what a page asked elsewhere."""
        bad = []
        for event in self.events:
            method, params = event.get("method"), event.get("params", {})
            if method in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled"):
                bad.append(params)
            if method in ("Log.entryAdded", "Page.javascriptDialogOpening"):
                bad.append(params)
            if method == "Network.requestWillBeSent":
                address = params["request"]["url"]
                if not address.startswith(("file:", "data:")):
                    bad.append(address)
        return bad

    def _next(self):
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._rest:
            ready, _, _ = select.select([self._read], [], [], end - time.monotonic())
            assert ready, "the browser does not answer"
            more = os.read(self._read, 1 << 20)
            assert more, "the browser ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)


@contextlib.contextmanager
def started(profile):
    """Yields a browser with its files in a folder."""
    theirs_read, write = os.pipe()
    read, theirs_write = os.pipe()
    # The browser reads commands from number 3 and answers on number 4.
    words = f'exec "$0" "$@" 3<&{theirs_read} 4>&{theirs_write}'
    flags = [*FLAGS, "--remote-debugging-pipe", f"--user-data-dir={profile}"]
    process = subprocess.Popen(
        ["bash", "-c", words, program(), *flags, "about:blank"],
        pass_fds=(theirs_read, theirs_write),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    os.close(theirs_read)
    os.close(theirs_write)
    try:
        yield Browser(write, read)
    finally:
        os.close(write)  # it ends by that
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(read)
