"""Pictures at addresses: fetched whole, within limits of time and size."""

import base64
import contextlib
import http.client
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import PurePosixPath

import numpy as np

from yolojax.data.store.images import decode, is_image
from yolojax.inference.sources.listing import VIDEOS

_CHUNK = 1 << 16  # bytes
_QUIET = 10.0  # seconds without a word from the server


def kind_of(address: str, *, seconds: float) -> str:
    """Returns what is at an address: "image", "video" or "stream".

    Its ending tells that of a picture; otherwise the server is asked.

    Args:
        address: http or https.
        seconds: that the server may take to answer.

    Raises:
        ValueError: there is nothing of the kind.
    """
    path = PurePosixPath(urllib.parse.urlsplit(address).path)
    if is_image(path.name):
        return "image"
    with _opened(address, seconds) as answer:
        main = answer.headers.get_content_maintype()
        if main == "image":
            return "image"
        if path.suffix[1:].lower() in VIDEOS or (main == "video" and answer.length):
            return "video"  # a whole one, none of whose frames may be left out
        if answer.headers.get_content_type() == "text/html":
            raise ValueError("there is a web page, no picture, video or stream")
    return "stream"


def fetch(address: str, *, seconds: float, limit: int) -> np.ndarray:
    """Returns [h, w, 3] uint8 BGR of the picture at an address.

    Args:
        address: http or https.
        seconds: that it may take as a whole.
        limit: bytes that it may have.

    Raises:
        ValueError: it cannot be had within the limits, or is damaged.
    """
    until = time.monotonic() + seconds
    with _opened(address, seconds) as answer:
        data, size = bytearray(), answer.length or 0
        while size <= limit and (part := answer.read1(_CHUNK)):
            data += part
            size = max(size, len(data))
            if time.monotonic() > until:
                raise ValueError(f"did not come within {seconds:g} s")
        if size > limit:
            raise ValueError(f"has more than {limit / 2**20:g} MiB")
        if answer.length:
            raise ValueError(f"the connection ended {answer.length} bytes too early")
    picture = decode(np.frombuffer(data, np.uint8))
    if picture is None:
        raise ValueError(f"what is there is no readable picture ({len(data)} bytes)")
    return picture


@contextlib.contextmanager
def _opened(address: str, seconds: float) -> Iterator[http.client.HTTPResponse]:
    """Opens an address; what goes wrong with the connection is a ValueError."""
    try:
        with urllib.request.urlopen(
            _request(address), timeout=min(_QUIET, seconds)
        ) as answer:
            yield answer
    except urllib.error.HTTPError as error:
        error.close()
        raise ValueError(f"the server answers {error.code} {error.reason}") from error
    except urllib.error.URLError as error:
        raise ValueError(f"cannot be downloaded: {error.reason}") from error
    except (OSError, http.client.HTTPException) as error:
        why = str(error) or type(error).__name__
        raise ValueError(f"cannot be downloaded: {why}") from error


def _request(address: str) -> urllib.request.Request:
    """Returns the request for an address, which may name a user and a password."""
    parts = urllib.parse.urlsplit(address)
    user, _, host = parts.netloc.rpartition("@")
    headers = {"User-Agent": "yolojax"}
    if not user:
        return urllib.request.Request(address, headers=headers)
    plain = urllib.parse.urlunsplit(parts._replace(netloc=host))
    request = urllib.request.Request(plain, headers=headers)
    secret = base64.b64encode(urllib.parse.unquote_to_bytes(user)).decode()
    # Only for this server, not for one that it sends on to.
    request.add_unredirected_header("Authorization", f"Basic {secret}")
    return request
