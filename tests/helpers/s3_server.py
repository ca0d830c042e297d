"""A server that speaks S3, as a process of its own on loopback."""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request

PATIENCE_S = 120


def settings(port):
    """Returns the variables by which the S3 library finds the server."""
    return {
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
    }


def free_port():
    """Returns a port that nobody listens to just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def server(port, buckets=()):
    """Runs a server, which has these buckets and nothing in them."""
    words = ["-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(
        [sys.executable, *words],
        env=os.environ | settings(port),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + PATIENCE_S
        for name in ("", *buckets):
            url = f"http://127.0.0.1:{port}/{name}"
            request = urllib.request.Request(url, method="PUT" if name else "GET")
            request.add_header("Authorization", "AWS testing:testing")
            while True:
                try:
                    urllib.request.urlopen(request, timeout=10).close()
                    break
                except OSError:
                    assert time.monotonic() < deadline, "the server does not answer"
                    assert process.poll() is None, "the server has ended"
                    time.sleep(0.1)
        yield process
    finally:
        process.kill()
        process.wait()
