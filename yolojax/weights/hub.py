"""Weight files by name: found in a folder or downloaded, whole and verified.

`locate` is what the rest of the package calls. Beside a file lies what sha256sum
would write about it, so that a damaged copy is noticed wherever it is read. A
download goes to a hidden part first, which a later call continues:

    yolo11n.pt                 appears in one step, when whole
    yolo11n.pt.sha256          its hash, written right after it
    .yolo11n.pt.part           what has arrived so far
    .yolo11n.pt.part.json      where that comes from; see `_Note`
    .yolo11n.pt.lock           held by the one process that downloads
"""

import contextlib
import dataclasses
import glob
import hashlib
import http.client
import json
import logging
import os
import re
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tqdm import tqdm

import yolojax
from yolojax.cache import cache_root
from yolojax.files import local_path, locked, replace_text

log = logging.getLogger("yolojax")

_TIMEOUT_S = 30.0  # without any byte; a slow download may take as long as it likes
_CHUNK = 256 * 1024  # bytes


def locate(file: str, *, url: str) -> Path:
    """Returns the path of a weights file, which is downloaded if it is nowhere.

    Looked up in the folder that the environment variable YOLOJAX_WEIGHTS names, then
    in `weights` below the cache directory; downloaded into the first of these that
    can be written to. A file with a `.sha256` file beside it must agree with it.

    Args:
        file: name of the file, without any folder.
        url: where it is published, with {file} in place of the name.

    Raises:
        ValueError: the name or the url is unusable, the file does not have the
            recorded hash, or it cannot be downloaded.
    """
    _check_name(file)
    if "{file}" not in url:
        raise ValueError(
            f"url = {url!r} has no place for the name of the file. Write {{file}}"
            " there, as in 'https://host/weights/{file}'."
        )
    own, cached = _own_folder(), cache_root() / "weights"
    for folder in (own, cached):
        if folder is not None and os.path.isfile(folder / file):
            return _found(folder / file)
    folder = cached if own is None else _writable(own, cached, file)
    return download(url.replace("{file}", urllib.parse.quote(file)), folder / file)


def download(url: str, target: Path, *, limit: int = 2 * 1024**3) -> Path:
    """Returns target, downloaded if it is not there yet: whole or not at all.

    A download that broke off is continued where the server confirms that the file is
    still the same one. Of several processes at once one downloads, the others wait.

    Args:
        url: http or https.
        target: file to make; its folder is made if missing. Its sha256 is recorded
            beside it, or compared with what is recorded there already.
        limit: largest size in bytes; published weights have a tenth of it.

    Raises:
        ValueError: it cannot be downloaded or kept, or has another hash than the
            recorded one.
    """
    if not re.match("https?://", url, re.IGNORECASE):
        raise ValueError(
            f"url = {url!r} cannot be downloaded: it must begin with http:// or"
            f" https://. {_remedy(target)}"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with locked(_hidden(target, "lock"), waiting=f"downloads {target}"):
            if target.is_file():  # somebody else has just downloaded it
                _settle(target)
                _verify(target)
            elif target.exists():
                raise _RefusedError(f"{target} is there, and not a file")
            else:
                recorded = _recorded(target)
                _publish(target, url, _fetch(url, target, limit), recorded)
    except (_RefusedError, OSError, http.client.HTTPException) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
        size = _size(_hidden(target, "part")) if _read_note(target) else 0
        kept = f" {_text(size)} of it are kept for the next try." if size else ""
        raise ValueError(
            f"{url} cannot be downloaded: {_reason(error)}.{kept} {_remedy(target)}"
        ) from error
    return target


class _RefusedError(Exception):
    """What a server sends, or a folder holds, cannot be used; says why."""


@dataclasses.dataclass(frozen=True)
class _Note:
    """Where the bytes of a part come from: what it takes to continue it."""

    url: str
    validator: str  # strong ETag, or date of the last change; "" if there is none
    total: int  # bytes of the whole file
    sha256: str | None = None  # of the whole file; set just before it is published


def _check_name(file: str) -> None:
    # Names that begin with a dot are those of the hidden files; 200 leaves room for
    # their endings in the 255 bytes that file systems allow.
    plain = file.isprintable() and not re.search(r'[/\\:*?"<>|{}]', file)
    if not plain or not file or file[0] == "." or len(file.encode()) > 200:
        raise ValueError(
            f"file = {file!r} is not the plain name of a file, such as 'yolo11n.pt'."
            " To use a file in another folder, give its path instead of a name."
        )


def _own_folder() -> Path | None:
    """Returns the folder that YOLOJAX_WEIGHTS names, if it is set."""
    name = os.environ.get("YOLOJAX_WEIGHTS", "")
    if not name:
        return None
    folder = local_path(name, "the environment variable YOLOJAX_WEIGHTS").absolute()
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise ValueError(
            f"the environment variable YOLOJAX_WEIGHTS is {name!r}, which is not a"
            " folder. Set it to the folder that holds the weights."
        )
    return folder


def _writable(own: Path, cached: Path, file: str) -> Path:
    """Returns the user's own folder for a download, or the cache if that fails."""
    with contextlib.suppress(OSError):
        own.mkdir(parents=True, exist_ok=True)
        if os.access(own, os.W_OK | os.X_OK):
            return own
    text = "YOLOJAX_WEIGHTS: %s cannot be written to, so %s goes to %s"
    log.warning(text, own, file, cached)
    return cached


def _found(target: Path) -> Path:
    """Returns a file that is there already, once it has been verified."""
    leftover = any(_hidden(target, e).exists() for e in ("part", "part.json"))
    try:
        if leftover and os.access(target.parent, os.W_OK | os.X_OK):
            with locked(_hidden(target, "lock"), waiting=f"downloads {target}"):
                _settle(target)
        _verify(target)
    except OSError as error:
        raise ValueError(
            f"{target} cannot be verified: {_reason(error)}. Make it readable, or"
            " give the path of another file."
        ) from error
    return target


def _verify(target: Path) -> None:
    """Compares a file with its recorded hash; one without any is accepted."""
    recorded = _recorded(target)
    if recorded and (found := _sha256(target).hexdigest()) != recorded:
        name = _sidecar(target).name
        raise ValueError(
            f"{target} is damaged or not the file that it was: its sha256 is {found},"
            f" but {name} beside it says {recorded}. Remove both to download the file"
            f" anew, or only {name} if the file is the right one."
        )


def _recorded(target: Path) -> str | None:
    """Returns the sha256 that is recorded beside a file, or None if none is."""
    sidecar = _sidecar(target)
    try:
        text = sidecar.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    for line in text.splitlines():
        match = re.fullmatch(r"([0-9a-fA-F]{64})(?: [ *](.+))?", line.strip())
        if match and match[2] in (None, target.name):
            return match[1].lower()
    raise ValueError(
        f"{sidecar} has no line '<64 hex digits>  {target.name}', as sha256sum writes"
        " it. Correct it, or remove it if the file beside it is the right one."
    )


def _sha256(path: Path) -> Any:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256")


def _fetch(url: str, target: Path, limit: int) -> str:
    """Completes the part of a target and returns its sha256."""
    part, note_path = _hidden(target, "part"), _hidden(target, "part.json")
    note, size = _read_note(target), _size(part)
    if note is None or note.url != url or not 0 < size <= note.total:
        note = None
    elif size == note.total:  # killed when all was there
        found = _sha256(part).hexdigest()
        if note.sha256 in (None, found):
            return found
        note = None
    response, start = _ask(url, note, size)
    with response:
        total = start + response.length if response.length is not None else None
        _check(response, start, total, limit, target)
        if start == 0:
            note_path.unlink(missing_ok=True)  # first: it describes the old part
            part.write_bytes(b"")
            if total and _validator(response):
                _write_note(target, _Note(url, _validator(response), total))
        try:
            return _save(response, target, start, total, limit)
        except Exception:
            if not note_path.exists():  # nothing to continue it by
                part.unlink(missing_ok=True)
            raise


def _ask(url: str, note: _Note | None, size: int) -> tuple[Any, int]:
    """Returns an open response, and how many bytes of the file come before it.

    It continues the part of that note and size if it can, else it holds the whole.
    """
    if note is not None and note.validator:
        wanted = {"Range": f"bytes={size}-", "If-Range": note.validator}
        try:
            response = _open(url, wanted)
        except urllib.error.HTTPError as error:
            error.close()
            if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
                raise
        else:
            if _continues(response, note, size):
                return response, size
            if response.status == http.client.OK:  # a new version, or no ranges here
                return response, 0
            response.close()
    return _open(url, {}), 0


def _continues(response: Any, note: _Note, size: int) -> bool:
    """Whether a response holds exactly what is missing from a part."""
    if response.status != http.client.PARTIAL_CONTENT:
        return False
    expected = f"bytes {size}-{note.total - 1}/{note.total}"
    return (
        response.headers.get("Content-Range", "").strip() == expected
        and response.length == note.total - size
        and _validator(response) in ("", note.validator)
    )


def _validator(response: Any) -> str:
    """Returns what tells this version of a file from others; "" if nothing does."""
    etag = response.headers.get("ETag", "").strip()
    if etag and not etag.startswith("W/"):  # a weak one allows for other bytes
        return etag
    return response.headers.get("Last-Modified", "").strip()


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, and never from https back to http."""

    def http_error_302(
        self, req: Any, fp: Any, code: int, msg: str, headers: Any
    ) -> Any:
        try:
            return super().http_error_302(req, fp, code, msg, headers)
        except ValueError:  # it leads to no address; nobody else closes the answer
            fp.close()
            raise

    http_error_301 = http_error_303 = http_error_307 = http_error_308 = http_error_302

    def redirect_request(self, req: Any, fp: Any, *answer: Any) -> Any:
        code, message, headers, url = answer
        allowed = ("https",) if req.type == "https" else ("http", "https")
        if urllib.parse.urlsplit(url).scheme not in allowed:
            text = f"{message}; its redirect to {url} is not followed"
            raise urllib.error.HTTPError(req.full_url, code, text, headers, fp)
        return super().redirect_request(req, fp, *answer)


def _open(url: str, headers: dict[str, str]) -> Any:
    agent = {"User-Agent": f"yolojax/{yolojax.__version__}"}
    opener = urllib.request.build_opener(_Redirects())
    try:
        request = urllib.request.Request(url, headers=agent | headers)
        return opener.open(request, timeout=_TIMEOUT_S)
    except ValueError as error:  # perhaps of the address that a redirect gives
        raise _RefusedError(f"an address is not valid ({error})") from error


def _check(
    response: Any, start: int, total: int | None, limit: int, target: Path
) -> None:
    """Refuses what is no weights file, or has no room, before anything is written."""
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if response.status != (http.client.PARTIAL_CONTENT if start else http.client.OK):
        raise _RefusedError(f"the server answered {response.status} {response.reason}")
    if response.headers.get_content_type() in ("text/html", "application/xhtml+xml"):
        raise _RefusedError("the server sent a web page instead of the file")
    if encoding not in ("", "identity"):
        raise _RefusedError(f"the server sent it compressed ({encoding})")
    if total is None:
        if not response.chunked:  # a chunked one says where it ends
            raise _RefusedError("the server does not say how large it is")
        return
    if total > limit:
        raise _RefusedError(f"it has {_text(total)}, the limit is {_text(limit)}")
    missing = total - _size(_hidden(target, "part"))
    folder, free = target.parent, shutil.disk_usage(target.parent).free
    if missing > free:
        raise _RefusedError(
            f"it takes {_text(missing)}, and only {_text(free)} are free in {folder}"
        )


def _save(
    response: Any, target: Path, start: int, total: int | None, limit: int
) -> str:
    """Appends a response to the part; returns the sha256 of the whole."""
    part, done = _hidden(target, "part"), start
    digest = _sha256(part)
    with _progress(target, start, total) as advance, open(part, "ab") as file:
        while total is None or done < total:
            data = response.read1(min(_CHUNK, total - done if total else _CHUNK))
            if not data:
                break
            done += len(data)
            if done > limit:
                raise _RefusedError(f"it has more than the limit of {_text(limit)}")
            file.write(data)
            digest.update(data)
            advance(len(data))
        if total is not None and done < total:
            raise _RefusedError(
                f"the connection ended after {done} of {total} bytes of the file"
            )
        if done == 0:
            raise _RefusedError("the server sent an empty file")
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _publish(target: Path, url: str, found: str, recorded: str | None) -> None:
    """Gives a complete part its name, and records its hash beside it."""
    part, sidecar = _hidden(target, "part"), _sidecar(target)
    if recorded not in (None, found):
        _tidy(target)
        raise ValueError(
            f"{url} has the sha256 {found}, but {sidecar} says {recorded}, so it was"
            f" not kept. Remove {sidecar.name} if you know that the published file has"
            f" changed. {_remedy(target)}"
        )
    # A process that is killed between the next two steps leaves a whole file without
    # its hash; by this note a later call writes it.
    _write_note(target, _Note(url, "", part.stat().st_size, found))
    os.replace(part, target)
    replace_text(sidecar, f"{found}  {target.name}\n")
    _tidy(target)


def _settle(target: Path) -> None:
    """Records the hash of a published file, and removes what its download left."""
    note, sidecar = _read_note(target), _sidecar(target)
    if note and note.sha256 and not sidecar.exists():
        if _sha256(target).hexdigest() == note.sha256:  # not replaced by hand since
            replace_text(sidecar, f"{note.sha256}  {target.name}\n")
    _tidy(target)


def _tidy(target: Path) -> None:
    """Removes part and note, and unfinished small files of killed processes."""
    for path in (_sidecar(target), _hidden(target, "part.json")):
        for stale in target.parent.glob(f".{glob.escape(path.name)}.*.tmp"):
            stale.unlink(missing_ok=True)
    _hidden(target, "part").unlink(missing_ok=True)
    _hidden(target, "part.json").unlink(missing_ok=True)


def _read_note(target: Path) -> _Note | None:
    """Returns the note of a part; None, so start anew, if it says nothing usable."""
    try:
        text = _hidden(target, "part.json").read_text(encoding="utf-8")
        note = _Note(**json.loads(text))
    except (OSError, ValueError, TypeError):
        return None
    texts = (note.url, note.validator, note.sha256 or "")
    usable = all(isinstance(t, str) and t.isprintable() for t in texts)
    return note if usable and isinstance(note.total, int) else None


def _write_note(target: Path, note: _Note) -> None:
    text = json.dumps(dataclasses.asdict(note)) + "\n"
    replace_text(_hidden(target, "part.json"), text)


@contextlib.contextmanager
def _progress(target: Path, start: int, total: int | None) -> Iterator[Any]:
    """Yields a function to call with numbers of bytes; shows a bar, or logs."""
    name = target.name
    if sys.stderr is not None and sys.stderr.isatty():
        with tqdm(None, name, total, unit="B", unit_scale=True, initial=start) as bar:
            yield bar.update
        return
    size = "unknown size" if total is None else _text(total)
    log.info("downloading %s (%s) to %s", name, size, target.parent)
    began = time.monotonic()
    yield lambda count: None
    log.info("downloaded %s in %.1f s", name, time.monotonic() - began)


def _size(path: Path) -> int:
    return path.stat().st_size if os.path.isfile(path) else 0


def _text(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 100_000 else f"{count} bytes"


def _reason(error: BaseException) -> str:
    """Returns why something failed, in a few words on one line."""
    if isinstance(error, urllib.error.HTTPError):
        text = f"the server answered {error.code} {error.reason}"
    elif isinstance(error, urllib.error.URLError) and isinstance(error.reason, OSError):
        text = _reason(error.reason)
    elif isinstance(error, TimeoutError):
        text = f"the server sent nothing for {_TIMEOUT_S:g} s"
    elif isinstance(error, http.client.IncompleteRead):
        text = "the connection ended before the file did"
    elif isinstance(error, OSError):
        text = error.strerror or str(error)
        text += f" ({error.filename})" if error.filename else ""
    else:
        text = str(error)
    return " ".join(text.split()).rstrip(".") or type(error).__name__


def _remedy(target: Path) -> str:
    return (
        f"Put the file {target.name} into {target.parent} (or set"
        " YOLOJAX_WEIGHTS to a folder that has it), or give the path of a file."
    )


def _sidecar(target: Path) -> Path:
    return target.with_name(f"{target.name}.sha256")


def _hidden(target: Path, ending: str) -> Path:
    return target.with_name(f".{target.name}.{ending}")
