"""Rendering on the device: the pixels of OpenCV, the same on any number of devices."""

import dataclasses

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from painted import difference, paint, pictures
from quick_compiler import AS_RUN
from recipes import PLAIN, data_set, recipe_of, sample

from yolojax.data.batches import labelled as pipeline
from yolojax.data.batches import prefetch
from yolojax.data.batches import stack as stack_lib
from yolojax.data.samples import device_plan, plan
from yolojax.data.samples.plan import LayerPlan, SamplePlan, SourcePlan
from yolojax.data.store import images as image_files
from yolojax.data.store.cached import Images
from yolojax.devices import images as device_images
from yolojax.devices import mesh as sharding
from yolojax.ops import render

SIZE = 64
COLOURS = {"hsv_h": 0.015, "hsv_s": 0.7, "hsv_v": 0.4}
MIXED = {"mosaic": 0.4, "scale": 0.5, "translate": 0.1, "mixup": 0.5, "cutmix": 1.0}
FLIPS = {"fliplr": 0.5, "flipud": 0.5, "bgr": 0.5}
CASES = {
    "single": {"scale": 0.5, "translate": 0.1, "degrees": 30.0, "shear": 8.0},
    "mosaic": {"mosaic": 1.0, "scale": 0.5, "translate": 0.1} | FLIPS,
    "turned": {"mosaic": 0.7, "degrees": 30.0, "shear": 8.0, "scale": 0.5} | FLIPS,
    "leaning": {"mosaic": 1.0, "degrees": 0.05, "scale": 0.5},
    "perspective": {"mosaic": 0.7, "degrees": 10.0, "perspective": 0.002} | FLIPS,
    "everything": MIXED | FLIPS | COLOURS | {"degrees": 10.0},
}


def packed_pixels(sources):
    """Returns images as the device holds them, one row each."""
    rows = np.zeros((len(sources), max(s[..., 0].size for s in sources), 4), np.uint8)
    for row, image in zip(rows, sources, strict=True):
        row[: image[..., 0].size, :3] = image.reshape(-1, 3)
    return rows.view("<u4")[..., 0]


rendered = jax.jit(render.render_batch, static_argnames="chunk")


def on_device(plans, sources, options, *, chunk=16):
    sizes = np.array([image.shape[:2] for image in sources])
    shape = device_plan.plan_shape(plans[0].hw[0], options)
    packed = device_plan.pack(plans, shape, sizes, len(plans))
    return np.asarray(rendered(packed_pixels(sources), packed, chunk=chunk))


def planned(options, count, sizes=None, size=SIZE):
    if sizes is None:
        # From an epoch on where all that is rare is drawn, as is asserted below.
        epochs = range(120, 120 + count)
        return [sample(options, epoch=e, objects=1, imgsz=size) for e in epochs]
    rows = [np.zeros((0, 5), np.float32)] * len(sizes)
    recipe = recipe_of(sizes, rows, size, options)
    return [plan.plan_sample(0, 0, i % len(sizes), recipe) for i in range(count)]


def assert_close(got, want, *, coloured):
    """Within the rounding of interpolation and, if coloured, of a table of colours."""
    delta = difference(got, want)
    exact = cv2.__version__.startswith("5.0")  # others round positions to 1/32 pixel
    assert delta.mean() < (0.05 if exact else 0.5)
    assert (delta <= (1 if exact else 2)).mean() > 0.999
    if exact and not coloured:
        assert delta.max() <= 1


# Parity


@pytest.mark.parametrize("case", CASES)
def test_the_device_paints_what_the_host_paints(case):
    options = dataclasses.replace(PLAIN, **CASES[case])
    sizes, _ = data_set()
    sources = pictures(sizes)
    plans = planned(options, 40)
    want = np.stack([paint(p, sources) for p in plans])
    got = on_device(plans, sources, options, chunk=7)
    assert got.dtype == np.uint8
    assert_close(got, want, coloured="hsv_h" in CASES[case])
    if case == "everything":
        assert sum(p.mixup is not None for p in plans) > 9
        assert sum(p.cutmix is not None for p in plans) > 3
        assert 9 < sum(p.bgr for p in plans) < 31


def corrupted(packed, wrong):
    """Changes one thing of packed plans."""
    base = packed["base"]
    if wrong == "flip":
        base["inverse"][:, :, 0, 2] += base["inverse"][:, :, 0, 0] * (SIZE - 1)
        base["inverse"][:, :, 0, 0] *= -1
    elif wrong == "region":  # by a single column
        base["spans"][:, 0, 1] -= base["spans"][:, 0, 1] > 0
    elif wrong == "border":
        base["single"] = ~base["single"]
    elif wrong == "source":
        base["source"] = base["source"][:, ::-1]
    elif wrong == "channels":
        packed["bgr"] = ~packed["bgr"]
    elif wrong == "colour":
        packed["tables"] = packed["tables"][:, :, ::-1]
    elif wrong == "ratio":
        packed["mixup"]["ratio"] = 1 - packed["mixup"]["ratio"]
    elif wrong == "area":
        packed["cutmix"]["area"] -= 1
    return packed


WRONG = "flip region border source channels colour ratio area".split()


@pytest.mark.parametrize("wrong", [None, *WRONG])
def test_a_wrong_plan_is_not_within_the_bounds(wrong):
    """What the comparison above is worth: it notices each of these."""
    options = dataclasses.replace(PLAIN, **CASES["everything"])
    sizes, _ = data_set()
    sources = pictures(sizes)
    plans = planned(options, 40)
    want = np.stack([paint(p, sources) for p in plans])
    shape = device_plan.plan_shape(SIZE, options)
    packed = corrupted(device_plan.pack(plans, shape, sizes, len(plans)), wrong)
    got = np.asarray(rendered(packed_pixels(sources), packed, chunk=7))
    if wrong is None:
        assert_close(got, want, coloured=True)
    else:
        with pytest.raises(AssertionError):
            assert_close(got, want, coloured=True)


def test_real_pictures_are_painted_alike(assets):
    paths = sorted((assets / "data/coco128/images").rglob("*.jpg"))[:8]
    assert len(paths) == 8
    sources = [
        image_files.resize_long_side(image_files.read_image(path), 160)
        for path in paths
    ]
    sizes = np.array([image.shape[:2] for image in sources])
    strengths = MIXED | FLIPS | COLOURS | {"degrees": 10.0, "shear": 2.0}
    options = dataclasses.replace(PLAIN, **strengths)
    plans = planned(options, 12, sizes, 160)
    want = np.stack([paint(p, sources) for p in plans])
    assert_close(on_device(plans, sources, options), want, coloured=True)


def by_hand(sources, *, bgr=False):
    """Returns a plan without augmentation of these sources, 8 pixels wide."""
    base = sample(PLAIN)
    return SamplePlan((8, 8), LayerPlan(sources), None, None, None, bgr, base.objects)


def test_pixels_flips_channels_and_regions_by_hand():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 256, (2, 8, 8, 3), np.uint8)
    everywhere = (-1.0, -1.0, 8.0, 8.0)
    mirror = np.array([[-1.0, 0, 7], [0, 1, 0], [0, 0, 1]])
    down = np.array([[1.0, 0, 0], [0, 1, 3], [0, 0, 1]])
    left, right = (-0.5, -0.5, 2.5, 7.5), (2.5, -0.5, 7.5, 4.5)
    nothing = (0.0, 0.0, 0.0, 0.0)
    plans = [
        by_hand((SourcePlan(1, np.eye(3), everywhere),)),
        by_hand((SourcePlan(0, mirror, everywhere),), bgr=True),
        by_hand((SourcePlan(0, down, everywhere),)),
        by_hand(
            (
                SourcePlan(0, np.eye(3), left),
                SourcePlan(1, np.eye(3), right),
                *(SourcePlan(1, np.eye(3), nothing),) * 2,
            )
        ),
    ]
    options = dataclasses.replace(PLAIN, mosaic=0.5)
    got = on_device(plans, [first, second], options)
    np.testing.assert_array_equal(got[0], second[:, :, ::-1])
    np.testing.assert_array_equal(got[1], first[:, ::-1])
    np.testing.assert_array_equal(got[2][3:], first[:5, :, ::-1])
    assert (got[2][:3] == 114).all()
    joined = np.full((8, 8, 3), 114, np.uint8)
    joined[:, :3], joined[:5, 3:] = first[:, :3], second[:5, 3:]
    np.testing.assert_array_equal(got[3], joined[:, :, ::-1])


def test_a_border_fades_into_grey_and_a_tile_does_not():
    white = np.full((4, 4, 3), 255, np.uint8)
    half = np.array([[1.0, 0, 2.5], [0, 1, 0], [0, 0, 1]])
    region = (-0.5, -0.5, 3.5, 3.5)
    tiles = (
        SourcePlan(0, half, region),
        *(SourcePlan(0, half, (0.0, 0.0, 0.0, 0.0)),) * 3,
    )
    plans = [by_hand((SourcePlan(0, half, region),)), by_hand(tiles)]
    options = dataclasses.replace(PLAIN, mosaic=0.5)
    single, tile = on_device(plans, [white], options)[:, 0, :, 0]
    assert single.tolist() == [114, 114, 184, 255, 255, 255, 184, 114]
    assert tile.tolist() == [114, 114, 255, 255, 255, 255, 114, 114]


def test_colours_are_those_of_opencv():
    image = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)
    image[:9] = image[:9, :, :1]  # greys
    hsv = np.stack(jax.jit(render.hsv_of)(*image.astype(np.int32).transpose(2, 0, 1)))
    want = cv2.cvtColor(image, cv2.COLOR_BGR2HSV)
    np.testing.assert_array_equal(hsv.transpose(1, 2, 0), want)
    image[..., 0] %= 180
    bgr = np.stack(jax.jit(render.bgr_of)(*image.astype(np.int32).transpose(2, 0, 1)))
    delta = difference(bgr.transpose(1, 2, 0), cv2.cvtColor(image, cv2.COLOR_HSV2BGR))
    assert delta.max() <= 1
    assert delta.mean() < (0.01 if cv2.__version__.startswith("5.0") else 1)


OPTIONS = {field.name for field in dataclasses.fields(plan.AugmentOptions)}


@pytest.mark.parametrize("name", sorted(OPTIONS & set(device_plan.HOST_ONLY)))
def test_what_only_the_host_can_paint_is_refused(name):
    options = dataclasses.replace(PLAIN, **{name: 0.5})
    with pytest.raises(ValueError, match=rf"{name} = 0.5 .* cache = 'device'"):
        device_plan.plan_shape(64, options)


def test_every_part_of_a_plan_is_painted_or_refused():
    """A new field of the plans must be thought of here, or pictures would differ."""
    names = {field.name for field in dataclasses.fields(SamplePlan)}
    painted = {"hw", "base", "mixup", "cutmix", "hsv", "bgr"}
    assert names - painted == {"objects", "filters"}
    filters = {"blur", "median_blur", "to_gray", "clahe"}
    assert set(device_plan.HOST_ONLY) == filters | {"copy_paste"}


# Batches


class Drawn:
    """A data set of smooth random pictures of different shapes."""

    names = ("a", "b", "c", "d")
    polygons = None
    keypoints = None

    def __init__(self, count=7):
        self.original_hw, self.labels = data_set(count)
        self._pictures = pictures(self.original_hw)

    def __len__(self):
        return len(self.labels)

    def load(self, index, imgsz):
        return image_files.resize(
            self._pictures[index], tuple(self.original_hw[index].tolist())
        )


@pytest.fixture(scope="module")
def images():
    return Images(Drawn(), imgsz=SIZE, cache=False, threads=2)


def batches_of(images, *, on_device, **options):
    everything = dataclasses.replace(PLAIN, **MIXED, **FLIPS, **COLOURS)
    defaults = {
        "imgsz": SIZE,
        "batch": 4,
        "epochs": 3,
        "seed": 2,
        "augment": everything,
        "close_mosaic": 1,
        "object_buckets": (4, 8, 16, 32, 64),
    }
    return pipeline.TrainBatches(images, on_device=on_device, **defaults | options)


def test_batches_for_the_device_differ_in_nothing_but_the_image(images):
    host = batches_of(images, on_device=False)
    device = batches_of(images, on_device=True)
    shapes = []
    for step in range(len(host)):
        want, got = host[step], device[step]
        np.testing.assert_array_equal(device.with_image(step)["image"], want["image"])
        plans, image = got.pop("plans"), want.pop("image")
        assert got.keys() == want.keys()
        for key, value in want.items():
            assert got[key].dtype == value.dtype
            np.testing.assert_array_equal(got[key], value, err_msg=key)
        pixels = packed_pixels([images.image(i) for i in range(len(images))])
        painted = np.asarray(rendered(pixels, plans, chunk=2))
        valid = want["example_valid"]
        assert_close(painted[valid], image[valid], coloured=True)
        shapes.append(jax.tree.map(lambda x: (x.shape, x.dtype), plans))
    plain = host.plain_from * host.batches_per_epoch
    assert all(shape == shapes[0] for shape in shapes[:plain])
    assert all(shape == shapes[plain] for shape in shapes[plain:])
    assert shapes[0] != shapes[plain]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.process)])
def test_the_loader_passes_plans_on(images, workers):
    batches = batches_of(images, on_device=True)
    options = {"workers": workers, "num_threads": 1, "prefetch": 1}
    with prefetch.prefetched(batches, start_step=2, **options) as loader:
        got = next(loader)
    want = batches[2]
    jax.tree.map(np.testing.assert_array_equal, got, want)
    assert {type(x) for x in jax.tree.leaves(got)} == {np.ndarray}


def test_stacked_batches_have_the_slots_of_the_fullest(images):
    labels = {
        "boxes": np.ones((2, 3, 4), np.float32),
        "valid": np.ones((2, 3), bool),
        "masks": np.ones((2, 3, 5, 5), np.uint8),
        "example_valid": np.ones(2, bool),
        "plans": {"base": {"single": np.ones(2, bool)}},
    }
    short = labels | {
        "boxes": labels["boxes"][:, :1],
        "valid": labels["valid"][:, :1],
        "masks": labels["masks"][:, :1],
    }
    got = stack_lib.stack([labels, short])
    assert got["boxes"].shape == (2, 2, 3, 4)
    assert got["masks"].shape == (2, 2, 3, 5, 5)
    assert got["plans"]["base"]["single"].shape == (2, 2)
    assert got["valid"][0].all() and got["valid"][1].sum() == 2
    np.testing.assert_array_equal(got["boxes"][1, :, :1], short["boxes"])
    assert not got["boxes"][1, :, 1:].any()
    whole = labels | {"masks": np.ones((2, 5, 5), np.int32)}
    assert stack_lib.stack([whole, whole])["masks"].shape == (2, 2, 5, 5)
    batches = batches_of(images, on_device=True)
    with pytest.raises(ValueError, match="batches of one epoch"):
        stack_lib.stack([batches[0], batches[len(batches) - 1]])


# Records on devices


def held_by(images, mesh, **options):
    layout = device_images.layout_of(images.sizes, mesh, **options)
    return layout, device_images.put_images(images, layout, threads=2)


def painted(images, mesh, step, **options):
    """Returns the image of a step as the devices of a mesh paint it."""
    held, pixels = held_by(images, mesh, **options)
    batches = batches_of(images, on_device=True, batch=8, object_buckets=(64,))
    batch = sharding.put_batch(batches[step], mesh)
    assert batch.image is None
    function = jax.jit(held.renderer(), compiler_options=AS_RUN)
    image = function(pixels, batch.plans)
    again = sharding.put_batch(batches[step + 1], mesh)
    function(pixels, again.plans)
    assert function._cache_size() == 1
    return held, pixels, image


def bytes_for(images, rows):
    return rows * int(images.sizes.prod(axis=1).max()) * device_images.PIXEL_BYTES


@pytest.mark.slow
def test_any_number_of_devices_paints_the_same(images, monkeypatch):
    monkeypatch.setattr(device_images, "CHUNK_BYTES", bytes_for(images, 2))
    batches = batches_of(images, on_device=False, batch=8)
    one, eight = sharding.make_mesh("cpu:1", 8), sharding.make_mesh("cpu:8", 8)
    held, pixels, want = painted(images, one, 0)
    assert not held.shared and pixels.shape[0] == len(images)
    assert_close(want[:7], batches[0]["image"][:7], coloured=True)
    for index in range(len(images)):
        row = np.asarray(pixels[index]).view(np.uint8).reshape(-1, 4)
        image = images.image(index).reshape(-1, 3)
        np.testing.assert_array_equal(row[: len(image), :3], image)
    held, pixels, got = painted(images, eight, 0)
    assert not held.shared
    assert got.addressable_shards[2].data.shape == (1, SIZE, SIZE, 3)
    np.testing.assert_array_equal(got, want)
    # Room for three rows of seven on each device, of which two are for the upload.
    held, pixels, got = painted(images, eight, 0, free=bytes_for(images, 3))
    assert held.shared
    assert pixels.addressable_shards[2].data.shape[0] == 1
    np.testing.assert_array_equal(got, want)


def test_several_batches_in_one_dispatch_are_painted_from_shared_images(images):
    mesh = sharding.make_mesh("cpu:8", 8)
    free = bytes_for(images, 2)
    chunk = bytes_for(images, 1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(device_images, "CHUNK_BYTES", chunk)
        held, pixels = held_by(images, mesh, free=free)
    assert held.shared
    augment = dataclasses.replace(PLAIN, mosaic=1.0, scale=0.5)
    some = {"batch": 8, "object_buckets": (64,), "augment": augment}
    batches = batches_of(images, on_device=True, **some)
    host = stack_lib.stack([batches[0], batches[1]])
    put = sharding.put_batch(host, mesh, stacked=True)
    draw = held.renderer()

    @jax.jit
    def several(pixels, plans):
        return jax.lax.scan(lambda c, p: (c, draw(pixels, p)), None, plans)[1]

    got = several(pixels, put.plans)
    for step in (0, 1):
        want = batches.with_image(step)["image"]
        assert_close(got[step, :7], want[:7], coloured=False)


def test_images_that_do_not_fit_are_refused(images):
    mesh = sharding.make_mesh("cpu:8", 8)
    with pytest.raises(ValueError, match=r"cache = 'device' needs .* Use cache='ram'"):
        held_by(images, mesh, free=1000)


def test_free_memory_is_that_of_the_fullest_device(images):
    class Device:
        def __init__(self, used):
            self.used = used

        def memory_stats(self):
            return {"bytes_limit": 1000, "bytes_in_use": self.used}

    class Mesh:
        local_devices = (Device(100), Device(300))

    assert device_images._free_memory(Mesh()) == 700
    mesh = sharding.make_mesh("cpu:8", 8)
    assert 0 < device_images._free_memory(mesh) < 2**50


def test_memory_for_rendering_grows_with_the_chunk_not_with_the_batch(images):
    augment = dataclasses.replace(PLAIN, mosaic=1.0)
    batches = batches_of(images, on_device=True, batch=7, augment=augment)
    plan = jax.tree.map(lambda x: x[0], batches[0]["plans"])
    pixels = jax.ShapeDtypeStruct((7, SIZE * SIZE), jnp.uint32)

    def needed(count, chunk):
        plans = jax.tree.map(lambda x: jnp.stack([x] * count), plan)
        function = jax.jit(lambda *arrays: render.render_batch(*arrays, chunk=chunk))
        compiled = function.lower(pixels, plans).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    few, many, all_at_once = needed(8, 4), needed(32, 4), needed(32, 32)
    # The result and the plans of a batch are temporary too, but small.
    assert many < 2 * few < all_at_once
