"""Augmentation policies for whole images: RandAugment, AutoAugment, AugMix.

All work on Pillow images, draw from the generator that they are given, and paint black
what comes in from outside the image.
"""

import math
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageEnhance, ImageOps

Rng = np.random.Generator
Policy = Callable[[Image.Image, Rng], Image.Image]

NUM_OPS = 2  # of RandAugment, per image
MAGNITUDE = 9  # of RandAugment, of BINS
BINS = 31  # steps of the magnitude in RandAugment
TABLE_BINS = 10  # in AutoAugment's table and in AugMix
SEVERITY = 3  # AugMix draws its magnitudes from the lowest bins
CHAINS = 3  # that AugMix blends
LONGEST_CHAIN = 3
_ENHANCERS = {
    "brightness": ImageEnhance.Brightness,
    "color": ImageEnhance.Color,
    "contrast": ImageEnhance.Contrast,
    "sharpness": ImageEnhance.Sharpness,
}
_SIGNED = {"shear_x", "shear_y", "translate_x", "translate_y", "rotate", *_ENHANCERS}
_SHIFT = 150 / 331  # largest translation in image sides; 331 px in AutoAugment

RAND_OPS = (
    "identity",
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "color",
    "contrast",
    "sharpness",
    "posterize",
    "solarize",
    "auto_contrast",
    "equalize",
)
MIX_OPS = tuple(op for op in RAND_OPS if op != "identity")
# Twenty-five pairs of (operation, probability, magnitude of TABLE_BINS), in order of
# the paper's table for ImageNet, which names some pairs twice.
AUTO_PAIRS = (
    (("posterize", 0.4, 8), ("rotate", 0.6, 9)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
    (("posterize", 0.6, 7), ("posterize", 0.6, 6)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("equalize", 0.4, 4), ("rotate", 0.8, 8)),
    (("solarize", 0.6, 3), ("equalize", 0.6, 7)),
    (("posterize", 0.8, 5), ("equalize", 1.0, 2)),
    (("rotate", 0.2, 3), ("solarize", 0.6, 8)),
    (("equalize", 0.6, 8), ("posterize", 0.4, 6)),
    (("rotate", 0.8, 8), ("color", 0.4, 0)),
    (("rotate", 0.4, 9), ("equalize", 0.6, 2)),
    (("equalize", 0.0, 7), ("equalize", 0.8, 8)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("rotate", 0.8, 8), ("color", 1.0, 2)),
    (("color", 0.8, 8), ("solarize", 0.8, 7)),
    (("sharpness", 0.4, 7), ("invert", 0.6, 8)),
    (("shear_x", 0.6, 5), ("equalize", 1.0, 9)),
    (("color", 0.4, 0), ("equalize", 0.6, 3)),
    (("equalize", 0.4, 7), ("solarize", 0.2, 4)),
    (("solarize", 0.6, 5), ("auto_contrast", 0.6, 5)),
    (("invert", 0.6, 4), ("equalize", 1.0, 8)),
    (("color", 0.6, 4), ("contrast", 1.0, 8)),
    (("equalize", 0.8, 8), ("equalize", 0.6, 3)),
)


def randaugment(image: Image.Image, rng: Rng) -> Image.Image:
    """Returns the image after NUM_OPS operations of one strength.

    Reference: Cubuk et al. 2020, RandAugment.
    """
    for _ in range(NUM_OPS):
        op = RAND_OPS[int(rng.integers(len(RAND_OPS)))]
        image = apply(image, op, _drawn(op, MAGNITUDE, BINS, rng))
    return image


def autoaugment(image: Image.Image, rng: Rng) -> Image.Image:
    """Returns the image after one of the learned pairs of operations.

    Reference: Cubuk et al. 2019, AutoAugment; its policy for ImageNet.
    """
    for op, probability, step in AUTO_PAIRS[int(rng.integers(len(AUTO_PAIRS)))]:
        if rng.random() < probability:
            image = apply(image, op, _drawn(op, step, TABLE_BINS, rng))
    return image


def augmix(image: Image.Image, rng: Rng) -> Image.Image:
    """Returns a blend of the image and chains of mild operations on it.

    Reference: Hendrycks et al. 2020, AugMix.
    """
    original = np.asarray(image, np.float32)
    keep = rng.beta(1.0, 1.0)
    blend = np.float32(keep) * original
    for weight in (1 - keep) * rng.dirichlet([1.0] * CHAINS):
        chain = image
        for _ in range(int(rng.integers(1, LONGEST_CHAIN + 1))):
            op = MIX_OPS[int(rng.integers(len(MIX_OPS)))]
            step = int(rng.integers(SEVERITY))
            # AugMix posterizes more and shifts less than the others.
            value = _drawn(op, step, TABLE_BINS, rng, shift=1 / 3, most_bits=4)
            chain = apply(chain, op, value)
        blend += np.float32(weight) * np.asarray(chain, np.float32)
    return Image.fromarray(np.clip(np.rint(blend), 0, 255).astype(np.uint8))


POLICIES: dict[str, Policy] = {
    "randaugment": randaugment,
    "autoaugment": autoaugment,
    "augmix": augmix,
}


def _drawn(
    op: str,
    step: int,
    bins: int,
    rng: Rng,
    *,
    shift: float = _SHIFT,
    most_bits: int = 8,
) -> float:
    """Returns the value of a step of 0 .. bins - 1 for `apply`, its sign drawn."""
    share = step / (bins - 1)
    if op == "posterize":
        return most_bits - round(4 * share)
    if op == "solarize":
        return 255 * (1 - share)
    largest = {"rotate": 30.0, "translate_x": shift, "translate_y": shift}
    largest |= {"shear_x": 0.3, "shear_y": 0.3} | dict.fromkeys(_ENHANCERS, 0.9)
    value = largest.get(op, 0.0) * share
    return -value if op in _SIGNED and rng.random() < 0.5 else value


def apply(image: Image.Image, op: str, value: float) -> Image.Image:
    """Returns the image after one operation.

    Args:
        image: RGB.
        op: one of RAND_OPS, or "invert".
        value: shears: sideways pixels per pixel; translations: share of the side;
            rotate: degrees anticlockwise; colours: the factor less 1; posterize: bits
            kept; solarize: levels from this one on are inverted; else ignored.
    """
    if op == "identity":
        return image
    if op in _ENHANCERS:
        return _ENHANCERS[op](image).enhance(1 + value)
    if op == "posterize":
        return ImageOps.posterize(image, int(value))
    if op == "solarize":
        return ImageOps.solarize(image, math.ceil(value))
    if op == "auto_contrast":
        return ImageOps.autocontrast(image)
    if op == "equalize":
        return ImageOps.equalize(image)
    if op == "invert":
        return ImageOps.invert(image)
    if op == "rotate":
        return image.rotate(value, Image.Resampling.BILINEAR)
    width, height = image.size
    matrix = {  # of the inverse map: output pixel -> place in the input
        "shear_x": (1, value, 0, 0, 1, 0),
        "shear_y": (1, 0, 0, value, 1, 0),
        "translate_x": (1, 0, -round(value * width), 0, 1, 0),
        "translate_y": (1, 0, 0, 0, 1, -round(value * height)),
    }[op]
    return image.transform(
        image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR
    )


def colour_jitter(
    image: Image.Image, rng: Rng, hue: float, saturation: float, value: float
) -> Image.Image:
    """Returns the image with other colours: four changes in random order.

    Args:
        image: RGB.
        rng: source of all draws.
        hue: largest shift either way, fraction of the circle.
        saturation: its factor lies in 1 - saturation .. 1 + saturation.
        value: the same for brightness and for contrast.
    """
    strengths = {"brightness": value, "contrast": value, "color": saturation}
    for name in rng.permutation(["hue", *strengths]).tolist():
        if name == "hue":
            shift = round(255 * rng.uniform(-hue, hue))
            image = _hue_shifted(image, shift) if shift else image
        else:
            strength = strengths[name]
            factor = rng.uniform(max(0.0, 1 - strength), 1 + strength)
            image = _ENHANCERS[name](image).enhance(factor) if strength else image
    return image


def _hue_shifted(image: Image.Image, shift: int) -> Image.Image:
    bands = list(image.convert("HSV").split())
    bands[0] = bands[0].point([(level + shift) % 256 for level in range(256)])
    return Image.merge("HSV", bands).convert("RGB")
