"""Which network weights are of: told by the names and shapes of their tensors."""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from yolojax.config import shipped
from yolojax.config.grammar import Kind
from yolojax.weights import names

_FIRST_KERNEL = "params/model_0/conv/kernel"
_SIZES = {  # (width of the first layer, has a second inner block) -> size
    (16, False): "n",
    (32, False): "s",
    (64, False): "m",
    (64, True): "l",
    (96, True): "x",
}
_EXTRA = re.compile(r"/cv4_0_2/bias$")  # masks, keypoints or an angle
_LAYER = re.compile(r"^\w+/model_(\d+)/")
_BACKBONE = 11  # layers, from which a pyramid is made


class _Sign(NamedTuple):
    """What only one family of networks has."""

    family: str
    head: int | None  # index of the last layer, None for any
    tensor: str  # pattern of a path
    lacks: str = r"$^"  # pattern that no path has


# The first that fits; what YOLO11 itself is comes from `kind_of`.
_SIGNS = (
    _Sign("YOLO26", 23, r"/one2one_cv3_\d_0_0/", r"/model_10/attn/"),
    _Sign("YOLOv10", 23, r"/one2one_cv3_"),
    _Sign("YOLO12", 21, r"/model_6/m_0_0/attn/"),
    _Sign("YOLOv9", 22, r"/model_2/cv[23]_0/m_0/|/model_2/cv3_0_m"),
    _Sign("YOLOv8", 22, r"/model_22/cv3_0_0/conv/kernel$"),
    _Sign("YOLOv8", 9, r"/model_9/linear/"),
    _Sign("YOLOv5", 24, r"/model_2/cv3/conv/kernel$"),
    _Sign("YOLOv3", 28, r"/model_28/cv3_"),
    _Sign("RT-DETR", 28, r"/(decoder|enc_score_head|input_proj)"),
)


def kind_of(leaves: Mapping[str, Any]) -> Kind | None:
    """Returns model and task of a YOLO11 network, None for any other.

    Args:
        leaves: arrays or shapes by our paths.
    """
    last = last_layer(leaves)
    pyramid = last == 23 and _some(leaves, r"/model_23/cv3_0_0_0/conv/kernel$")
    whole = last == 10 and _some(leaves, r"/model_10/linear/kernel$")
    attention = _some(leaves, rf"/model_{10 if pyramid else 9}/m_0/attn/qkv/")
    kernel = leaves.get(_FIRST_KERNEL)
    if not (pyramid or whole) or not attention or kernel is None:
        return None
    if _some(leaves, r"/one2one_") or _box_outputs(leaves) not in (None, 64):
        return None
    deep = _some(leaves, r"/model_2/m_1/")
    size = _SIZES.get((kernel.shape[-1], deep))
    return Kind(f"yolo11{size}", _task(leaves, last or 0)) if size else None


def _task(leaves: Mapping[str, Any], last: int) -> str:
    """Returns the task of a head."""
    if last == 10:
        return "classify"
    if _some(leaves, r"/proto/"):
        return "segment"
    extra = [leaf for path, leaf in leaves.items() if _EXTRA.search(path)]
    if not extra:
        return "detect"
    return "obb" if extra[0].shape[-1] == 1 else "pose"


def described(leaves: Mapping[str, Any]) -> str:
    """Returns what weights are of, as the end of "it is ...".

    Args:
        leaves: arrays or shapes by our paths.
    """
    kind, last = kind_of(leaves), last_layer(leaves)
    classes = [leaf for path, leaf in leaves.items() if names.is_class_output(path)]
    count = f", {classes[0].shape[-1]} classes" if classes else ""
    if kind is not None:
        return f"{kind.model}, task {kind.task}{count}"
    if last is None:
        shown = ", ".join(names.published_name(path) for path in sorted(leaves)[:2])
        return f"no network with numbered layers (it has tensors such as {shown})"
    sign = next((s for s in _SIGNS if _fits(s, leaves, last)), None)
    family = f"a {sign.family} network" if sign else "a network of another family"
    return f"{family}: its last layer is model.{last} ({_parts(leaves, last)}){count}"


def instead(target: Mapping[str, Any], leaves: Mapping[str, Any]) -> str:
    """Returns the sentences about weights that do not fit: what they are, what to do.

    Args:
        target: arrays or shapes of the network in use, by our paths.
        leaves: the same of the weights.
    """
    mine, theirs = kind_of(target), kind_of(leaves)
    said = f"It is {described(leaves)}."
    if theirs is None:
        return (
            f"{said} The network of the config is {described(target)}. Weights of"
            " other families cannot be used: give those of a YOLO11 network."
        )
    if theirs == mine:
        return f"{said} The network of the config is {described(target)}."
    name = shipped.of_task(theirs.task, theirs.model).replace("_", "-")
    return f"{said} Its config is {name}: --config {name}."


def last_layer(paths: Iterable[str]) -> int | None:
    """Returns the number of the last layer, None if layers have no numbers."""
    found = [int(match[1]) for path in paths if (match := _LAYER.match(path))]
    return max(found, default=None)


def backbone(paths: Iterable[str]) -> list[str]:
    """Returns the leaves of the layers that a pyramid is made from.

    Those before the head where there are fewer layers; all of them where layers have no
    numbers.
    """
    listed = list(paths)
    end = min(_BACKBONE, last_layer(listed) or 0)
    numbered = [(path, _LAYER.match(path)) for path in listed]
    found = [path for path, match in numbered if match and int(match[1]) < end]
    return found or listed


def _fits(sign: _Sign, leaves: Mapping[str, Any], last: int) -> bool:
    return (
        sign.head in (None, last)
        and _some(leaves, sign.tensor)
        and not _some(leaves, sign.lacks)
    )


def _parts(leaves: Mapping[str, Any], last: int) -> str:
    """Returns the branches of the last layer, and one tensor of it in full."""
    mine = sorted(path for path in leaves if f"/model_{last}/" in path)
    published = [names.published_name(path) for path in mine]
    parts = dict.fromkeys(name.split(".")[2] for name in published)
    return f"{', '.join(parts)}; e.g. {published[-1]}"


def _box_outputs(leaves: Mapping[str, Any]) -> int | None:
    """Returns the values that a cell gives for a box, None without boxes."""
    found = [leaf for path, leaf in leaves.items() if path.endswith("/cv2_0_2/bias")]
    return found[0].shape[-1] if found else None


def _some(leaves: Iterable[str], pattern: str) -> bool:
    return any(re.search(pattern, path) for path in leaves)
