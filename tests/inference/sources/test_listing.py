"""What a source stands for: files, folders, patterns, lists, addresses, arrays."""

import io
import os

import numpy as np
import pytest
from PIL import Image

from yolojax.inference.sources import listed
from yolojax.inference.sources.listing import Item

GREY = np.zeros((2, 3), np.uint8)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A folder of empty files, which the working directory is."""
    names = "b.jpg a.PNG film.mp4 notes.md in/c.jpg in/deep/d.tif in/b.jpg empty/.keep"
    for name in names.split():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def pairs(source, **options):
    """Returns (kind, path) of what a source stands for."""
    return [(item.kind, item.path) for item in listed(source, **options)]


def places(source):
    return [item.below for item in listed(source)]


def test_a_file_is_itself(tree):
    assert pairs("b.jpg") == [("image", "b.jpg")]
    assert pairs(tree / "a.PNG") == [("image", str(tree / "a.PNG"))]
    assert list(listed("film.mp4")) == [Item("video", "film.mp4", "film")]


def test_a_folder_is_its_own_files_in_order(tree):
    assert pairs(".") == [
        ("image", "a.PNG"),
        ("image", "b.jpg"),
        ("video", "film.mp4"),
    ]


def test_patterns_go_as_deep_as_they_say_and_keep_the_folders(tree):
    assert pairs("*.jpg") == [("image", "b.jpg")]
    assert places("in/*") == ["b", "c"]
    assert places("**/*.jpg") == ["b", "in/b", "in/c"]
    assert places("in/**") == ["b", "c", "deep/d"]
    assert places(f"{tree}/**/d.*") == ["in/deep/d"]


def test_results_never_leave_their_folder(tree):
    assert places(f"{tree}/in/../in/*.jpg") == ["b", "c"]
    os.chdir("in/deep")
    assert places("../*/../*.jpg") == ["deep/b", "deep/c"]
    assert places(["../../../nothing", "..", "http://x.org/a/%2e%2e%2f.."]) == [
        *("nothing", "b", "c", "source"),
    ]


def test_a_name_that_looks_like_a_pattern_is_a_file_if_there_is_one(tree):
    (tree / "photo[1].jpg").touch()
    (tree / "7").touch()
    assert pairs("photo[1].jpg") == [("image", "photo[1].jpg")]
    assert pairs(["7"])[0][0] == "missing"


def test_a_list_is_read_line_by_line(tree):
    text = "\ufeffb.jpg\r\n\r\n  in/*.jpg \nfilm.mp4\nhttp://x.org/e.jpg\nempty\n"
    (tree / "list.txt").write_text(text, encoding="utf-8", newline="")
    assert pairs("list.txt") == [
        ("image", "b.jpg"),
        ("image", "in/b.jpg"),
        ("image", "in/c.jpg"),
        ("video", "film.mp4"),
        ("address", "http://x.org/e.jpg"),
        ("missing", "empty"),
    ]


def test_entries_may_be_relative_to_the_list(tree):
    (tree / "in" / "list.txt").write_text("c.jpg\ndeep\ndeep/*.tif\nb.jpg\n")
    assert [path for _, path in pairs("in/list.txt")] == [
        *("in/c.jpg", "in/deep/d.tif", "in/deep/d.tif"),
        "b.jpg",  # of the working directory, which comes first
    ]


def test_a_csv_names_one_source_in_each_cell(tree):
    (tree / "list.csv").write_text('source\nb.jpg,,"a.PNG"\n\nin/c.jpg\n')
    assert [path for _, path in pairs("list.csv")] == ["b.jpg", "a.PNG", "in/c.jpg"]


def test_a_list_that_names_itself_ends(tree):
    (tree / "list.txt").write_text("list.txt\n")
    ((kind, path),) = pairs("list.txt")
    assert (kind, path) == ("missing", "list.txt")


def test_several_sources_keep_their_order_and_what_is_missing_stops_none(tree):
    sources = ["film.mp4", GREY, tree / "b.jpg", "no.jpg", Image.new("L", (2, 2)), 0]
    items = list(listed(sources))
    kinds = [item.kind for item in items]
    assert kinds == ["video", "array", "image", "missing", "array", "stream"]
    assert [item.below for item in items[1::3]] == ["image1", "image4"]
    assert items[1].content is GREY
    assert "there is no such file" in items[3].content


def test_several_are_taken_one_by_one():
    def endless():
        while True:
            yield GREY

    items = listed(endless())
    assert [next(items).path for _ in range(3)] == ["image0", "image1", "image2"]


@pytest.mark.parametrize(
    ("source", "kind", "below"),
    [
        (0, "stream", "camera0"),
        ("12", "stream", "camera12"),
        ("rtsp://user@host:554/live.sdp?x=1", "stream", "live"),
        ("RTMP://host/a", "stream", "a"),
        ("https://host/pictures/one%20two.jpg?size=1", "address", "one_two"),
        ("http://host:81", "address", "host"),
        ("http://host/..%2f..%2fetc%2fpasswd", "address", "passwd"),
        ("http://host/%00", "address", "_"),
        (GREY, "array", "image0"),
        (Image.new("L", (2, 2)), "array", "image0"),
    ],
)
def test_other_kinds(source, kind, below):
    (item,) = listed(source)
    assert (item.kind, item.below) == (kind, below)
    assert item.live == (kind == "stream")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("rtsp://me:secret@host:554/a", "rtsp://me:***@host:554/a"),
        ("http://me:se@cret@host/a.png", "http://me:***@host/a.png"),
        ("http://me@host/a:b@c.png", "http://me@host/a:b@c.png"),
        ("http://host:80/a?b=c:d@e", "http://host:80/a?b=c:d@e"),
    ],
)
def test_passwords_are_not_shown(given, shown):
    (item,) = listed(given)
    assert (item.path, item.address) == (shown, given)


def test_standard_input_is_read_as_it_comes(tree):
    def lines():
        yield "b.jpg\n"
        yield "\n"
        yield " in \n"
        yield "-\n"
        raise AssertionError("read ahead")

    items = listed("-", stdin=lines())
    assert [next(items).path for _ in range(4)] == [
        "b.jpg",
        "in/b.jpg",
        "in/c.jpg",
        "-",
    ]
    assert pairs("-", stdin=io.StringIO("no.jpg\n")) == [("missing", "no.jpg")]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "it is empty. Give a picture"),
        (" ", "it is empty"),
        ("no.jpg", r"'no.jpg': there is no such file or folder \(looked for /.*no.jpg"),
        ("empty", r"no pictures or videos in this folder.*'empty/\*\*'.*jpg.*mp4.*txt"),
        ("in/*.gif", "no picture or video fits this pattern. Pictures end in avif"),
        ("notes.md", "a file of this kind cannot be read. Pictures end in"),
        ("-", "no path came in on the standard input"),
        ("blank.txt", "this list names nothing"),
        ("binary.txt", "this list cannot be read: 'utf-8' codec"),
        ("http://[::1", "this is no address"),
        ("x" * 5000, "there is no such file"),
        ("a\0b", "there is no such file"),
        (os.devnull, "this is neither a file nor a folder"),
        (1234, "there is no such file"),
        (None, "expected a path, an address, an array"),
        (True, "expected a path"),
        (b"b.jpg", "expected a path"),
        ({"b.jpg": 1}, "expected a path"),
        (["b.jpg", 1.5], r"source\[1\] = float 1.5: expected a path"),
    ],
)
def test_what_stands_for_nothing_is_one_clear_error(tree, source, message):
    (tree / "blank.txt").write_text(" \n\n")
    (tree / "binary.txt").write_bytes(b"\xff\xfe\0\1")
    with pytest.raises(ValueError, match=message):
        pairs(source, stdin=io.StringIO())


def test_a_folder_that_cannot_be_read_is_told(tree, monkeypatch):
    def refused(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", refused)
    with pytest.raises(ValueError, match="folder cannot be read: Permission denied"):
        pairs("in")
