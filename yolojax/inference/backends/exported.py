"""What an exported file says of itself: its network, classes and input."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from yolojax.config.grammar import WEIGHTS_FOLDER
from yolojax.config.keys import TASKS
from yolojax.inference.backends.decoding import Layout

ONNX, LITERT = ".onnx", ".tflite"
_NEEDED = ("names", "task", "imgsz")
_HOW = "Export it anew with `yolojax export`, or with the program that made it."


@dataclass(frozen=True)
class Exported:
    """An exported network."""

    path: Path
    names: tuple[str, ...]  # of the classes
    layout: Layout  # of its first output
    hw: tuple[int, int]  # of its input, pixels
    batch: int
    dynamic: bool  # takes other sizes and batches
    half: bool  # float16
    suppressed: bool  # its rows are chosen already: [B, N, 6 + extra]
    licence: str | None


def is_exported(path: Path) -> bool:
    """Whether a path is that of an exported network that can be run here."""
    return path.suffix in (ONNX, LITERT) or path.name.endswith(WEIGHTS_FOLDER)


def described(path: Path, texts: Mapping[str, str]) -> Exported:
    """Returns what the texts in a file say.

    Args:
        path: of the file or folder.
        texts: by name, literals of Python, as the field's programs write them.

    Raises:
        ValueError: something is missing or cannot be.
    """
    missing = [name for name in _NEEDED if name not in texts]
    if missing:
        raise ValueError(
            f"{path} does not say what it is: its metadata lack {', '.join(missing)}."
            f" {_HOW}"
        )
    task = texts["task"]
    if task not in TASKS:
        raise ValueError(
            f"{path}: its metadata say task {task!r}; known are {', '.join(TASKS)}."
        )
    names, imgsz = (_literal(path, texts, name) for name in ("names", "imgsz"))
    if isinstance(names, list | tuple):
        names = dict(enumerate(names))
    if not isinstance(names, dict) or set(names) != set(range(len(names))) or not names:
        raise _wrong(path, "names", texts["names"])
    sides = [imgsz, imgsz] if isinstance(imgsz, int) else imgsz
    if not isinstance(sides, list | tuple) or len(sides) != 2:
        raise _wrong(path, "imgsz", texts["imgsz"])
    if not all(type(side) is int and side > 0 for side in sides):
        raise _wrong(path, "imgsz", texts["imgsz"])
    shape = _keypoints(path, texts) if task == "pose" else None
    args = _literal(path, texts, "args") if "args" in texts else {}
    if not isinstance(args, dict):
        raise _wrong(path, "args", texts["args"])
    if args.get("layout", "usual") != "usual":
        raise ValueError(
            f"{path} is laid out for {args['layout']} and cannot be read here. Export"
            " it without layout."
        )
    batch = _literal(path, texts, "batch") if "batch" in texts else 1
    if type(batch) is not int or batch < 1:
        raise _wrong(path, "batch", texts["batch"])
    return Exported(
        path=path,
        names=tuple(str(names[i]) for i in range(len(names))),
        layout=Layout(task, len(names), shape),
        hw=(sides[0], sides[1]),
        batch=batch,
        dynamic=bool(args.get("dynamic", False)),
        half=bool(args.get("half", False)),
        suppressed=bool(args.get("nms", False)),
        licence=texts.get("license"),
    )


def _keypoints(path: Path, texts: Mapping[str, str]) -> tuple[int, int]:
    if "kpt_shape" not in texts:
        raise ValueError(
            f"{path} does not say what it is: its metadata lack kpt_shape. {_HOW}"
        )
    shape = _literal(path, texts, "kpt_shape")
    if not isinstance(shape, list | tuple) or len(shape) != 2 or shape[1] not in (2, 3):
        raise _wrong(path, "kpt_shape", texts["kpt_shape"])
    return int(shape[0]), int(shape[1])


def _literal(path: Path, texts: Mapping[str, str], name: str) -> object:
    try:
        return ast.literal_eval(texts[name])
    except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
        raise _wrong(path, name, texts[name]) from error


def _wrong(path: Path, name: str, text: str) -> ValueError:
    shown = text if len(text) < 60 else f"{text[:57]}..."
    return ValueError(f"{path}: its metadata say {name} = {shown}. {_HOW}")


def of_folder(path: Path) -> Exported:
    """Returns what the metadata.yaml of an OpenVINO folder says.

    Raises:
        ValueError: it is missing, or says what cannot be.
    """
    file = path / "metadata.yaml"
    try:
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{file} cannot be read: {error}. {_HOW}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{file} holds no names and values. {_HOW}")
    texts = {
        str(name): value if isinstance(value, str) else repr(value)
        for name, value in found.items()
    }
    return described(path, texts)
