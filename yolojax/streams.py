"""Every stream of random numbers on the host, by name.

A stream is a pure function of its name and a few numbers. NumPy fills short seeds up
with zeros, so that (seed, 5) would be the stream of (seed, 5, 0): here every seed
begins with a word for the name, and a name always takes the same count of numbers.
Two different calls therefore never have the same seed.
"""

import zlib

import numpy as np

NUMBERS = {  # what follows the name
    "parameter": ("seed", "checksum of the parameter's path"),
    "order": ("seed", "epoch"),
    "evaluation_order": (),
    "input_size": ("seed", "step"),
    "sample": ("seed", "epoch", "image"),
    "copy_paste": ("seed", "epoch", "image"),
    "filters": ("seed", "epoch", "image"),
    "subset": ("seed",),
    "scene_layout": ("seed", "split", "scene"),
    "scene_paint": ("seed", "split", "scene"),
    "single_scene_layout": ("seed", "split", "scene"),
    "moving_layout": ("seed",),
    "moving_ground": ("seed",),
    "moving_grain": ("seed",),
    "moving_paint": ("seed", "object"),
    "moving_camera": ("seed",),
    "moving_sway": ("seed",),
    "moving_noise": ("seed", "frame"),
    "parity_noise": (),
    "study_resamples": (),
    "study_signs": (),
    "study_power": ("seeds",),
    "picture_resamples": (),
    "sweep": ("seed",),
    "search": ("seed", "trials so far"),
}
LARGEST = 2**32 - 1  # of a number: each is one word of the seed

_WORDS = {name: zlib.crc32(name.encode()) for name in NUMBERS}


def stream(name: str, *numbers: int) -> np.random.Generator:
    """Returns the stream of random numbers that this name and these numbers mean.

    Args:
        name: a key of NUMBERS.
        *numbers: what NUMBERS lists for it, each 0 .. LARGEST.

    Raises:
        ValueError: an unknown name, too few or too many numbers, or one out of range.
    """
    takes = NUMBERS.get(name)
    if takes is None:
        raise ValueError(f"there is no stream {name!r}; there are {', '.join(NUMBERS)}")
    if len(numbers) != len(takes):
        raise ValueError(f"the stream {name!r} takes {takes}, not {numbers}")
    try:
        seed = np.array((_WORDS[name], *numbers), np.uint32)
    except OverflowError as error:
        raise ValueError(
            f"the stream {name!r} takes numbers of 0 .. {LARGEST}, not {numbers}"
        ) from error
    return np.random.default_rng(seed)
