"""Pictures at addresses: fetched whole, within limits of time and size."""

import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import PurePosixPath

import numpy as np

from yolojax.data.store.images import decode, is_image

_CHUNK = 1 << 16  # bytes
_QUIET = 10.0  # seconds without a word from the server


def fetch(address: str, *, seconds: float, limit: int) -> np.ndarray | None:
    """Returns [h, w, 3] uint8 BGR of the picture at an address; None: it is no picture.

    Which it is, its ending tells, or else the server.

    Args:
        address: http or https.
        seconds: that it may take as a whole.
        limit: bytes that it may have.

    Raises:
        ValueError: it cannot be had within the limits, or is damaged.
    """
    request = urllib.request.Request(address, headers={"User-Agent": "yolojax"})
    until = time.monotonic() + seconds
    name = PurePosixPath(urllib.parse.urlsplit(address).path).name
    try:
        with urllib.request.urlopen(request, timeout=min(_QUIET, seconds)) as answer:
            kind = answer.headers.get_content_maintype()
            if not is_image(name) and kind != "image":
                return None
            data = _read(answer, until, seconds, limit)
    except (OSError, http.client.HTTPException, ValueError) as error:
        if isinstance(error, _LimitError):
            raise
        raise ValueError(f"cannot be downloaded: {_reason(error)}") from error
    picture = decode(np.frombuffer(data, np.uint8))
    if picture is None:
        raise ValueError(f"what is there is no readable picture ({len(data)} bytes)")
    return picture


class _LimitError(ValueError):
    """It is too large, or takes too long."""


def _read(answer: http.client.HTTPResponse, until: float, seconds: float, limit: int):
    """Returns the bytes of an answer."""
    parts, size = [], 0
    while part := answer.read1(_CHUNK):
        parts.append(part)
        size += len(part)
        if size > limit:
            raise _LimitError(f"has more than {limit / 2**20:.0f} MiB")
        if time.monotonic() > until:
            raise _LimitError(f"did not come within {seconds:.0f} s")
    return b"".join(parts)


def _reason(error: BaseException) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return str(error.reason)
    return str(error) or type(error).__name__
