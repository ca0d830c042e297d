"""Which pictures each of several processes looks at."""

import pytest

from yolojax.inference.results import gathered
from yolojax.inference.sources import shares
from yolojax.inference.sources.listing import Item


def items(*names, kind="image"):
    return [Item(kind, f"{name}.jpg", name) for name in names]


def test_pictures_are_dealt_out_in_turn():
    listed = items(*(f"img-{number:03}" for number in range(7)))
    found = [shares.share_of(listed, 3, index) for index in range(3)]
    assert [share.numbers for share in found] == [[0, 3, 6], [1, 4], [2, 5]]
    assert found[1].items == [listed[1], listed[4]]
    assert shares.share_of(listed[:1], 3, 2).items == []


def test_names_in_each_others_way_go_to_one_process():
    listed = items("x", "a", "X", "x-2", "a-2-2", "x-2-2", "b/a", "b_a", "é", "e\u0301")
    groups = [[], []]
    for index in range(2):
        share = shares.share_of(listed, 2, index)
        groups[index] = [item.below for item in share.items]
    assert {"x", "X", "x-2", "x-2-2"} <= set(groups[0])
    assert "a" in groups[1]
    for pair in (("b/a", "b_a"), ("é", "e\u0301")):
        assert any(set(pair) <= set(group) for group in groups)
    assert sorted(sum(groups, [])) == sorted(item.below for item in listed)


@pytest.mark.parametrize(
    ("listed", "what"),
    [
        (items("a", kind="video"), "a.jpg is a video, which one process looks at"),
        (items("a", kind="stream"), "a.jpg is a camera or a stream"),
        (items("a", kind="address"), "a.jpg is no file"),
        (None, "paths on the standard input are read by one process"),
    ],
)
def test_what_is_no_picture_on_a_disk_is_refused(listed, what):
    with pytest.raises(ValueError, match=rf"{what}.*one of 2\. Give .*hosts=off"):
        shares.share_of(listed, 2, 0)


def test_the_list_of_all_has_the_order_of_one(tmp_path):
    manifest = tmp_path / "list.jsonl"
    for index, numbers in enumerate(([1, 10], [], [0, 2])):
        text = "".join(f'{number}\t{{"n":\t{number}}}\n' for number in numbers)
        gathered.part_of(manifest, index).write_text(text)
    gathered.join_parts(manifest, 4)  # one has no part
    lines = manifest.read_text().splitlines()
    assert lines == [f'{{"n":\t{number}}}' for number in (0, 1, 2, 10)]
    assert [path.name for path in tmp_path.iterdir()] == ["list.jsonl"]
    manifest.unlink()
    gathered.join_parts(manifest, 4)
    assert not manifest.exists()
