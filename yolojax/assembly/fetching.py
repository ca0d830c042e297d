"""Data sets and weights at addresses such as s3://bucket/set, copied into the cache.

    <cache>/fetched/<address>-<hash>/content      the file, or all of a set
    <cache>/fetched/<address>-<hash>/SHA256SUMS   as sha256sum writes it

A copy is whole or not there. It is made once: to have it made anew it is removed.
"""

import hashlib
import logging
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from yolojax.cache import cache_root, make_directory
from yolojax.files import full_disk
from yolojax.runs.mirror.address import Address, reason
from yolojax.runs.mirror.place import Place
from yolojax.runs.mirror.scratch import download, newest_at
from yolojax.weights.sources import SAFETENSORS, TORCH

SUMS, CONTENT = "SHA256SUMS", "content"
DESCRIPTIONS = (".yaml", ".yml")
_AT_ONCE = 256  # files that a library may fetch side by side
_OF_SETS = {"train", "val", "test", "images", "labels", "annotations"}

log = logging.getLogger("yolojax")


def weights_at(text: str, key: str) -> Path:
    """Returns the copy of a file of weights, or of a run that lives in a bucket.

    Of a run the newest state is taken, so that there is a copy for each of them.

    Args:
        text: its address.
        key: the setting that names it, for messages.

    Raises:
        ValueError: it cannot be fetched, or its copy is damaged.
    """
    address = Address(text.rstrip("/"))
    system, path = address.opened(f"config.{key}")
    if PurePosixPath(path).suffix not in (*TORCH, SAFETENSORS):
        return _run_at(address, key, Place(address, system, path))
    root = _copied(address, key, lambda folder: _get(system, {path: folder}, path))
    for line in (root / SUMS).read_text("utf-8").splitlines():
        recorded, _, name = line.partition("  ")
        if _sha256(root / CONTENT / name) != recorded:
            raise ValueError(
                f"{root / CONTENT / name} is not what was fetched from {address}:"
                f" its sha256 is not {recorded}. Remove {root} to fetch it anew."
            )
    return root / CONTENT / PurePosixPath(path).name


def data_at(text: str) -> Path:
    """Returns the copy of a data set.

    Args:
        text: address of its folder, of a .yaml file in that, or of a .zip archive.

    Raises:
        ValueError: it cannot be fetched.
    """
    address = Address(text.rstrip("/"))
    system, path = address.opened("config.data")
    place = PurePosixPath(path)
    if place.suffix == ".zip":

        def write(folder: Path) -> None:
            _get(system, {path: folder}, path)
            with zipfile.ZipFile(folder / place.name) as archive:
                archive.extractall(folder)  # never above the folder
            (folder / place.name).unlink()

        return _innermost(_copied(address, "data", write) / CONTENT)
    described = place.suffix in DESCRIPTIONS
    top = str(place.parent) if described else path

    def write_all(folder: Path) -> None:
        sizes = {p: i["size"] for p, i in system.find(top, detail=True).items()}
        if not sizes:
            raise FileNotFoundError("there is no file")
        free = shutil.disk_usage(folder).free
        if sum(sizes.values()) > free:
            raise ValueError(
                f"config.data = {text!r} takes {sum(sizes.values()) / 2**20:.0f} MiB,"
                f" and {free / 2**20:.0f} MiB are free in {folder.parent}. Make room,"
                " or let YOLOJAX_CACHE name a folder on another disk."
            )
        _get(system, dict.fromkeys(sizes, folder), top)

    root = _copied(address, "data", write_all) / CONTENT
    return root / place.name if described else root


def _run_at(address: Address, key: str, place: Place) -> Path:
    """Returns the copy of the newest state of a run."""
    try:
        manifest = newest_at(place)
    except Exception as error:  # of many kinds, as the libraries are
        raise _not_fetched(address, key, error) from error
    if manifest is None:
        raise ValueError(
            f"config.{key} = '{address}' holds no run. Give the address of a run that"
            f" lives there, or of a file that ends in {', '.join(TORCH)} or"
            f" {SAFETENSORS}."
        )
    state = Address(f"{address.text}#{manifest.number}-{manifest.start}")
    return (
        _copied(state, key, lambda folder: download(place, manifest, folder)) / CONTENT
    )


def _copied(address: Address, key: str, write: Callable[[Path], None]) -> Path:
    """Returns the folder of a copy, made if it is not there.

    Args:
        address: of what is copied.
        key: the setting that names it.
        write: fills a folder.

    Raises:
        ValueError: it cannot be made.
    """
    root = cache_root() / "fetched" / address.name

    def fill(folder: Path) -> None:
        log.info("copying %s into %s", address, root)
        (folder / CONTENT).mkdir()
        try:
            write(folder / CONTENT)
        except Exception as error:  # of many kinds, as the libraries are
            if isinstance(error, ValueError) or full_disk(error):
                raise
            raise _not_fetched(address, key, error) from error
        files = sorted(p for p in (folder / CONTENT).rglob("*") if p.is_file())
        lines = [
            f"{_sha256(p)}  {p.relative_to(folder / CONTENT).as_posix()}\n"
            for p in files
        ]
        (folder / SUMS).write_text("".join(lines), encoding="utf-8")

    make_directory(root, fill)
    return root


def _not_fetched(address: Address, key: str, error: Exception) -> ValueError:
    return ValueError(
        f"config.{key} = '{address}' cannot be fetched ({reason(error)}). Correct the"
        " address, or copy it to this machine and give its path."
    )


def _get(system: Any, places: dict[str, Path], top: str) -> None:
    """Fetches files.

    Args:
        system: file system of fsspec.
        places: folder of each path.
        top: path of all, which stays out of their names here; that of a file is it.
    """
    pairs = []
    for path, folder in places.items():
        inside = path[len(top) :].strip("/") or PurePosixPath(path).name
        if ".." in PurePosixPath(inside).parts:
            raise ValueError(f"{path} is no name of a file that can be copied.")
        (folder / inside).parent.mkdir(parents=True, exist_ok=True)
        pairs.append((path, str(folder / inside)))
    for i in range(0, len(pairs), _AT_ONCE):
        part = pairs[i : i + _AT_ONCE]
        system.get([path for path, _ in part], [target for _, target in part])


def _innermost(folder: Path) -> Path:
    """Returns what an archive is of, where all of it is in one folder."""
    inside = list(folder.iterdir())
    one = len(inside) == 1 and inside[0].is_dir() and inside[0].name not in _OF_SETS
    return _innermost(inside[0]) if one else folder


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
