"""The table of formats, of every task, in 80 columns."""

from yolojax.writers import formats

DIFFERENCES = {
    "boxes": {"all": 0.5, "confident": 0.012},
    "scores": {"all": 3e-6, "confident": 1e-6},
}


def row(name, figures, differences=None):
    found = {"name": name, "bytes": 10_640_000, "first_answer_s": 3.456, "ms": 45.678}
    found["figures"] = figures
    return found | ({"differences": differences} if differences else {})


def test_a_line_for_each_file():
    figures = {"metrics/mAP50(B)": 0.1, "metrics/mAP50-95(B)": 0.2}
    figures |= {"metrics/mAP50(M)": 0.61186, "metrics/mAP50-95(M)": 0.47666}
    shown = formats.text(
        [row("jax", figures), row("onnx", figures, DIFFERENCES)], {}
    ).splitlines()
    assert shown[0].split() == [
        *("format", "MB", "first", "s", "ms"),
        *("mAP50", "mAP50-95", "box", "px", "score"),
    ]
    assert shown[1].split() == [*"jax 10.6 3.46 45.7 0.6119 0.4767 - -".split()]
    assert shown[2].split()[-2:] == ["1.2e-02", "3.0e-06"]
    assert max(map(len, shown)) <= 80


def test_classes_of_whole_pictures_have_no_boxes():
    figures = {"metrics/accuracy_top1": 0.7, "metrics/accuracy_top5": 0.9}
    scores = {"scores": DIFFERENCES["scores"]}
    shown = formats.text([row("onnx", figures, scores)], {}).splitlines()
    assert shown[0].split()[5:7] == ["top1", "top5"]
    assert shown[1].split()[4:] == ["0.7000", "0.9000", "-", "3.0e-06"]


def test_reasons_are_said_once():
    left = {"a": "is not there.", "b": "is not there.", "c": "x" * 100}
    shown = formats.text([row("jax", {})], left)
    assert "left out: a, b. is not there." in shown and shown.count("left out") == 2
    assert "x" * 100 in shown  # commands are never broken
