"""Which images a split names: patterns, several roots, links, each file once."""

import json
import os

import pytest
from yolo_files import add, opened, picture_file, write_yaml

from yolojax.data.formats import description


@pytest.fixture
def folder(tmp_path):
    """Returns the root of a data set of four training and one validation image."""
    for number in range(4):
        add(tmp_path, "train", f"t{number}")
    add(tmp_path, "val", "v0")
    return tmp_path


def names_of(source):
    return [os.path.basename(path) for path in source.paths]


@pytest.mark.parametrize(
    ("train", "expected"),
    [
        ("images/train/t[02].jpg", ["t0", "t2"]),
        ("images/tr*", ["t0", "t1", "t2", "t3"]),
        ("images/**/*0.jpg", ["t0", "v0"]),
        ("images/**", ["t0", "t1", "t2", "t3", "v0"]),
        ("'**/*.jpg'", ["t0", "t1", "t2", "t3", "v0"]),
        ("[images/train/t1.jpg, 'images/v*']", ["t1", "v0"]),
        ("'*.txt'", ["t3", "v0"]),
    ],
)
def test_patterns(folder, train, expected):
    (folder / "some.txt").write_text("images/train/t3.jpg\nimages/val/v0.jpg\n")
    (folder / "images/notes.csv").write_bytes(b"\xff\xfe")  # no list of images
    write_yaml(folder, f"names: [a, b, c]\nval: images/val\ntrain: {train}\n")
    assert names_of(opened(folder)) == [f"{name}.jpg" for name in expected]


def test_a_pattern_that_matches_nothing_is_an_error(folder):
    path = write_yaml(folder, "names: [a]\nval: images/val\ntrain: images/x*/*.jpg\n")
    with pytest.raises(ValueError, match="matches nothing") as caught:
        opened(folder)
    for word in (str(path), "train = 'images/x*/*.jpg'", f"below {folder}.", "`path`"):
        assert word in str(caught.value)
    assert len(opened(folder, "val")) == 1


def test_several_roots_and_brackets_in_their_names(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other") / "more [1]*"
    add(other, "a", "o1")
    add(other, "b", "o2")
    (other / "images/b/o3.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    os.rename(other / "images/b/o2.jpg", other / "b.jpg")
    (other / "b.txt").write_text("2 0.5 0.5 0.1 0.1\n")  # beside it: no `images`
    entries = ["images/train/t*.jpg", str(other / "images/a"), str(other / "b.jpg")]
    write_yaml(
        folder, f"names: [a, b, c]\nval: images/val\ntrain: {json.dumps(entries)}\n"
    )
    found = opened(folder)
    assert list(found.paths) == sorted(found.paths)
    assert sorted(names_of(found)) == sorted(
        ["t0.jpg", "t1.jpg", "t2.jpg", "t3.jpg", "o1.jpg", "b.jpg"]
    )
    assert found.labels[names_of(found).index("b.jpg")][0, 0] == 2
    # Only what the description says is a pattern, not the name of its folder.
    write_yaml(other, "names: [a, b, c]\nval: images/a\ntrain: images/*\n")
    assert names_of(opened(other)) == ["o1.jpg"]


def test_every_file_is_used_once(folder, caplog):
    (folder / "again").symlink_to(folder / "images/train")
    (folder / "images/val/link.jpg").symlink_to(folder / "images/train/t2.jpg")
    text = "names: [a, b, c]\nval: images/val\ntrain: {}\n"
    write_yaml(folder, text.format("[images/train, images/train/t1.jpg, images/val]"))
    assert names_of(opened(folder)) == [
        "t0.jpg",
        "t1.jpg",
        "t2.jpg",
        "t3.jpg",
        "v0.jpg",
    ]
    assert "train names 2 files more than once; each is used once" in caplog.text
    write_yaml(folder, text.format("[images/train, again]"))
    assert opened(folder).paths[0] == str(folder / "images/train/t0.jpg")
    assert len(opened(folder)) == 4
    caplog.clear()
    write_yaml(folder, text.format("images/train"))
    assert len(opened(folder)) == 4 and not caplog.text


def test_hidden_files_are_no_images(folder):
    text = "names: [a, b, c]\nval: images/val\ntrain: {}\n"
    add(folder, "train", "._t0", text=None)
    add(folder, "train/.ipynb_checkpoints", "t0-checkpoint", text=None)
    for train in ("images/train", "images/train/**/*.jpg"):
        write_yaml(folder, text.format(train))
        assert names_of(opened(folder)) == [f"t{i}.jpg" for i in range(4)]


@pytest.mark.parametrize("name", [".h.png", ".more/h.png"])
def test_a_split_of_hidden_images_says_so(folder, name):
    (folder / "images/bare").mkdir()
    write_yaml(folder, "names: [a, b, c]\nval: images/val\ntrain: images/bare\n")
    with pytest.raises(ValueError, match="train names no image") as caught:
        opened(folder)
    assert " is hidden" not in str(caught.value)
    picture_file(folder / "images/bare" / name)
    with pytest.raises(ValueError, match="hidden: what starts with a dot") as caught:
        opened(folder)
    assert f"{folder}/images/bare/{name} is hidden" in str(caught.value)


def test_folders_counted_from_one_below(folder, caplog):
    path = write_yaml(
        folder, "names: [a, b, c]\nval: ../images/val\ntrain: ../images/train\n"
    )
    assert len(opened(folder)) == 4 and len(opened(folder, "val")) == 1
    (told,) = (m for m in caplog.messages if "train" in m)
    assert told == (
        f"{path}: train = '../images/train' does not exist; {folder}/images/train is"
        " used"
    )
    write_yaml(folder, "names: [a]\nval: images/val\ntrain: ../images/x\n")
    with pytest.raises(FileNotFoundError, match="'../images/x' does not exist"):
        opened(folder)


def test_lines_of_a_list_lead_on_from_where_links_lead(folder, tmp_path_factory):
    store = tmp_path_factory.mktemp("store")
    (store / "lists").mkdir()
    (folder / "lists").symlink_to(store / "lists")
    add(store, "train", "far", text="2 0.5 0.5 0.1 0.1\n")
    (store / "lists/a.txt").write_text(
        "./../images/train/far.jpg\nlists/../images/train/far.jpg\n"
    )
    write_yaml(folder, "names: [a, b, c]\nval: images/val\ntrain: lists/a.txt\n")
    source = opened(folder)
    assert source.paths == (str(store / "images/train/far.jpg"),)
    assert source.labels[0][0, 0] == 2


def test_a_list_without_any_image_shows_its_lines(folder):
    (folder / "list.txt").write_text("'images/train/t1.jpg'\nimages/train/t2\n")
    write_yaml(folder, "names: [a, b, c]\nval: images/val\ntrain: list.txt\n")
    with pytest.raises(ValueError, match="names no image.*list.txt:1: .*t1.jpg"):
        opened(folder)


def test_other_slashes_are_named_where_nothing_is_found(folder):
    text = "names: [a, b, c]\nval: images/val\ntrain: {}\n"
    write_yaml(folder, text.format("images\\tr*"))
    with pytest.raises(ValueError, match=r"matches nothing .* Write / instead of \\\."):
        opened(folder)
    names = ("images\\train\\t0.jpg", "images/train/t1.jpg", "images/train/gone.jpg")
    (folder / "list.txt").write_text("\n".join(names))
    write_yaml(folder, text.format("list.txt"))
    gone, other = opened(folder).problems
    assert "Write / instead of \\ (unreadable_image)" in str(other)
    assert gone.dropped and "gone.jpg" in str(gone) and "Write" not in str(gone)
    # A file may well be called so.
    add(folder, "train", "back\\slash")
    (folder / "list.txt").write_text("images/train/back\\slash.jpg")
    assert not opened(folder).problems


@pytest.mark.parametrize("name", ["train.txt", "images/*/*.jpg", "train.json"])
def test_what_has_no_names_is_no_description(folder, name):
    (folder / "train.txt").write_text("images/train/t1.jpg\n")
    (folder / "train.json").write_text("{}")
    with pytest.raises(ValueError, match="Write a data.yaml with `train: ") as caught:
        description.read_data_yaml(folder / name)
    assert name in str(caught.value) and "`names`" in str(caught.value)


def test_a_folder_stands_for_its_description(folder):
    write_yaml(folder, "names: [a]\ntrain: images/train\nval: images/val\n")
    assert description.read_data_yaml(folder).path == folder / "data.yaml"
