"""Weight files by name, from a server on this machine that misbehaves on request."""

import dataclasses
import hashlib
import http.server
import io
import json
import logging
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock
from urllib.request import Request

import pytest
from places import ROOT

from yolojax.weights import hub

FILE, SIDECAR = "tiny.pt", "tiny.pt.sha256"
PART, NOTE, LOCK = ".tiny.pt.part", ".tiny.pt.part.json", ".tiny.pt.lock"
DATA, OTHER = (random.Random(seed).randbytes(400_000) for seed in (0, 1))
SHA = hashlib.sha256(DATA).hexdigest()
DATE = "Mon, 30 Sep 2024 15:00:00 GMT"
DATED = {"etag": 'W/"weak"', "headers": {"Last-Modified": DATE}}

# Contents of hash files and notes, beginnings of addresses, and names of files.
RECORDS = ["{sha}  {file}\n", "{SHA} *{file}", "{sha}\n", "{no}  x\n{sha}  {file}"]
NOTES = ["", "[]", "null", {"url": "http://x/y"}, {"total": "9"}, {"total": 7}]
NOTES += [{"validator": value} for value in ("", "a\r\nb", 1)]
NOTES += [{"total": 150_000, "sha256": "0" * 64}]  # as if it were complete
SCHEMES = ["ftp://x/", "file:///x/", "data:,", "x/", ""]
HOSTS = ["[", "a..b", "127.0.0.1:port", "a b", ""]
NAMES = ["", ".", "..", ".a", "a/b", "../a", "a\\b", "C:a", "a\0", "a\n", "{file}"]


@dataclasses.dataclass
class Published:
    """What the server has under every path, and how it misbehaves."""

    data: bytes = DATA
    etag: str = '"one"'
    headers: dict = dataclasses.field(default_factory=dict)  # further ones
    ranges: bool = True
    careless: bool = False  # answers with a range whatever If-Range says
    range_status: int = 206  # of an answer to a request for a range
    shift: int = 0  # added to the start that Content-Range announces
    status: int = 200
    redirect: str | None = None  # address
    cut: int | None = None  # bytes of the body after which the connection ends
    stall: int | None = None  # bytes of the body after which nothing comes
    announce: int | None = None  # Content-Length, if not the true one; -1 for none
    chunked: bool = False
    pause: float = 0.0  # seconds before an answer


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        what, self.close_connection = self.server.published, True
        self.server.requests.append((self.path, dict(self.headers)))
        time.sleep(what.pause)
        if what.redirect is not None and self.path == f"/{FILE}":
            return self.answer(302, {"Location": what.redirect}, b"")
        if what.status != 200:
            return self.answer(what.status, {}, b"gone")
        start, headers = 0, {"ETag": what.etag} | what.headers
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        same = self.headers.get("If-Range") in headers.values() or what.careless
        if wanted and what.ranges and same:
            start, size = int(wanted[1]), len(what.data)
            if what.range_status == 416 or start >= size:
                return self.answer(416, {}, b"")
            headers["Content-Range"] = f"bytes {start + what.shift}-{size - 1}/{size}"
        self.answer(what.range_status if start else 200, headers, what.data[start:])

    def answer(self, status, headers, body):
        what = self.server.published
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if what.chunked:
            self.send_header("Transfer-Encoding", "chunked")
            body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
        elif what.announce != -1:
            self.send_header("Content-Length", str(what.announce or len(body)))
        self.end_headers()
        limits = [limit for limit in (what.cut, what.stall) if limit is not None]
        self.wfile.write(body[: min(limits, default=len(body))])
        if what.stall is not None:
            self.server.ending.wait(30)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """Where downloads go if nothing else is set; nothing is made there."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("YOLOJAX_WEIGHTS", "")  # counts as not set
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    return tmp_path / "cache" / "weights"


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A folder that YOLOJAX_WEIGHTS names."""
    own = tmp_path / "own"
    own.mkdir()
    monkeypatch.setenv("YOLOJAX_WEIGHTS", str(own))
    return own


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.published, server.ending = Published(), threading.Event()
        server.requests = []  # (path, headers)
        server.url = f"http://127.0.0.1:{server.server_port}/{{file}}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.ending.set()
        server.shutdown()
        thread.join()


def names(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def check_whole(folder, data=DATA):
    """Asserts that a folder holds the file and its hash, and nothing else."""
    assert names(folder) == [FILE, SIDECAR]
    assert (folder / FILE).read_bytes() == data
    expected = f"{hashlib.sha256(data).hexdigest()}  {FILE}\n"
    assert (folder / SIDECAR).read_text() == expected


def check_download(server, folder, *asked, data=DATA):
    """Asserts that the file is got by requests for these ranges."""
    server.requests.clear()
    assert hub.locate(FILE, url=server.url) == folder / FILE
    assert [headers.get("Range") for _, headers in server.requests] == list(asked)
    check_whole(folder, data)


def leave_part(server, folder, **changes):
    """Lets a download break off after 150 kB; the server is well again then."""
    server.published = Published(cut=150_000, **changes)
    with pytest.raises(ValueError, match="after 150000 of 400000 bytes .* are kept"):
        hub.locate(FILE, url=server.url)
    assert names(folder) == [LOCK, PART, NOTE]
    server.published.cut = None


def check_refused(server, folder, match, **options):
    """Asserts that a download fails with one clear line, and leaves no file."""
    url = server.url.format(file=FILE)
    with pytest.raises(ValueError, match=match) as info:
        hub.download(url, folder / FILE, **options)
    text = str(info.value)
    assert text.startswith(f"{url} cannot be downloaded: ") and "\n" not in text
    assert text.endswith(
        f"Put the file {FILE} into {folder} (or set YOLOJAX_WEIGHTS to a folder that"
        " has it), or give the path of a file."
    )
    assert set(names(folder)) <= {LOCK, PART, NOTE}


def test_a_download_is_whole_recorded_and_needed_once(server, folder, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    assert hub.locate(FILE, url=server.url) == folder / FILE
    check_whole(folder)
    [(path, headers)] = server.requests
    assert path == f"/{FILE}" and "Range" not in headers
    assert re.fullmatch(r"yolojax/\d+\.\d+\.\d+\S*", headers["User-Agent"])
    begin, end = (record.getMessage() for record in caplog.records)
    assert begin == f"downloading {FILE} (0.4 MB) to {folder}"
    assert end.startswith(f"downloaded {FILE} in ")
    check_download(server, folder)
    assert hub.download(server.url, folder / FILE) == folder / FILE
    check_whole(folder)
    assert hub.locate("a b#1%.pt", url=server.url).read_bytes() == DATA
    assert server.requests[0][0] == "/a%20b%231%25.pt"


def test_a_bar_is_shown_on_a_terminal(server, monkeypatch):
    terminal = io.StringIO()
    terminal.isatty = lambda: True
    monkeypatch.setattr(hub.tqdm, "monitor_interval", 0)  # no thread stays behind
    monkeypatch.setattr(sys, "stderr", terminal)
    hub.locate(FILE, url=server.url)
    assert FILE in terminal.getvalue() and "400k/400k" in terminal.getvalue()


def test_own_folder_is_looked_up_first_and_not_written_to(server, folder, own):
    (own / FILE).write_bytes(b"mine")
    folder.mkdir(parents=True)
    (folder / FILE).write_bytes(b"cached")
    assert hub.locate(FILE, url=server.url) == own / FILE
    (own / FILE).unlink()
    assert hub.locate(FILE, url=server.url) == folder / FILE
    assert names(folder) == [FILE] and names(own) == []
    assert server.requests == []


def test_own_folder_takes_the_download(server, folder, own, monkeypatch, caplog):
    for place in (own, own / "made" / "here"):
        monkeypatch.setenv("YOLOJAX_WEIGHTS", str(place))
        assert hub.locate(FILE, url=server.url) == place / FILE
        assert (place / FILE).read_bytes() == DATA
    assert names(folder) == [] and caplog.text == ""
    other, access = own / "other", os.access  # root may write anywhere: feign it
    monkeypatch.setattr(os, "access", lambda p, m: p != other and access(p, m))
    monkeypatch.setenv("YOLOJAX_WEIGHTS", str(other))
    assert hub.locate(FILE, url=server.url) == folder / FILE
    assert names(other) == [] and f"{other} cannot be written to" in caplog.text


def test_files_and_folders_are_not_confused(server, folder, tmp_path, monkeypatch):
    (folder / FILE).mkdir(parents=True)
    with pytest.raises(ValueError, match="is there, and not a file"):
        hub.locate(FILE, url=server.url)
    (tmp_path / "file").write_text("")
    check_refused(server, tmp_path / "file" / "x", "cannot be downloaded: .*file")
    monkeypatch.setenv("YOLOJAX_WEIGHTS", str(tmp_path / "file"))
    with pytest.raises(ValueError, match="YOLOJAX_WEIGHTS is .*not a folder"):
        hub.locate(FILE, url=server.url)
    assert server.requests == []


@pytest.mark.parametrize("line", RECORDS)
def test_a_recorded_hash_is_compared(own, line):
    text = line.format(sha=SHA, SHA=SHA.upper(), file=FILE, no="0" * 64)
    (own / SIDECAR).write_text(text)
    (own / FILE).write_bytes(DATA)
    assert hub.locate(FILE, url="http://x/{file}") == own / FILE
    (own / FILE).write_bytes(OTHER)
    damaged = hashlib.sha256(OTHER).hexdigest()
    with pytest.raises(ValueError, match=f"damaged.*{damaged}.*{SHA}.*Remove both"):
        hub.locate(FILE, url="http://x/{file}")
    assert (own / SIDECAR).read_text() == text and names(own) == [FILE, SIDECAR]


@pytest.mark.parametrize("line", ["", "abc  tiny.pt", "0" * 64 + "  other.pt", "\0ÿ"])
def test_a_record_that_says_nothing_is_refused(server, own, line):
    (own / SIDECAR).write_text(line, encoding="latin-1")
    for _ in range(2):  # before a download, and beside a file
        with pytest.raises(ValueError, match=r"tiny\.pt\.sha256 has no line"):
            hub.locate(FILE, url=server.url)
        (own / FILE).write_bytes(DATA)
    assert server.requests == []


def test_a_download_with_another_hash_is_not_kept(server, own):
    (own / SIDECAR).write_text(f"{'0' * 64}  {FILE}\n")
    with pytest.raises(ValueError, match=f"{SHA}.*{'0' * 64}.*Put the file"):
        hub.locate(FILE, url=server.url)
    assert names(own) == [LOCK, SIDECAR]
    (own / SIDECAR).write_text(f"{SHA}  {FILE}\n")
    check_download(server, own, None)


@pytest.mark.parametrize("changes", [{}, DATED, {"redirect": "/elsewhere?token=1"}])
def test_a_cut_download_is_continued(server, folder, changes):
    leave_part(server, folder, **changes)
    assert (folder / PART).read_bytes() == DATA[:150_000]
    check_download(server, folder, *["bytes=150000-"] * (1 + ("redirect" in changes)))
    validator = server.requests[-1][1]["If-Range"]
    assert validator == (DATE if changes == DATED else '"one"')


@pytest.mark.parametrize(
    ("changes", "requests"),
    [
        ({"etag": '"two"', "data": OTHER}, 1),  # the server answers 200 at once
        ({"etag": '"two"', "data": OTHER, "careless": True}, 2),
        ({"ranges": False, "data": OTHER}, 1),
        ({"range_status": 416, "data": OTHER}, 2),
        ({"range_status": 203, "data": OTHER}, 2),
        ({"data": OTHER[:100_000]}, 2),  # shorter than the part
        ({"data": OTHER[:300_000]}, 2),
        ({"shift": 1}, 2),
    ],
)
def test_what_cannot_be_continued_starts_over(server, folder, changes, requests):
    leave_part(server, folder)
    server.published = Published(**changes)
    asked = ["bytes=150000-", None][:requests]
    check_download(server, folder, *asked, data=changes.get("data", DATA))


@pytest.mark.parametrize("change", NOTES)
def test_a_note_that_does_not_fit_starts_over(server, folder, change):
    leave_part(server, folder)
    note = json.loads((folder / NOTE).read_text())
    assert (note["validator"], note["total"]) == ('"one"', len(DATA))
    text = json.dumps(note | change) if isinstance(change, dict) else change
    (folder / NOTE).write_text(text)
    check_download(server, folder, None)


def test_what_is_complete_needs_no_network(server, folder):
    leave_part(server, folder)
    (folder / PART).write_bytes(DATA)
    check_download(server, folder)
    (folder / SIDECAR).unlink()
    hub._write_note(folder / FILE, hub._Note("", "", 1, "0" * 64))  # of another file
    hub.locate(FILE, url=server.url)
    assert server.requests == [] and names(folder) == [FILE]  # no hash is claimed


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        *(({"status": n}, f"the server answered {n} ") for n in (404, 403, 503, 204)),
        ({"headers": {"Content-Type": "text/html; charset=utf-8"}}, "a web page"),
        ({"headers": {"Content-Encoding": "gzip"}}, "compressed"),
        ({"announce": -1}, "does not say how large"),
        ({"data": b""}, "empty file"),
        ({"chunked": True, "cut": 200_000}, "connection ended before"),
        ({"announce": 3 * 1024**3}, "3221.2 MB, the limit is 2147.5 MB"),
        ({"cut": 9, "etag": 'W/"weak"'}, "ended after 9 of 400000 bytes"),
        ({"redirect": "file:///tiny"}, "302 .*not allowed"),
        ({"redirect": "ftp://127.0.0.1/x"}, "302 .*is not followed"),
        ({"redirect": "http://["}, "an address is not valid"),
        ({"redirect": f"/{FILE}"}, "infinite loop"),
    ],
)
def test_what_is_no_weights_file_is_refused(server, folder, changes, match):
    server.published = Published(**changes)
    check_refused(server, folder, match)
    assert names(folder) == [LOCK]  # nothing to continue
    server.published = Published()
    check_download(server, folder, None)


@pytest.mark.parametrize("chunked", [False, True])
def test_the_size_is_limited(server, folder, chunked):
    server.published = Published(chunked=chunked)
    check_refused(server, folder, "limit", limit=len(DATA) - 1)
    assert names(folder) == [LOCK]
    hub.download(server.url.format(file=FILE), folder / FILE, limit=len(DATA))
    check_whole(folder)


def test_a_server_that_sends_too_little(server, folder, monkeypatch):
    monkeypatch.setattr(hub, "_TIMEOUT_S", 0.3)
    server.published = Published(stall=100_000)
    check_refused(server, folder, "sent nothing for 0.3 s.* 0.1 MB of it are kept")
    server.published = Published(announce=400_005)  # another total: starts over
    check_refused(
        server, folder, "after 400000 of 400005 bytes.* 0.4 MB of it are kept"
    )
    server.published = Published(cut=9, etag="")  # forgets what was kept
    check_refused(server, folder, "after 9 of 400000 bytes")
    assert names(folder) == [LOCK]


def test_no_network(folder, monkeypatch):
    monkeypatch.setattr(hub, "_TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/{{file}}"
        with pytest.raises(ValueError, match="sent nothing for 0.2 s"):
            hub.locate(FILE, url=url)
    with pytest.raises(ValueError, match="Connection refused.*Put the file tiny.pt"):
        hub.locate(FILE, url=url)
    assert names(folder) == [LOCK]


def test_a_redirect_keeps_the_protection_of_https():
    handler, old = hub._Redirects(), Request("https://a/x")
    with pytest.raises(OSError, match="not followed") as info:
        handler.redirect_request(old, io.BytesIO(), 302, "Found", {}, "http://a/x")
    info.value.close()


def test_a_full_disk(server, folder, monkeypatch):
    leave_part(server, folder)
    usage = hub.shutil.disk_usage(ROOT)._replace(free=249_999)
    with monkeypatch.context() as patch:
        patch.setattr(hub.shutil, "disk_usage", lambda path: usage)
        check_refused(server, folder, "takes 0.2 MB, and only 0.2 MB are free in ")
        usage = usage._replace(free=250_000)  # enough for what is missing
        patch.setattr(os, "fsync", Mock(side_effect=OSError(28, "No space left")))
        check_refused(server, folder, "No space left")
    check_download(server, folder)  # all had arrived


@pytest.mark.parametrize("start", SCHEMES + [f"http://{host}/" for host in HOSTS])
def test_an_unusable_address_is_one_clear_error(start):
    what = "cannot be downloaded: .*" + "http:// or https://" * (start in SCHEMES)
    with pytest.raises(ValueError, match=f"{what}.*Put the file"):
        hub.locate(FILE, url=start + "{file}")


@pytest.mark.parametrize("file", [*NAMES, "x" * 201, "\udc80.pt"])
def test_a_name_must_be_plain_and_have_a_place(file):
    with pytest.raises(ValueError, match="not the plain name of a file"):
        hub.locate(file, url="http://x/{file}")
    with pytest.raises(ValueError, match=r"'http://x/y' has no place.*\{file\}"):
        hub.locate(FILE, url="http://x/y")


RUN = """import sys; from yolojax.weights import hub
hub.locate(sys.argv[1], url=sys.argv[2])"""

# Forks, so that Python starts once: the n-th child dies before its n-th change of the
# file system. Prints how each ended and the hash of the file that it left.
KILLED = """
import hashlib, json, os, signal, sys
from pathlib import Path
from yolojax.weights import hub
def count(event, arguments):
    global left
    writes = event == "open" and arguments[2] & (os.O_WRONLY | os.O_RDWR)
    if writes and str(arguments[0]).endswith("/tiny.pt"):
        os._exit(1)  # a kill could leave a half of it
    if writes or event in ("os.rename", "os.remove", "os.mkdir"):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)
results = []
while len(results) < 99 and (not results or results[-1][0]):
    folder = Path(sys.argv[2]) / str(len(results))
    process = os.fork()
    if process == 0:
        os.environ["YOLOJAX_WEIGHTS"] = str(folder)
        left = len(results)
        sys.addaudithook(count)
        hub.locate("tiny.pt", url=sys.argv[1])
        os._exit(0)
    status = os.waitpid(process, 0)[1]
    found = [hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.glob("t*.pt")]
    results.append([status, *(found or [""]), (folder / "tiny.pt.sha256").exists()])
print(json.dumps(results))
"""


def child(code, *arguments):
    """Starts another Python process with the environment of this one."""
    command, pipe = [sys.executable, "-c", code, *arguments], subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True)


def output(process, status=0):
    """Returns what a process has printed, after it ended with that status."""
    out, err = process.communicate(timeout=60)
    assert process.returncode == status, err
    return out


@pytest.mark.process
def test_threads_and_processes_download_once(server, folder, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    server.published = Published(pause=0.8)
    children = [child(RUN, FILE, server.url) for _ in range(2)]
    with ThreadPoolExecutor(3) as pool:
        found = list(pool.map(lambda _: hub.locate(FILE, url=server.url), range(3)))
    assert [output(process) for process in children] == ["", ""]
    assert found == [folder / FILE] * 3 and len(server.requests) == 1
    assert "waiting for another process" in caplog.text
    check_whole(folder)


@pytest.mark.process
def test_a_process_killed_in_mid_download(server, folder):
    server.published, part = Published(stall=300_000), folder / PART
    process, end = child(RUN, FILE, server.url), time.monotonic() + 20
    try:
        while not part.exists() or part.stat().st_size < 250_000:
            assert time.monotonic() < end
            time.sleep(0.01)
    finally:
        process.kill()
        output(process, -signal.SIGKILL)
    assert names(folder) == [LOCK, PART, NOTE]
    server.published = Published()
    check_download(server, folder, f"bytes={part.stat().st_size}-")


@pytest.mark.process
def test_a_kill_leaves_a_whole_file_or_none(server, tmp_path, monkeypatch):
    results = json.loads(output(child(KILLED, server.url, str(tmp_path))))
    statuses, found, recorded = map(list, zip(*results, strict=True))
    assert statuses == [signal.SIGKILL] * (len(results) - 1) + [0]
    assert set(found) == {"", SHA} and found == sorted(found)  # once there, it stays
    assert (SHA, False) in zip(found, recorded, strict=True)  # between file and hash
    for number, sha in enumerate(found):
        monkeypatch.setenv("YOLOJAX_WEIGHTS", str(tmp_path / str(number)))
        server.requests.clear()
        place = hub.locate(FILE, url=server.url).parent
        assert not sha or not server.requests
        (place / LOCK).unlink(missing_ok=True)  # stays if killed right before the end
        check_whole(place)
