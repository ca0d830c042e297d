"""Checks of settings that must fit together; `config.check` calls them."""

import re
from typing import Any

from yolojax.config import device as devices
from yolojax.config.keys import FORMATS, HOST_ONLY, KEYS, LABELLED
from yolojax.config.values import as_integer, as_number

SPATIAL = (2, 4, 8)  # devices that may share the height of a picture
STRIDE = 32  # pixels of the input for one of the coarsest map


def check_across(values: dict[str, Any]) -> None:
    """Settles and checks what one setting alone cannot tell.

    Args:
        values: every setting, each of its kind; changed in place.

    Raises:
        ValueError: some do not fit together.
    """
    _check_scale(values["scale"])
    if values["amp"] == "fp32":
        values["amp"] = False
    if values["cache"] is True:
        values["cache"] = "ram"
    if values["time"] == 0:
        raise ValueError(
            "config.time = 0: give hours above 0, such as 0.5, or leave it out."
        )
    if values["hosts"] is not None:
        devices.parsed_hosts(values["hosts"])
    _check_fraction(values["fraction"])
    _check_batch(values)
    _check_sizes(values)
    _check_device_cache(values)
    _check_shapes(values)
    _check_whole(values)
    values["freeze"] = _layers(values["freeze"])
    _check_places(values)


def check_use(values: dict[str, Any], command: str) -> None:
    """Settles and checks what prediction and tracking make of settings.

    Args:
        values: every setting, each of its kind; changed in place.
        command: predict or track.

    Raises:
        ValueError: some cannot be followed.
    """
    batch, tiles, embed = values["batch"], values["tiles"], values["embed"]
    if command == "track" and values["task"] not in LABELLED:
        raise ValueError(
            f"task {values['task']} says what a picture as a whole shows: there are no"
            f" objects to track. Tasks that can: {', '.join(LABELLED)}."
        )
    if batch != int(batch) or batch < 1:
        raise ValueError(
            f"config.batch = {batch:g}: {command} looks at a whole number of pictures"
            " at a time, 1 or more."
        )
    if values["save_conf"] and not values["save_txt"]:
        raise ValueError(
            "config.save_conf = True writes scores into label files, which"
            " save_txt=True asks for. Set both."
        )
    if isinstance(tiles, str) and tiles != "auto":
        raise ValueError(
            f"config.tiles = {tiles!r}: expected the side of a tile in pixels, such as"
            " 640, 'auto', or 0."
        )
    if embed is not None:
        layers = tuple(map(as_integer, (embed,) if isinstance(embed, int) else embed))
        if None in layers or min(layers) < 0:
            raise ValueError(
                f"config.embed = {embed!r}: expected numbers of layers, such as (16,"
                " 19, 22)."
            )
        values["embed"] = layers


def check_spatial(values: dict[str, Any], command: str | None) -> None:
    """Checks what goes with pictures whose height several devices share.

    Args:
        values: every setting, each of its kind.
        command: one of keys.COMMANDS, None: not known.

    Raises:
        ValueError: something does not, or the height cannot be shared.
    """
    spatial, size = values["spatial"], values["imgsz"]
    if spatial == 1:
        return
    if spatial not in SPATIAL:
        raise ValueError(
            f"config.spatial = {spatial}: expected one of 1,"
            f" {', '.join(map(str, SPATIAL))}."
        )
    whole = STRIDE * spatial
    if size % whole:
        low = size // whole * whole
        sizes = [str(n) for n in (low, low + whole) if n]
        raise ValueError(
            f"config.spatial = {spatial}: {spatial} devices cannot share the height of"
            f" the coarsest map of pictures of imgsz = {size} evenly. Give a multiple"
            f" of {whole}, such as {' or '.join(sizes)}, or a smaller spatial."
        )
    others = {
        "bn_groups": (values["bn_groups"] > 1, "Leave bn_groups at 1."),
        "cache": (values["cache"] == "device", "Use cache=ram."),
        "multi_scale": (values["multi_scale"] > 0, "Leave multi_scale at 0."),
    }
    for name, (wrong, advice) in others.items():
        if wrong:
            raise ValueError(
                f"config.{name} = {values[name]!r} does not go with spatial ="
                f" {spatial}. {advice}"
            )
    if command == "plan":
        raise ValueError(
            f"config.spatial = {spatial}: plans are of devices that share no picture."
            " Leave it out."
        )


def check_step(values: dict[str, Any]) -> None:
    """Checks what a training step is asked for.

    Args:
        values: every setting, each of its kind.

    Raises:
        ValueError: groups of equal size do not make up a batch.
    """
    batch, groups = values["batch"], values["bn_groups"]
    if batch < 1 or batch % groups == 0:
        return  # one that is chosen later is chosen so that they do
    fitting = [str(n) for n in range(1, batch + 1) if batch % n == 0]
    raise ValueError(
        f"config.bn_groups = {groups}: so many groups of one size do not make up batch"
        f" = {batch}. Give one of {', '.join(fitting)}, or a batch that"
        f" is a multiple of {groups}."
    )


_OF_FORMATS = {  # settings of exported files -> the formats that have them
    "dynamic": ("onnx", "openvino"),
    "half": ("onnx", "openvino", "litert"),
    "int8": ("openvino",),
    "nms": ("onnx", "openvino"),
    "opset": ("onnx",),
    "layout": ("onnx",),
}


def check_export(values: dict[str, Any]) -> None:
    """Checks what an exported file is asked to be.

    Args:
        values: every setting, each of its kind.

    Raises:
        ValueError: some cannot be followed.
    """
    batch, kind = values["batch"], values["format"]
    if batch != int(batch) or batch < 1:
        raise ValueError(
            f"config.batch = {batch:g}: an exported file takes a whole number of"
            " pictures at a time, 1 or more, or any with dynamic=true."
        )
    if kind == "all":
        raise ValueError(
            "config.format = 'all' is for benchmark; an export writes one file. Give"
            f" one of {', '.join(FORMATS)}."
        )
    for name, formats in _OF_FORMATS.items():
        if values[name] != KEYS[name].default and kind not in formats:
            raise ValueError(
                f"config.{name} = {values[name]!r} has no meaning for"
                f" format={kind!r}. Add format={formats[0]}, or remove it."
            )
    if values["int8"] and values["half"]:
        raise ValueError(
            "config.int8 = True and config.half = True contradict each other. Give one."
        )
    if values["layout"] != "deepstream":
        return
    if values["task"] != "detect" or values["nms"]:
        raise ValueError(
            "config.layout = 'deepstream' is for task detect without nms: its reader"
            " knows neither other tasks nor suppressed boxes. Use layout=usual."
        )


def check_benchmark(values: dict[str, Any]) -> None:
    """Checks what a benchmark is asked for.

    Args:
        values: every setting, each of its kind.

    Raises:
        ValueError: weights are given that nothing would be done with.
    """
    for name in ("models", "tasks", "against"):
        if values[name] is not None and values["format"] != KEYS["format"].default:
            raise ValueError(
                f"config.{name} = {values[name]!r} is of a table of networks, config."
                f"format = {values['format']!r} of one of formats. Give one of them."
            )
    if values["weights"] is not None and values["format"] == KEYS["format"].default:
        raise ValueError(
            f"config.weights = {values['weights']!r}: the speed of training does not"
            " depend on weights. To compare the files that they can be exported as, add"
            " format=all; else remove it."
        )


def _check_scale(scale: Any) -> None:
    """Checks one number, or a pair of zoom factors."""
    if isinstance(scale, tuple):
        if len(scale) != 2 or not all(as_number(s) is not None for s in scale):
            raise ValueError(f"config.scale = {scale!r}: a pair must be (min, max).")
        if not 0 < scale[0] <= scale[1]:
            raise ValueError(
                f"config.scale = {scale!r}: a pair must satisfy 0 < min <= max."
            )
    elif not 0 <= scale <= 1:
        raise ValueError(
            f"config.scale = {scale!r}: one number s means zoom factors in [1-s, 1+s]"
            " and must be from 0 to 1. For absolute factors give a pair, such as"
            " scale=(0.5, 2.0). To vary the input size from step to step, which is"
            " another thing, set multi_scale, such as multi_scale=0.5."
        )


def _check_fraction(fraction: Any) -> None:
    """Checks one number, or one for each of up to three splits."""
    numbers = fraction if isinstance(fraction, tuple) else (fraction,)
    for position, number in enumerate(numbers):
        value = as_number(number)
        low_ok = value is not None and (value > 0 or (position == 2 and value == 0))
        if not low_ok or (value > 1 and value != int(value)) or len(numbers) > 3:
            raise ValueError(
                f"config.fraction = {fraction!r}: give a share above 0 up to 1, or a"
                " whole number of images above 1; or a list of them for train, val and"
                " test, such as (0.1, 1.0)."
            )


def _check_batch(values: dict[str, Any]) -> None:
    """Settles `batch` as a whole number, -1 or a share."""
    batch = values["batch"]
    if 0 < batch < 1:
        return
    if (batch < 1 and batch != -1) or batch != int(batch):
        raise ValueError(
            f"config.batch = {batch:g}: expected a whole number of 1 or more, -1 for as"
            " many images as fit, or a share of the memory such as 0.8."
        )
    values["batch"] = int(batch)


def _check_sizes(values: dict[str, Any]) -> None:
    """Checks the input sizes of multi_scale."""
    sizes = values["multi_scale_sizes"]
    if sizes is None:
        return
    whole = tuple(as_integer(size) for size in sizes)
    if any(size is None or size < 32 or size % 32 for size in whole):
        raise ValueError(
            f"config.multi_scale_sizes = {sizes!r}: every size must be a multiple of 32"
            " pixels, such as (320, 480, 640)."
        )
    if not values["multi_scale"]:
        raise ValueError(
            f"config.multi_scale_sizes = {sizes!r} has no meaning while multi_scale is"
            " 0. Set multi_scale, such as multi_scale=0.5, or remove it."
        )
    imgsz, share = values["imgsz"], values["multi_scale"]
    low, high = int(imgsz * (1 - share)) // 32 * 32, int(imgsz * (1 + share)) // 32 * 32
    outside = [size for size in whole if not max(low, 32) <= size <= high]
    if outside:
        raise ValueError(
            f"config.multi_scale_sizes = {sizes!r}: imgsz = {imgsz} with multi_scale ="
            f" {share:g} means sizes from {max(low, 32)} to {high}, which {outside[0]}"
            " is not. Leave it out, or raise multi_scale."
        )
    values["multi_scale_sizes"] = tuple(sorted(set(whole)))


def _check_shapes(values: dict[str, Any]) -> None:
    """Refuses combinations of shapes that would need too many programs."""
    if values["rect"] and values["multi_scale"]:
        raise ValueError(
            f"config.rect = True cannot go with multi_scale = {values['multi_scale']}:"
            " every shape at every size would be a program of its own. Set one of them"
            " off."
        )
    if (values["scan_steps"] or 1) > 1 and values["multi_scale"]:
        raise ValueError(
            f"config.scan_steps = {values['scan_steps']} cannot go with multi_scale ="
            f" {values['multi_scale']}: the steps of a dispatch have one size. Set"
            " scan_steps=1."
        )


def _check_device_cache(values: dict[str, Any]) -> None:
    """Refuses what cannot be rendered on the accelerator."""
    if values["cache"] != "device":
        if values["scan_steps"] is not None:
            raise ValueError(
                f"config.scan_steps = {values['scan_steps']} needs cache='device'."
                " Set that, or remove it."
            )
        return
    wrong = [f"{name}={values[name]!r}" for name in HOST_ONLY if values[name]]
    if values["task"] not in LABELLED:
        wrong.append(f"task={values['task']!r}")
    if wrong:
        raise ValueError(
            f"config.cache = 'device' cannot go with {', '.join(wrong)}: these are"
            " rendered on the host only. Use cache='ram'."
        )


def _check_whole(values: dict[str, Any]) -> None:
    """Settles lists of whole numbers: sorted, each once."""
    for name in ("classes", "object_buckets"):
        value = values[name]
        value = (value,) if isinstance(value, int) else value
        low = 1 if name == "object_buckets" else 0
        if value is not None:
            whole = tuple(as_integer(item) for item in value)
            if any(item is None or item < low for item in whole):
                raise ValueError(
                    f"config.{name} = {values[name]!r}: every entry must be a whole"
                    f" number of {low} or more."
                )
            values[name] = tuple(sorted(set(whole)))


def _layers(freeze: Any) -> Any:
    """Returns the layers to freeze, those of a list as whole numbers and names."""
    if not isinstance(freeze, tuple):
        return freeze
    entries = []
    for entry in freeze:
        number = as_integer(entry)
        if number is None and not (isinstance(entry, str) and entry):
            raise ValueError(
                f"config.freeze = {freeze!r}: {entry!r} is neither the number of a"
                " layer nor a name such as '23.cv2'."
            )
        entries.append(entry if number is None else number)
    return tuple(entries)


def _check_places(values: dict[str, Any]) -> None:
    """Checks where a run goes, what it runs on and where weights come from."""
    name, device = values["name"], values["device"]
    if name is not None and (name in (".", "..") or "/" in name or "\\" in name):
        raise ValueError(
            f"config.name = {name!r}: expected a plain name. To choose the whole path"
            " of the run folder, use --workdir."
        )
    if device is not None:
        values["device"] = devices.settled(device)
        if values["device"] is None:
            raise ValueError(f"config.device = {device!r} is unknown. {devices.ADVICE}")
    address = values["preemption_address"]
    if address is not None and not re.match("https?://", address):
        raise ValueError(
            f"config.preemption_address = {address!r}: it must begin with http:// or"
            " https://, such as http://169.254.169.254."
        )
    if address is not None and not values["preemption_notices"]:
        raise ValueError(
            f"config.preemption_address = {address!r} has no meaning while"
            " preemption_notices is off. Set preemption_notices=true, or remove it."
        )
    url = values["weights_url"]
    if "{file}" not in url or not re.match("https?://", url):
        raise ValueError(
            f"config.weights_url = {url!r}: it must begin with https:// or http:// and"
            " hold {file}, where the name of the file belongs."
        )
