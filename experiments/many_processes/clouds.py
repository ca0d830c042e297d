"""Metadata services of clouds, on loopback."""

import contextlib
import http.server
import json
import threading

GCE = "/computeMetadata/v1/instance/"
EC2 = "/latest/meta-data/spot/instance-action"
EVENTS = "/metadata/scheduledevents?api-version=2020-07-01"
NAME = "/metadata/instance/compute/name?api-version=2021-02-01&format=text"
CALM = {
    "GCE": {f"{GCE}preempted": "FALSE", f"{GCE}maintenance-event": "NONE"},
    "EC2": {},
    "Azure": {EVENTS: json.dumps({"Events": []}), NAME: "mine"},
}
_EVENT = {"EventType": "Preempt", "Resources": ["mine"], "NotBefore": "soon"}
NOTICES = {
    "GCE": {f"{GCE}preempted": "TRUE"},
    "EC2": {EC2: json.dumps({"action": "terminate", "time": "soon"})},
    "Azure": {EVENTS: json.dumps({"Events": [_EVENT]})},
}


class Metadata(http.server.BaseHTTPRequestHandler):
    """Answers by path, or that there is nothing."""

    def do_GET(self):  # noqa: N802
        """Answers what is asked for."""
        text = self.server.says.get(self.path)
        self._answer(404 if text is None else 200, text or "")

    def do_PUT(self):  # noqa: N802
        """Hands out a token, as EC2 does."""
        self._answer(200 if self.server.cloud == "EC2" else 405, "token")

    def _answer(self, status, text):
        self.send_response(status)
        if self.path.startswith(GCE):
            self.send_header("Metadata-Flavor", "Google")
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(text.encode())

    def log_message(self, *arguments):
        """Says nothing."""


@contextlib.contextmanager
def served(cloud):
    """Gives a server of a cloud where all is well so far."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Metadata) as server:
        server.cloud, server.says = cloud, dict(CALM[cloud])
        server.address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()
