"""What is wrong with a data set, found without training: a list of findings.

Errors make a run fail, learn wrong things or report figures that mean nothing.
Warnings cost accuracy more often than not. Notes are worth knowing.
"""

import dataclasses
import itertools
import os
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from yolojax.data import Source
from yolojax.data.examine import object_checks
from yolojax.data.examine.object_checks import Found
from yolojax.data.formats import label_files
from yolojax.data.formats.class_folder import ClassFolder
from yolojax.data.formats.description import DataDescription
from yolojax.data.formats.labelled import LabelledImages
from yolojax.data.formats.listing import walk
from yolojax.data.formats.problems import CODES, Problem
from yolojax.data.store.images import is_image

SEVERITIES = ("error", "warning", "note")
LISTED = 200  # places of one finding that are looked up
MANY_BACKGROUNDS = 0.5  # share of images without objects that is rarely meant
UNEVEN, VERY_UNEVEN = 10, 100  # times more labels than the rarest class


@dataclasses.dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing, in one place or many."""

    code: str
    severity: str  # one of SEVERITIES
    split: str  # or two of them, or "all"
    count: int
    text: str  # what there are so many of, and what it does
    advice: str
    places: tuple[str, ...]  # "file:line" or "file", the first LISTED


def examine(
    sources: Mapping[str, Source],
    imgsz: int,
    task: str,
    data: DataDescription | None,
) -> list[Finding]:
    """Returns what is wrong with a data set, worst first.

    Args:
        sources: all images and labels, by split.
        imgsz: pixels; the long side of an image while training.
        task: what the labels are for.
        data: its description, if labels lie in text files: then stray and missing
            ones are looked for.
    """
    findings: list[Finding] = []
    for split, source in sources.items():
        findings += _problems(split, source.problems)
        findings += _duplicates(split, source)
        if isinstance(source, LabelledImages):
            findings += _backgrounds(split, source)
            places = _Places(source)
            for found in object_checks.check_objects(source, imgsz, task):
                findings.append(_of_objects(split, found, places))
        if data is not None:
            findings += _orphans(split, data)
    findings += _leaks(sources)
    findings += _shared_labels(sources)
    findings += _classes(sources)
    findings += _keypoint_order(sources)
    return in_order(findings)


def in_order(findings: Iterable[Finding]) -> list[Finding]:
    """Returns the findings, worst first."""
    return sorted(findings, key=lambda finding: SEVERITIES.index(finding.severity))


def unusable(split: str, reason: str, *, needed: bool = True) -> Finding:
    """Returns the finding that a split cannot be opened at all.

    Args:
        split: its name, or several.
        reason: why not.
        needed: training or its validation uses it.
    """
    text = f"the split cannot be used: {reason}"
    advice = "Mend this first." if needed else "Remove the key, or add the images."
    severity = "error" if needed else "warning"
    return Finding("unusable_split", severity, split, 1, text, advice, ())


# What to do about what the scan says; severity counts where no image is left out.
_SCAN_ADVICE = {
    "damaged_jpeg": ("warning", "Replace the file, or delete it."),
    "dark_16_bit": ("error", "Scale the values to 0..65535, or save 8 bits."),
    "duplicates_removed": ("note", "Delete the second row."),
    "flat_polygons": ("warning", "Draw them again, or delete them."),
    "box_and_more": ("warning", "If they are boxes, keep 5 values of each row."),
    "ids_from_one": ("error", "Subtract 1 from each, or name id 0 in `names`."),
    "shared_label_file": ("error", "Give each image a name and a label file."),
    "label_elsewhere": ("warning", "Move them to the other labels of the folder."),
    "second_label_file": ("warning", "Keep the one whose rows are right."),
    "no_image_path": ("warning", "Write one path per line, and nothing else."),
    "missing_image": ("error", "Add the images, or name their folder as image_root."),
    "duplicate_image": ("note", "Right if the files share the work of labelling."),
    "unknown_image": ("warning", "Correct their image_id, or add the images."),
    "no_outline": ("warning", "Draw outlines of these objects, or delete them."),
    "bad_outline": ("note", "Correct the segmentations to learn from outlines."),
    "outline_off_box": ("warning", "Correct the one that is wrong, in pixels."),
    "no_keypoints": ("note", "Label keypoints of these objects to learn from them."),
    "empty_boxes": ("warning", "Delete or correct these annotations."),
    "image_size_differs": ("warning", "Correct width and height of the images."),
    "empty_class": ("warning", "Add images, or delete the folder."),
    "unknown_class": ("warning", "Move the images, or add the class to train."),
    "no_class": ("note", "Move them into the folder of their class."),
    "unusable_class": ("error", "Replace its images."),
}


def _problems(split: str, problems: Sequence[Problem]) -> Iterator[Finding]:
    """What the scan found, one finding per reason."""
    groups: dict[tuple[str, bool, str], list[Problem]] = {}
    for problem in problems:
        key = problem.code, problem.dropped, problem.hint
        groups.setdefault(key, []).append(problem)
    for (code, dropped, _), group in groups.items():
        severity, advice = _SCAN_ADVICE.get(code, ("warning", "Correct the labels."))
        if dropped:
            severity = "error"
            if code not in _SCAN_ADVICE:
                advice = "Replace or delete the images: they are left out."
                if os.path.splitext(group[0].file)[1] in (".txt", ".json"):
                    advice = "Correct the labels: their images are left out."
        places = tuple(_place(problem) for problem in group[:LISTED])
        yield Finding(code, severity, split, len(group), _text(group), advice, places)


def _text(group: Sequence[Problem]) -> str:
    """Returns what is true of all problems of one code and hint."""
    first = group[0]
    text = first.reason
    if any(problem.reason != text for problem in group):
        usual = CODES[first.code]
        text = f"{usual}; the first one: {text.removeprefix(usual).lstrip(',:; ')}"
    if first.hint:
        text += f". {first.hint}"
    if first.line is not None and first.dropped:
        text += " (the first such row of each file)"
    return text


def _place(problem: Problem) -> str:
    if problem.line is not None:
        return f"{problem.file}:{problem.line}"
    return f"{problem.file} ({problem.within})" if problem.within else problem.file


def _duplicates(split: str, source: Source) -> Iterator[Finding]:
    """The same picture more than once in a split."""
    groups: dict[str, list[int]] = {}
    for index, digest in enumerate(source.digests):
        groups.setdefault(digest, []).append(index)
    pairs = [(g[0], i) for g in groups.values() for i in g[1:]]
    unlike = [pair for pair in pairs if not _same_labels(source, *pair)]
    alike = sorted(set(pairs) - set(unlike))
    for found, code, severity, text, advice in (
        (
            unlike,
            "duplicates_disagree",
            "error",
            "copies of an image with other labels: they contradict each other",
            "Keep the copy whose labels are right.",
        ),
        (
            alike,
            "duplicates",
            "warning",
            "copies of an image of the same split: it counts more than others",
            "Delete the copies.",
        ),
    ):
        if found:
            names = source.paths
            places = tuple(f"{names[j]} = {names[i]}" for i, j in found[:LISTED])
            yield Finding(code, severity, split, len(found), text, advice, places)


def _same_labels(source: Source, one: int, other: int) -> bool:
    if isinstance(source, ClassFolder):
        return bool(source.targets[one] == source.targets[other])
    a, b = (
        rows[np.lexsort(rows.T)] for rows in (source.labels[one], source.labels[other])
    )
    return a.shape == b.shape and np.allclose(a, b, atol=1e-3)


def _backgrounds(split: str, source: LabelledImages) -> Iterator[Finding]:
    """Images without objects."""
    empty = [i for i, rows in enumerate(source.labels) if not len(rows)]
    if not empty:
        return
    share = len(empty) / len(source)
    severity = "warning" if share > MANY_BACKGROUNDS else "note"
    advice = "Right if they show none of the classes; otherwise label them."
    if share == 1:
        severity, advice = "error", "Label them: nothing can be learnt or measured."
    text = f"images without objects ({100 * share:.1f} % of the split)"
    if source.label_files is not None:
        lacking = sum(not os.path.exists(source.label_files[i]) for i in empty)
        text += f", {lacking} of them without a label file"
    places = tuple(source.paths[i] for i in empty[:LISTED])
    yield Finding("backgrounds", severity, split, len(empty), text, advice, places)


def _of_objects(split: str, found: Found, places: "_Places") -> Finding:
    pairs = zip(found.images[:LISTED], found.rows[:LISTED], strict=True)
    return Finding(
        found.code,
        found.severity,
        split,
        len(found.images),
        found.text,
        found.advice,
        tuple(places.of(int(image), int(row)) for image, row in pairs),
    )


class _Places:
    """Where objects stand: file and line, looked up only for what is reported."""

    def __init__(self, source: LabelledImages):
        self._source = source
        self._boxes: dict[str, list[tuple[int, np.ndarray]]] = {}  # line; class, box

    def of(self, image: int, row: int) -> str:
        """Returns "file:line" of an object, or the image and the object's box."""
        path, labels = self._source.paths[image], self._source.labels[image][row]
        files = self._source.label_files
        file = "" if files is None else files[image]
        if file not in self._boxes:
            self._boxes[file] = list(_boxes_of(file)) if file else []
        for line, values in self._boxes[file]:
            if np.allclose(values, labels, atol=1e-6):
                return f"{file}:{line}"
        box = " ".join(f"{value:.4g}" for value in labels[1:].tolist())
        return f"{path} (class {int(labels[0])}, box {box})"


def _boxes_of(file: str) -> Iterator[tuple[int, np.ndarray]]:
    """Yields line number and (class, cx, cy, w, h) of a label file, read either way."""
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError):
        return  # labels that are no text files
    for line, words in enumerate(map(str.split, text.splitlines()), start=1):
        try:
            values = np.array(words, np.float32)
        except ValueError:
            return  # not a label file: its image is left out
        if len(values) >= 5:
            yield line, values[:5]
        if len(values) >= 7 and len(values) % 2:  # a polygon, unless keypoints
            points = values[1:].reshape(-1, 2)
            low, high = points.min(0), points.max(0)
            yield line, np.concatenate([values[:1], (low + high) / 2, high - low])


def _orphans(split: str, data: DataDescription) -> Iterator[Finding]:
    """Label files whose image is not there, or not read."""
    images: dict[str, set[str]] = {}  # folder of labels -> names that images have
    others: dict[str, str] = {}  # label file -> ending of what is there for its image
    hidden: set[str] = set()  # label files of hidden images
    for place in data.places(split):
        if not place.is_dir():
            continue  # a list of images; others may well lie beside them
        for folder, files in walk(str(place), hidden_files=True):
            for labels in label_files.places(folder):
                stems = images.setdefault(labels, set())
                for name in files:
                    stem, end = os.path.splitext(name)
                    file = os.path.join(labels, f"{stem}.txt")
                    if name.startswith("."):
                        hidden |= {file} if is_image(name) else set()
                    elif is_image(name):
                        stems.add(unicodedata.normalize("NFC", stem))
                    elif not label_files.is_text(name):
                        others[file] = end
        for root in label_files.places(str(place)):
            for folder, _ in walk(root):
                images.setdefault(folder, set())  # of a folder that is not there
    stray = _stray(images)
    unseen = [file for file in stray if file in hidden]
    if unseen:
        text = "label files of hidden images: what starts with a dot is not read"
        advice = "Rename the images and these, or delete them."
        places = tuple(unseen[:LISTED])
        yield Finding(
            "hidden_images", "warning", split, len(unseen), text, advice, places
        )
    lost = [file for file in stray if file not in hidden]
    if lost:
        text = "label files whose image is missing"
        kinds = sorted({others[file] for file in lost if others.get(file)})
        if kinds:
            text += f", or of a kind that is not read ({', '.join(kinds)})"
        advice = "Add the images, or delete the files."
        places = tuple(lost[:LISTED])
        yield Finding("orphans", "warning", split, len(lost), text, advice, places)


def _stray(images: Mapping[str, set[str]]) -> list[str]:
    """Returns the label files of no image.

    Args:
        images: folder of labels -> names that its images have, without endings.
    """
    stray = (
        os.path.join(folder, name)
        for folder, stems in sorted(images.items())
        if os.path.isdir(folder)
        for name in sorted(os.listdir(folder))
        if label_files.is_text(name)
        and unicodedata.normalize("NFC", name[:-4]) not in stems
    )
    # Other text may lie there as well, such as a list of classes.
    return [file for file in stray if next(_boxes_of(file), None) is not None]


def _leaks(sources: Mapping[str, Source]) -> Iterator[Finding]:
    """The same picture in two splits."""
    splits = list(sources)
    for i, one in enumerate(splits):
        known = dict(zip(sources[one].digests, sources[one].paths, strict=True))
        for other in splits[i + 1 :]:
            found = [
                (path, known[digest])
                for digest, path in zip(
                    sources[other].digests, sources[other].paths, strict=True
                )
                if digest in known
            ]
            if not found:
                continue
            same = sum(a == b for a, b in found)
            kind = "the same files" if same == len(found) else "copies"
            text = (
                f"of {len(sources[other])} images of {other} are also in {one}, {kind}:"
                f" results on {other} say nothing about new images"
            )
            places = tuple(a if a == b else f"{a} = {b}" for a, b in found[:LISTED])
            advice = f"Take them out of {one} or out of {other}."
            both = f"{one}, {other}"
            yield Finding("leak", "error", both, len(found), text, advice, places)


def _shared_labels(sources: Mapping[str, Source]) -> Iterator[Finding]:
    """A label file for different images of two splits."""
    files = {
        split: dict(zip(source.label_files, source.paths, strict=True))
        for split, source in sources.items()
        if isinstance(source, LabelledImages) and source.label_files is not None
    }
    for one, other in itertools.combinations(files, 2):
        found = [
            file
            for file in sorted(files[one].keys() & files[other].keys())
            if files[one][file] != files[other][file] and os.path.exists(file)
        ]
        if found:
            text = f"label files of one image of {one} and another one of {other}"
            advice = _SCAN_ADVICE["shared_label_file"][1]
            both, places = f"{one}, {other}", tuple(found[:LISTED])
            yield Finding(
                "shared_label_file", "error", both, len(found), text, advice, places
            )


def _classes(sources: Mapping[str, Source]) -> Iterator[Finding]:
    """Classes that some split lacks, and how uneven they are."""
    if not sources:
        return
    names = next(iter(sources.values())).names
    twice = tuple(name for name, count in Counter(names).items() if count > 1)
    if twice:
        text = "class names that several ids share: results cannot tell them apart"
        yield Finding(
            "same_names",
            "warning",
            "all",
            len(twice),
            text,
            "Give each class a name of its own.",
            twice,
        )
    counts = {split: _label_counts(source) for split, source in sources.items()}
    everywhere = np.sum(list(counts.values()), axis=0)
    gaps = [("all", everywhere == 0, "warning", "in no split")]
    train = counts.get("train")
    for split, here in counts.items():
        if train is None or split == "train":
            continue
        gaps.append((split, (here > 0) & (train == 0), "warning", "but not in train"))
        gaps.append((split, (here == 0) & (train > 0), "note", "though in train"))
    for split, lacking, severity, where in gaps:
        if not lacking.any():
            continue
        found = tuple(names[i] for i in np.flatnonzero(lacking))
        if split == "all":
            code, text = "classes_unused", "classes without a label in any split"
            advice = "Remove them from `names`, or add images of them."
        elif severity == "warning":
            code, text = "classes_untrained", f"classes in {split} {where}"
            advice = "Move some images of them to train."
        else:
            code, text = "classes_unmeasured", f"classes not in {split} {where}"
            advice = f"Move some images of them to {split}, or know it is not measured."
        yield Finding(code, severity, split, len(found), text, advice, found)
    if train is not None and train.any():
        yield from _imbalance(names, train)


def _label_counts(source: Source) -> np.ndarray:
    """Returns how many labels of each class there are."""
    if isinstance(source, ClassFolder):
        classes = source.targets
    else:
        classes = np.concatenate(source.labels)[:, 0].astype(int)
    return np.bincount(classes, minlength=len(source.names))


def _imbalance(names: Sequence[str], counts: np.ndarray) -> Iterator[Finding]:
    order = np.argsort(-counts, kind="stable")
    order = order[counts[order] > 0]
    ratio = counts[order[0]] / counts[order[-1]]
    if ratio < UNEVEN:
        return
    severity = "warning" if ratio >= VERY_UNEVEN else "note"
    rare = order[counts[order] * UNEVEN <= counts[order[0]]][::-1]
    text = (
        f"classes have a tenth of the labels of {names[order[0]]} ({counts[order[0]]})"
        f" or less; the rarest {ratio:.0f} times fewer"
    )
    advice = "Add images of them; cls_pw weighs rare classes more."
    places = tuple(f"{names[i]}: {counts[i]}" for i in rare)
    yield Finding("imbalance", severity, "train", len(rare), text, advice, places)


def _keypoint_order(sources: Mapping[str, Source]) -> Iterator[Finding]:
    """A data description that does not say how to mirror keypoints."""
    labelled = [s for s in sources.values() if isinstance(s, LabelledImages)]
    source = next((s for s in labelled if s.keypoints is not None), None)
    if source is None or source.kpt_shape is None or source.kpt_shape[0] < 2:
        return
    if source.flip_idx is None:
        text = "flip_idx is missing: a mirrored image mixes up left and right keypoints"
        advice = "Add flip_idx to the data description, or set fliplr=0 and flipud=0."
        yield Finding("flip_idx_missing", "warning", "all", 1, text, advice, ())
    elif any(source.flip_idx[k] != i for i, k in enumerate(source.flip_idx)):
        text = "flip_idx does not exchange keypoints in pairs"
        advice = "If 1 becomes 2 in a mirrored image, then 2 must become 1."
        places = (str(list(source.flip_idx)),)
        yield Finding("flip_idx_odd", "error", "all", 1, text, advice, places)
