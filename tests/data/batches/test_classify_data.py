"""Classification samples: reference crops, distributions, determinism, padding."""

import math

import cv2
import numpy as np
import pytest
from PIL import Image

from yolojax.data.batches import prefetch
from yolojax.data.batches import whole as classify
from yolojax.data.batches.whole import (
    ClassifyEvalBatches,
    ClassifyOptions,
    ClassifyTrainBatches,
    ClassImages,
)
from yolojax.data.formats.class_folder import open_class_folder
from yolojax.data.samples import policies

PLAIN = {
    **{"scale": 0.0, "fliplr": 0.0, "flipud": 0.0, "auto_augment": "none"},
    **{"hsv_h": 0.0, "hsv_s": 0.0, "hsv_v": 0.0, "erasing": 0.0},
}
USUAL = {
    **{"scale": 0.5, "fliplr": 0.5, "flipud": 0.0, "auto_augment": "randaugment"},
    **{"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4, "erasing": 0.4},
}


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("set")
    rng = np.random.default_rng(0)
    for k in range(11):
        folder = root / "train" / "ab"[k % 2]
        folder.mkdir(parents=True, exist_ok=True)
        coarse = rng.integers(0, 256, (5, 6, 3), np.uint8)
        size = (40 + 3 * k, 70 - 2 * k)
        cv2.imwrite(str(folder / f"{k}.png"), cv2.resize(coarse, size))
    return open_class_folder(
        root,
        "train",
        fraction=1.0,
        fraction_mode="head",
        seed=0,
        classes=None,
        cache_dir=None,
        threads=1,
    )


def train_batches(source, seed=0, cache=False, **changes):
    return ClassifyTrainBatches(
        ClassImages(source, cache=cache, threads=2),
        imgsz=32,
        batch=4,
        epochs=3,
        seed=seed,
        augment=ClassifyOptions(**USUAL | changes),
    )


def generator(*key):
    return np.random.default_rng(key)


def sample(image, size, seed=0, **changes):
    options = ClassifyOptions(**PLAIN | changes)
    return classify.augmented(image, size, options, generator(seed))


# Evaluation


def test_centre_crop_matches_reference(golden):
    values = golden("classify_preprocess_small")  # two of the six images
    for name in ("img2", "img4"):
        found = classify.centre_crop(values[f"{name}_in"], int(values[f"{name}_size"]))
        np.testing.assert_array_equal(found, values[f"{name}_out_u8"])


def test_centre_crop_matches_all_reference_images(assets):
    with np.load(assets / "golden" / "classify_preprocess.npz") as values:
        for k in range(6):
            size = int(values[f"img{k}_size"])
            found = classify.centre_crop(values[f"img{k}_in"], size)
            np.testing.assert_array_equal(found, values[f"img{k}_out_u8"])
    with np.load(assets / "golden" / "augment_classify_eval.npz") as values:
        for k in range(5):
            size = int(values[f"c{k}/size"])
            found = classify.centre_crop(values[f"c{k}/in_rgb"], size)
            expected = values[f"c{k}/out_chw"].transpose(1, 2, 0)
            np.testing.assert_allclose(found / 255, expected, rtol=0, atol=1e-6)


def test_eval_batches_mix_the_classes_and_are_padded(source):
    images = ClassImages(source, cache=False, threads=1)
    batches = ClassifyEvalBatches(images, imgsz=32, batch=4)
    assert len(batches) == batches.batches_per_epoch == 3
    assert batches.shapes() == [(32, 32)]
    rows = [batches.indices(k) for k in range(3)]
    assert [len(row) for row in rows] == [4, 4, 3]
    assert sorted(sum(rows, [])) == list(range(11)) != sum(rows, [])
    again = ClassifyEvalBatches(images, imgsz=32, batch=4)
    assert [again.indices(k) for k in range(3)] == rows
    last = batches[2]
    assert {key: value.dtype.name for key, value in last.items()} == {
        **{"image": "uint8", "labels": "int32"},
        **{"image_id": "int32", "example_valid": "bool"},
    }
    assert last["image"].shape == (4, 32, 32, 3)
    assert last["image_id"].tolist() == [*rows[2], -1]
    assert last["labels"].tolist() == [*source.targets[rows[2]].tolist(), 0]
    assert last["example_valid"].tolist() == [True, True, True, False]
    assert not last["image"][3].any()
    np.testing.assert_array_equal(
        last["image"][1], classify.centre_crop(source.load(rows[2][1]), 32)
    )


# Determinism


def test_every_image_once_an_epoch_in_another_order(source):
    batches = train_batches(source)
    assert len(batches) == 9 and batches.batches_per_epoch == 3
    orders = [
        sum((batches.indices(3 * epoch + k) for k in range(3)), [])
        for epoch in range(3)
    ]
    assert all(sorted(order) == list(range(11)) for order in orders)
    assert orders[0] != orders[1] != orders[2]
    batch = batches[2]
    assert batch["image_id"].tolist() == [*batches.indices(2), -1]
    assert batch["labels"][:3].tolist() == source.targets[batches.indices(2)].tolist()
    assert not batch["image"][3].any() and not batch["example_valid"][3]


def test_a_sample_is_a_function_of_seed_epoch_and_index(source):
    batches = train_batches(source)
    one = batches.sample(1, 5)
    batches.sample(0, 3)
    np.random.default_rng(1).random()
    np.testing.assert_array_equal(train_batches(source).sample(1, 5), one)
    others = [batches.sample(2, 5), train_batches(source, seed=1).sample(1, 5)]
    assert all((other != one).mean() > 0.2 for other in others)


@pytest.mark.parametrize("policy", [*policies.POLICIES, "none"])
def test_cache_and_threads_change_nothing(source, policy):
    plain = train_batches(source, auto_augment=policy)
    cached = train_batches(source, auto_augment=policy, cache="ram")
    with prefetch.prefetched(
        cached, start_step=2, workers=0, num_threads=2, prefetch=2
    ) as loader:
        assert loader.batches_per_epoch == 3
        found = list(loader)
    assert len(found) == 7
    for step, batch in enumerate(found, start=2):
        for key, value in plain[step].items():
            np.testing.assert_array_equal(batch[key], value)


@pytest.mark.process
def test_worker_processes_give_the_same_bytes(source):
    batches = train_batches(source)
    with prefetch.prefetched(
        batches, start_step=7, workers=2, num_threads=1, prefetch=1
    ) as loader:
        found = list(loader)
    assert len(found) == 2
    for step, batch in enumerate(found, start=7):
        np.testing.assert_array_equal(batch["image"], batches[step]["image"])


def test_cached_images_cannot_be_changed(source):
    images = ClassImages(source, cache=True, threads=2)
    assert images.cache == "ram" and len(images) == 11
    with pytest.raises(ValueError, match="read-only"):
        images.image(0)[:] = 0


# Crop, flips, erasing


def test_crops_have_the_area_and_aspect_asked_for():
    hw, shares, aspects, places = (300, 400), [], [], []
    for k in range(3000):
        left, top, width, height = classify._crop(hw, (0.5, 1.0), generator(k))
        assert 0 <= left <= 400 - width and 0 <= top <= 300 - height
        shares.append(width * height / 120_000)
        aspects.append(width / height)
        places.append(left / (400 - width) if width < 400 else 0.5)
    assert 0.49 < min(shares) < 0.51 and 0.97 < max(shares) <= 1
    assert 0.74 < min(aspects) < 0.8 and 1.3 < max(aspects) < 1.35
    assert abs(np.mean(places) - 0.5) < 0.03
    # Unhindered, shares are uniform and aspects log-uniform.
    free = [classify._crop((1000, 1000), (0.1, 0.4), generator(k)) for k in range(3000)]
    assert abs(np.mean([w * h / 1e6 for _, _, w, h in free]) - 0.25) < 0.01
    assert abs(np.mean([math.log(w / h) for _, _, w, h in free])) < 0.02


@pytest.mark.parametrize(
    ("hw", "expected"),
    [
        ((10, 100), (43, 0, 13, 10)),  # 10 * 4/3 wide, in the middle
        ((100, 10), (0, 43, 10, 13)),
        ((1, 1), (0, 0, 1, 1)),
        ((30, 30), (0, 0, 30, 30)),
    ],
)
def test_crop_of_images_that_none_fits_into(hw, expected):
    for k in range(20):
        assert classify._crop(hw, (1.0, 1.0), generator(k)) == expected


def test_resizing_is_antialiased():
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    found = sample(stripes, 16)
    assert 120 <= found[:, 1:-1].min() and found[:, 1:-1].max() <= 135


def test_flips():
    image = generator(3).integers(0, 256, (24, 24, 3), np.uint8)
    np.testing.assert_array_equal(sample(image, 24), image)
    np.testing.assert_array_equal(sample(image, 24, fliplr=1.0), image[:, ::-1])
    np.testing.assert_array_equal(sample(image, 24, flipud=1.0), image[::-1])
    turned = [
        (sample(image, 24, seed=k, fliplr=0.3) != image).any() for k in range(400)
    ]
    assert 0.2 < np.mean(turned) < 0.4


def test_erased_rectangles():
    white = np.full((60, 60, 3), 255, np.uint8)
    shares, aspects, hit = [], [], 0
    for k in range(1500):
        erased = (sample(white, 60, seed=k, erasing=0.4) == 0).all(-1)
        if erased.any():
            hit += 1
            rows, columns = np.flatnonzero(erased.any(1)), np.flatnonzero(erased.any(0))
            height, width = np.ptp(rows) + 1, np.ptp(columns) + 1
            assert erased.sum() == height * width  # one whole rectangle
            shares.append(erased.mean())
            aspects.append(height / width)
    assert 0.35 < hit / 1500 < 0.45
    assert 0.015 < min(shares) < 0.04 and 0.3 < max(shares) < 0.34
    assert 0.25 < min(aspects) < 0.4 and 2.7 < max(aspects) < 4.0
    assert abs(np.mean(np.log(aspects))) < 0.12


# Policies


def applied(policy, monkeypatch, count=3000):
    """Returns per operation the values that a policy used."""
    seen: dict[str, list[float]] = {}

    def note(image, op, value):
        seen.setdefault(op, []).append(value)
        return image

    monkeypatch.setattr(policies, "apply", note)
    image = Image.new("RGB", (4, 4))
    for k in range(count):
        policy(image, generator(k))
    return seen


def test_randaugment_uses_two_operations_of_magnitude_nine(monkeypatch):
    seen = applied(policies.randaugment, monkeypatch)
    counts = {op: len(values) for op, values in seen.items()}
    assert sum(counts.values()) == 6000 and len(counts) == 14
    assert all(340 < count < 520 for count in counts.values())
    shift = 0.3 * 150 / 331
    expected = {
        **{"shear_x": 0.09, "shear_y": 0.09, "rotate": 9.0},
        **{"translate_x": shift, "translate_y": shift, "brightness": 0.27},
        **{"color": 0.27, "contrast": 0.27, "sharpness": 0.27},
    }
    for op, value in expected.items():
        distinct = sorted(set(seen[op]))
        np.testing.assert_allclose(distinct, [-value, value])
        assert 0.4 < np.mean(np.array(seen[op]) > 0) < 0.6
    assert set(seen["posterize"]) == {7} and set(seen["solarize"]) == {178.5}


def test_autoaugment_uses_its_table(monkeypatch):
    assert len(policies.AUTO_PAIRS) == 25
    seen = applied(policies.autoaugment, monkeypatch)
    assert set(seen["posterize"]) == {8 - 4, 8 - 3, 8 - 2}  # steps 8 and 7, 5, 6
    np.testing.assert_allclose(
        sorted({abs(value) for value in seen["rotate"]}), [10, 80 / 3, 30]
    )
    assert {round(v) for v in seen["solarize"]} == {113, 142, 28, 170, 57}
    assert "translate_x" not in seen and "brightness" not in seen
    # Row by row: the probabilities of all equalize entries over 25 rows.
    usual = sum(
        p for row in policies.AUTO_PAIRS for op, p, _ in row if op == "equalize"
    )
    assert abs(len(seen["equalize"]) / 3000 - usual / 25) < 0.04


def test_augmix_chains_are_mild(monkeypatch):
    seen = applied(policies.augmix, monkeypatch, count=1000)
    assert "identity" not in seen and len(seen) == 13
    total = sum(map(len, seen.values()))
    assert 5800 < total < 6200  # 3 chains of 2 on average
    steps = {"rotate": 30 / 9, "shear_x": 0.3 / 9, "translate_x": 1 / 27, "color": 0.1}
    for op, step in steps.items():
        found = sorted(set(np.round(seen[op], 9)))
        np.testing.assert_allclose(found, np.array([-2, -1, 0, 1, 2]) * step, atol=1e-8)
    assert set(seen["posterize"]) == {4, 3}  # 4 - round(4 / 9 * (0, 1, 2))


def test_augmix_of_a_flat_image_stays_in_range():
    image = Image.new("RGB", (20, 20), (200, 100, 50))
    found = np.stack(
        [np.asarray(policies.augmix(image, generator(k))) for k in range(50)]
    )
    assert found.dtype == np.uint8 and found.shape == (50, 20, 20, 3)
    assert np.abs(found.astype(int) - (200, 100, 50)).mean() < 60


def corner_square(x, y):
    """A white square on black of 40 x 40 pixels."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[y : y + 10, x : x + 10] = 255
    return Image.fromarray(pixels)


def middle(image):
    pixels = np.asarray(image)[..., 0].astype(float)
    y, x = np.mgrid[:40, :40] + 0.5
    return (x * pixels).sum() / pixels.sum(), (y * pixels).sum() / pixels.sum()


@pytest.mark.parametrize(
    ("op", "value", "expected"),
    [
        ("translate_x", 0.25, (25, 15)),
        ("translate_y", -0.25, (15, 5)),
        ("shear_x", 0.3, (10.5, 15)),  # x = 15 - 0.3 * 15
        ("shear_y", -0.3, (15, 19.5)),
        ("rotate", 90, (15, 25)),  # anticlockwise about (20, 20)
    ],
)
def test_geometric_operations(op, value, expected):
    found = middle(policies.apply(corner_square(10, 10), op, value))
    np.testing.assert_allclose(found, expected, atol=0.6)


@pytest.mark.parametrize(
    ("op", "value", "pixel", "expected"),
    [
        ("identity", 5, (10, 100, 250), (10, 100, 250)),
        ("brightness", -0.5, (10, 100, 250), (5, 50, 125)),
        ("color", -1, (90, 90, 90), (90, 90, 90)),
        ("posterize", 4, (10, 100, 255), (0, 96, 240)),
        ("solarize", 99.2, (10, 100, 250), (10, 155, 5)),
        ("invert", 0, (10, 100, 250), (245, 155, 5)),
    ],
)
def test_colour_operations(op, value, pixel, expected):
    found = policies.apply(Image.new("RGB", (4, 4), pixel), op, value)
    assert found.getpixel((2, 2)) == expected


def test_colour_jitter():
    pixels = generator(0).integers(0, 256, (16, 16, 3), np.uint8)
    image = Image.fromarray(pixels)
    same = policies.colour_jitter(image, generator(0), 0.0, 0.0, 0.0)
    np.testing.assert_array_equal(np.asarray(same), pixels)
    red = Image.new("RGB", (4, 4), (255, 0, 0))
    hues = [
        policies.colour_jitter(red, generator(k), 0.25, 0, 0)
        .convert("HSV")
        .getpixel((0, 0))[0]
        for k in range(200)
    ]
    signed = np.array([hue - 256 if hue > 128 else hue for hue in hues])
    assert -66 <= signed.min() < -50 and 50 < signed.max() <= 66
    grey = Image.new("RGB", (4, 4), (80, 80, 80))
    for k in range(20):  # grey has neither hue nor saturation
        found = policies.colour_jitter(grey, generator(k), 0.4, 0.9, 0)
        assert found.getpixel((0, 0)) == (80, 80, 80)
    levels = [
        policies.colour_jitter(grey, generator(k), 0, 0, 0.4).getpixel((0, 0))[0]
        for k in range(300)
    ]
    assert 47 <= min(levels) < 52 and 108 < max(levels) <= 113


# Options


def test_unknown_policy_names_the_choices():
    with pytest.raises(
        ValueError, match="'randaug' is unknown.*randaugment, autoaugment, augmix, none"
    ):
        ClassifyOptions(**USUAL | {"auto_augment": "randaug"})


def test_crop_areas():
    assert ClassifyOptions(**USUAL | {"scale": 0.92}).crop_area == pytest.approx(
        (0.08, 1.0)
    )
    assert ClassifyOptions(**USUAL | {"scale": (0.2, 0.6)}).crop_area == (0.2, 0.6)
    for scale in (1.5, (0.5, 2.0), (0.6, 0.2), (0.0, 0.0)):
        with pytest.raises(ValueError, match="scale = .*not allowed for classif"):
            ClassifyOptions(**USUAL | {"scale": scale})


def test_seed_is_checked(source):
    with pytest.raises(ValueError, match="seed = -1"):
        train_batches(source, seed=-1)


def test_real_photographs(assets):
    data = open_class_folder(
        assets / "data" / "imagenet10",
        "train",
        fraction=1.0,
        fraction_mode="head",
        seed=0,
        classes=None,
        cache_dir=None,
        threads=2,
    )
    batches = ClassifyTrainBatches(
        ClassImages(data, cache="ram", threads=2),
        imgsz=64,
        batch=10,
        epochs=8,
        seed=0,
        augment=ClassifyOptions(**USUAL),
    )
    for step in range(3):
        batch = batches[step]
        assert sorted(batch["labels"].tolist()) == list(range(10))
        assert batch["image"].std(axis=(1, 2, 3)).min() > 5
    # Whatever is done to them, samples resemble their own picture most of all.
    small = np.stack([classify.centre_crop(data.load(i), 64) for i in range(10)])
    colours = small.reshape(10, 16, 4, 16, 4, 3).mean((2, 4)).reshape(10, -1)
    seen = np.stack([batches.sample(e, i) for e in range(8) for i in range(10)])
    seen = seen.reshape(80, 16, 4, 16, 4, 3).mean((2, 4)).reshape(80, 1, -1)
    nearest = np.abs(seen - colours).mean(-1).argmin(-1)
    assert (nearest == np.tile(np.arange(10), 8)).mean() > 0.5  # 0.1 by chance


def test_an_outline_has_the_shapes_of_its_batch(source):
    batches = train_batches(source)
    batch, outline = batches[1], batches.outline(1)
    assert {k: (v.shape, v.dtype) for k, v in batch.items()} == {
        k: (v.shape, v.dtype) for k, v in outline.items()
    }
