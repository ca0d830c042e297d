"""A web server of the test's own, which answers as told."""

import contextlib
import dataclasses
import http.server
import threading

import cv2

KNOWN = -1  # the length of an answer is announced as it is


def encoded(picture, ending):
    """Returns the bytes of a file with this picture."""
    return cv2.imencode(ending, picture)[1].tobytes()


@dataclasses.dataclass(frozen=True)
class Answer:
    """What the server says to every request."""

    body: bytes
    kind: str = "application/octet-stream"
    status: int = 200
    announced: int | None = KNOWN  # Content-Length
    forever: float | None = None  # seconds between bytes that never end
    stall: int | None = None  # bytes after which nothing comes
    late: float = 0.0  # seconds before the answer
    to: str | None = None  # of a redirection
    login: str | None = None  # the Authorization that is asked for
    parts: tuple[bytes, ...] = ()  # pictures that come one after the other


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers; it is quiet about who leaves early."""

    def do_GET(self):  # noqa: N802
        with contextlib.suppress(ConnectionError):
            self.answer(self.server.given)

    def answer(self, what):
        self.server.ending.wait(what.late)
        refused = what.login is not None and what.login != self.headers["Authorization"]
        self.send_response(401 if refused else what.status)
        self.send_header("Content-Type", what.kind)
        if what.to is not None:
            self.send_header("Location", what.to)
        length = len(what.body) if what.announced == KNOWN else what.announced
        if length is not None and what.forever is None and not what.parts:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.wfile.write(what.body[: what.stall])
        if what.stall is not None:
            self.server.ending.wait(10)
        while what.forever is not None and not self.server.ending.is_set():
            self.wfile.write(b"1")
            self.server.ending.wait(what.forever)
        for part in what.parts:
            head = f"--part\r\nContent-Type: image/jpeg\r\nContent-Length: {len(part)}"
            self.wfile.write(head.encode() + b"\r\n\r\n" + part + b"\r\n")

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def server(answer):
    """Gives the address, with a "/" at its end, of a server with one answer."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.given, server.ending = answer, threading.Event()
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.ending.set()
        server.shutdown()
        thread.join()
