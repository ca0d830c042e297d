"""Addresses such as s3://bucket/run, and the libraries that read and write there."""

import dataclasses
import hashlib
import os
import re
from pathlib import Path
from typing import Any

from yolojax.errors import install_hint
from yolojax.files import is_address, local_path

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}
_WORDS = 200  # characters of a library's message that are passed on


@dataclasses.dataclass(frozen=True)
class Address:
    """Where something is in a bucket, as the user gave it."""

    text: str

    def __str__(self) -> str:
        """Returns it as it may be shown: without a name and password for the server."""
        return re.sub(r"(?<=://)[^/@]*@", "", self.text)

    @property
    def scheme(self) -> str:
        """What stands before "://"."""
        return self.text.partition("://")[0]

    @property
    def name(self) -> str:
        """A name for a folder of its own."""
        text = re.sub("[^A-Za-z0-9.]+", "-", str(self)).strip("-")[-80:]
        own = hashlib.sha256(self.text.rstrip("/").encode()).hexdigest()[:8]
        return f"{text}-{own}"

    def opened(self, key: str = "--workdir") -> tuple[Any, str]:
        """Returns the file system of fsspec, and the path of the address in it.

        Args:
            key: what the user calls it, for messages.

        Raises:
            ValueError: there is none for this scheme, or its library is missing.
        """
        import fsspec

        if "::" in self.text:
            raise ValueError(
                f"{key} {self}: an address that leads through another one cannot be"
                " used. Give a plain one, such as s3://bucket/run."
            )
        # In a bucket folders are no more than parts of names; a disk has to have them.
        options = {"auto_mkdir": True} if self.scheme in ("file", "local") else {}
        try:
            system, path = fsspec.core.url_to_fs(self.text, **options)
        except ImportError as error:
            raise ValueError(
                f"{key} {self}: {self.scheme}:// needs a library that is missing"
                f" ({reason(error)}). {_install(self.scheme)}"
            ) from error
        except Exception as error:  # of many kinds, as the libraries are
            raise ValueError(
                f"{key} {self} cannot be opened: {reason(error)}. Known schemes are"
                " those of fsspec, such as s3://, gs:// and file://."
            ) from error
        return system, path.rstrip("/")


def workdir_of(given: str | os.PathLike[str] | None) -> Path | Address | None:
    """Returns what --workdir names: a folder of this machine, or an address."""
    if given is None:
        return None
    if isinstance(given, str) and is_address(given):
        return Address(given)
    return local_path(given, "--workdir")


def reason(error: BaseException) -> str:
    """Returns why something failed, in a few words on one line."""
    words = " ".join(str(error).split())[:_WORDS].rstrip(".")
    return words or type(error).__name__


def _install(scheme: str) -> str:
    extra = _EXTRAS.get(scheme)
    return f"Install it: {install_hint(extra)}." if extra else "Install it with pip."
