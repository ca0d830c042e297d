"""What an exported file says of itself is read, or it is said what it lacks."""

from pathlib import Path

import pytest
import yaml

from yolojax.inference.backends.exported import described, is_exported, of_folder

FILE = Path("net.onnx")
TEXTS = {
    "names": "{0: 'cat', 1: 'it''s'}",
    "task": "pose",
    "imgsz": "[320, 640]",
    "batch": "2",
    "kpt_shape": "[17, 3]",
    "args": "{'dynamic': True, 'half': False, 'nms': True}",
    "license": "MIT",
}


def test_all_of_it_is_read():
    found = described(FILE, TEXTS)
    assert found.names == ("cat", "its")
    assert (found.hw, found.batch, found.licence) == ((320, 640), 2, "MIT")
    assert (found.layout.task, found.layout.kpt_shape) == ("pose", (17, 3))
    assert (found.layout.num_classes, found.layout.extra) == (2, 51)
    assert (found.dynamic, found.half, found.suppressed) == (True, False, True)


def test_little_is_needed():
    found = described(FILE, {"names": "['a']", "task": "detect", "imgsz": "64"})
    assert (found.names, found.hw, found.batch) == (("a",), (64, 64), 1)
    assert not (found.dynamic or found.half or found.suppressed)


@pytest.mark.parametrize(
    ("change", "answer"),
    [
        ({"names": None, "imgsz": None}, "its metadata lack names, imgsz"),
        ({"kpt_shape": None}, "lack kpt_shape"),
        ({"task": "fly"}, "say task 'fly'"),
        ({"names": "{1: 'a'}"}, "names = {1: 'a'}"),
        ({"names": "cat"}, "names = cat"),
        ({"names": "{}"}, "names = {}"),
        ({"imgsz": "(1, 2, 3)"}, "imgsz"),
        ({"imgsz": "['a', 'b']"}, "imgsz"),
        ({"imgsz": "-5"}, "imgsz"),
        ({"batch": "0"}, "batch = 0"),
        ({"args": "[1]"}, "args"),
        ({"args": "{'layout': 'deepstream'}"}, "laid out for deepstream"),
        ({"args": "__import__('os')"}, "args"),
        ({"kpt_shape": "[17]"}, "kpt_shape"),
        ({"names": "[" * 9999}, r"names = \[\[\[.*\.\.\."),
    ],
)
def test_what_is_missing_or_wrong_is_one_line(change, answer):
    texts = {k: v for k, v in (TEXTS | change).items() if v is not None}
    with pytest.raises(ValueError, match=answer) as caught:
        described(FILE, texts)
    assert "net.onnx" in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_folder_has_its_texts_in_a_file(tmp_path):
    folder = tmp_path / "net_openvino_model"
    folder.mkdir()
    assert is_exported(folder) and not is_exported(tmp_path)
    with pytest.raises(ValueError, match=r"metadata.yaml cannot be read"):
        of_folder(folder)
    file = folder / "metadata.yaml"
    said = {"names": {0: "a", 1: "b"}, "task": "detect", "imgsz": [64, 96], "batch": 1}
    file.write_text(yaml.safe_dump(said))
    found = of_folder(folder)
    assert (found.names, found.hw) == (("a", "b"), (64, 96))
    for damaged in ("[1]", "a: [", "names: 3"):
        file.write_text(damaged)
        with pytest.raises(ValueError, match=r"openvino_model"):
            of_folder(folder)
