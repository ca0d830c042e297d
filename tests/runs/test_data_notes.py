"""What a run says of odd data that it uses all the same."""

from yolo_files import add, opened, picture, write_yaml

from yolojax.runs import data_notes


def test_odd_labels_that_are_used_are_told_by_kind(tmp_path, caplog):
    data, run = tmp_path / "data", tmp_path / "run"
    run.mkdir()
    for name in ("a", "b"):
        for suffix in (".jpg", ".png"):
            add(data, "train", name, suffix=suffix)
    add(data, "train", "c", text="0 0.5 0.5 0.2 0.3 0.9 1\n")
    write_yaml(data, "names: [x]\ntrain: images/train\nval: images/train\n")
    source = opened(data)
    caplog.clear()
    data_notes.report_problems([source], run)
    shared, read_as, counted = caplog.messages
    file = data / "labels/train/a.txt"
    assert shared == (
        f"{file}: is the label file of a.jpg, a.png: each gets all its rows"
        " (shared_label_file); 1 more of the kind"
    )
    assert "c.txt" in read_as and "(box_and_more): 1" in read_as
    assert counted.startswith("problems of the data set: 3, see ")
    assert len((run / data_notes.PROBLEMS_FILE).read_text().splitlines()) == 3


def test_images_of_both_splits_are_told(tmp_path, caplog):
    for split, names in (("train", "abc"), ("val", "cd")):
        for name in names:
            add(tmp_path, split, name, image=picture(seed=ord(name)))
    write_yaml(tmp_path, "names: [a]\ntrain: images/train\nval: images/val\n")
    train, val = (opened(tmp_path, split) for split in ("train", "val"))
    data_notes.warn_of_shared({"train": train})
    assert not caplog.text
    data_notes.warn_of_shared({"train": train, "val": val})
    assert "1 of the 2 images of val are also in train" in caplog.text
    caplog.clear()
    data_notes.warn_of_shared({"train": train, "val": train})
    assert "3 of the 3 images of val are also in train" in caplog.text
