"""Pixels: exact where one warp does the work, bounded at the seams of a mosaic."""

import dataclasses
import json

import cv2
import numpy as np
import pytest
from painted import difference, draw, four, paint, pictures
from recipes import (
    PLAIN,
    USUAL,
    affine_cases,
    boxed,
    data_set,
    mosaic_case,
    options_of,
    recipe_of,
    sample,
)

from yolojax.data import geometry
from yolojax.data.samples import plan, render
from yolojax.data.store import images

# Loading


def test_resize_on_load_matches_reference(golden):
    stored = golden("augment_resize_on_load")
    for number, case in enumerate(json.loads(str(stored["meta_json"]))):
        got = images.resize_long_side(stored[f"c{number}/in"], case["imgsz"])
        assert difference(got, stored[f"c{number}/out"]).max() <= 1


def test_letterboxed_pixels_match_reference(golden):
    stored = golden("letterbox")
    for number in range(8):
        for minimal in (False, True):
            image = stored[f"img{number}_in"]
            target = tuple(stored[f"img{number}_size"].tolist())
            given = geometry.letterbox(image.shape[:2], target, minimal=minimal)
            got = np.zeros((*given.out_hw, 3), np.uint8)
            images.letterbox_into(image, given, got)
            want = stored[f"img{number}_auto{int(minimal)}"]
            assert difference(got, want).max() <= 1


def test_sixteen_bit_pictures_keep_the_high_byte(tmp_path):
    wide = np.random.default_rng(0).integers(0, 2**16, (12, 14, 3), np.uint16)
    cv2.imwrite(str(tmp_path / "wide.png"), wide)
    got = images.read_image(tmp_path / "wide.png")
    np.testing.assert_array_equal(got, (wide >> 8).astype(np.uint8))


def test_pictures_are_turned_upright(tmp_path):
    image = np.zeros((20, 40, 3), np.uint8)
    image[:, :20] = 255
    jpeg = cv2.imencode(".jpg", image)[1].tobytes()
    # EXIF with one entry: orientation 6, the camera was turned by 90 degrees.
    tiff = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    payload = b"Exif\0\0" + tiff
    segment = b"\xff\xe1" + (len(payload) + 2).to_bytes(2, "big") + payload
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + segment + jpeg[2:])
    got = images.read_image(tmp_path / "turned.jpg")
    assert got.shape == (40, 20, 3)
    assert got[:15].min() > 200 and got[25:].max() < 50


# One source


def test_single_image_equals_the_reference_warp(golden):
    stored = golden("augment_affine")
    for name, case in affine_cases(stored):
        image, size = stored[f"{name}/in/img"], case["out_wh"][0]
        none = [np.zeros((0, 5), np.float32)]
        recipe = recipe_of([image.shape[:2]], none, size, options_of(case["cfg"]))
        canvas = plan.single_canvas(0, stored[f"{name}/u"], recipe)
        got = draw(canvas.layer, [image], size)
        delta = difference(got, stored[f"{name}/out/img"])
        # Other versions of OpenCV round the warp in another way.
        limit = 0 if cv2.__version__.startswith("5.0") else 2
        assert np.median(delta) <= limit and delta.mean() <= limit / 2


@pytest.mark.parametrize("number", range(6))
def test_colours_match_reference(golden, number):
    stored = golden("augment_hsv")
    image, want = stored[f"c{number}/in"], stored[f"c{number}/out"]
    gains = tuple(stored[f"c{number}/gain"].tolist())
    for bgr in (True, False):
        got = np.empty_like(image)
        render.colour(four(image), got, gains, bgr=bgr)
        assert difference(got, want if bgr else want[:, :, ::-1]).max() <= 1


def test_without_gains_only_the_channel_order_changes():
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    got = np.empty_like(image)
    render.colour(four(image), got, None, bgr=False)
    np.testing.assert_array_equal(got, image[:, :, ::-1])
    render.colour(four(image), got, None, bgr=True)
    np.testing.assert_array_equal(got, image)


def test_output_format_matches_reference(golden):
    stored = golden("augment_format")
    for name, bgr in (("detect", False), ("empty", False), ("bgr1", True)):
        source = "detect" if name == "bgr1" else name
        image = stored[f"{source}/in/img"]
        got = np.empty_like(image)
        render.colour(four(image), got, None, bgr=bgr)
        want = stored[f"{name}/out/img"].transpose(1, 2, 0)
        np.testing.assert_array_equal(got, want)
        if name == "bgr1":
            continue
        hw = image.shape[:2]
        rows = np.concatenate(
            [stored[f"{name}/in/cls"], stored[f"{name}/in/bboxes_xywhn"]], axis=1
        )
        want = stored[f"{name}/out/bboxes"] * np.array([hw[1], hw[0]] * 2)
        want = geometry.cxcywh_to_xyxy(want)
        np.testing.assert_allclose(geometry.label_pixels(rows, hw), want, atol=1e-4)


@pytest.mark.parametrize("flips", [(0.0, 1.0), (1.0, 0.0), (1.0, 1.0)])
def test_flips_in_the_matrix_equal_flipped_pixels(flips):
    sizes, _ = data_set()
    sources = pictures(sizes)
    still = dataclasses.replace(
        PLAIN, mosaic=0.5, scale=0.5, translate=0.1, mixup=0.3, cutmix=1.0
    )
    options = dataclasses.replace(still, flipud=flips[0], fliplr=flips[1])
    pasted = 0
    for epoch in range(40):
        first = sample(still, epoch=epoch, objects=1)
        second = sample(options, epoch=epoch, objects=1)
        pasted += second.cutmix is not None
        plain, flipped = paint(first, sources), paint(second, sources)
        if flips[0]:
            plain = plain[::-1]
        if flips[1]:
            plain = plain[:, ::-1]
        # A position exactly between two tiles belongs to the other one when mirrored.
        assert (difference(plain, flipped).max(axis=2) > 2).mean() < 0.01
    assert pasted >= 3


# Several sources


def reference_mosaic(sample_plan, sources, sizes, center, matrix):
    """Returns the mosaic drawn on a doubled canvas first, then warped."""
    size = sample_plan.hw[0]
    canvas = np.full((2 * size, 2 * size, 3), 114, np.uint8)
    indices = [source.index for source in sample_plan.base.sources]
    origins, covered = geometry.mosaic_layout(
        center, [tuple(sizes[i]) for i in indices], size
    )
    for index, (x, y), (x1, y1, x2, y2) in zip(indices, origins, covered, strict=True):
        canvas[y1:y2, x1:x2] = sources[index][y1 - y : y2 - y, x1 - x : x2 - x]
    warp = cv2.warpPerspective if matrix[2, :2].any() else cv2.warpAffine
    matrix = matrix if matrix[2, :2].any() else matrix[:2]
    return warp(canvas, matrix, (size, size), borderValue=(114, 114, 114))


def seams(sample_plan, hw):
    """Returns [H, W] bool: pixels within 1.5 source pixels of the edge of a tile."""
    near = np.zeros(hw, bool)
    for source in sample_plan.base.sources:
        x1, y1, x2, y2 = source.region
        wide = (x1 - 1.5, y1 - 1.5, x2 + 1.5, y2 + 1.5)
        narrow = (x1 + 1.5, y1 + 1.5, x2 - 1.5, y2 - 1.5)
        columns = np.arange(hw[1])
        start, stop = render.row_spans(source.matrix, wide, hw)
        inside = (columns >= start[:, None]) & (columns < stop[:, None])
        if narrow[2] > narrow[0] and narrow[3] > narrow[1]:
            start, stop = render.row_spans(source.matrix, narrow, hw)
            inside &= ~((columns >= start[:, None]) & (columns < stop[:, None]))
        near |= inside
    return near


@pytest.mark.parametrize("name", ["c0", "c3"])
def test_mosaic_without_affine_equals_the_reference(golden, name):
    stored = golden("augment_mosaic")
    center, sizes, _, tiles = mosaic_case(stored, name)
    origins, covered = geometry.mosaic_layout(center, sizes, 48)
    sources = tuple(
        plan.tile_source(tile, np.eye(3, dtype=np.float32), origins[tile], box)
        for tile, box in enumerate(covered)
    )
    got = draw(plan.LayerPlan(sources), tiles, 96)
    np.testing.assert_array_equal(got, stored[f"{name}/out/img"])


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"degrees": 30.0, "shear": 8.0},
        {"degrees": 10.0, "perspective": 0.001},
        {"scale": (1.5, 3.0)},
    ],
    ids=["aligned", "turned", "perspective", "enlarged"],
)
def test_mosaic_differs_from_a_doubled_canvas_only_at_seams(extra):
    imgsz = 96
    sizes, labels = data_set(imgsz=imgsz)
    sources = pictures(sizes)
    strengths = {"mosaic": 1.0, "scale": 0.4, "translate": 0.1} | extra
    options = dataclasses.replace(PLAIN, **strengths)
    checked = 0
    for epoch in range(12):
        center = (60 + 5 * epoch, 130 - 6 * epoch)
        draws = np.random.default_rng(epoch).random(8)
        indices = (0, 3, epoch % 6, 5)
        recipe = recipe_of(sizes, labels, imgsz, options)
        canvas = plan.mosaic_canvas(indices, center, draws, recipe)
        whole = dataclasses.replace(sample(PLAIN, imgsz=imgsz), base=canvas.layer)
        matrix, _ = geometry.affine_matrix(
            draws,
            (2 * imgsz, 2 * imgsz),
            (imgsz, imgsz),
            degrees=options.degrees,
            translate=options.translate,
            scale=options.scale,
            shear=options.shear,
            perspective=options.perspective,
        )
        got = draw(whole.base, sources, imgsz)
        want = reference_mosaic(whole, sources, sizes, center, matrix)
        away = ~seams(whole, (imgsz, imgsz))
        delta = difference(got, want).max(axis=2)
        assert delta[away].max(initial=0) <= 1
        assert delta.mean() < 6
        checked += int(away.sum())
    assert checked > 6 * imgsz**2  # most pixels are not near a seam


def test_tiles_meet_without_gap_or_blend():
    """With tiles of one colour each, every pixel is exactly what its nearest is."""
    imgsz = 64
    sizes, labels = data_set(imgsz=imgsz)
    sources = [
        np.full((*sizes[i], 3), (40 * i, 250 - 40 * i, 7), np.uint8) for i in range(6)
    ]
    options = dataclasses.replace(PLAIN, mosaic=1.0, scale=0.5, translate=0.2)
    turned = dataclasses.replace(options, degrees=40.0, shear=5.0, perspective=0.0005)
    for epoch in range(20):
        center = (40 + 2 * epoch, 80 - epoch)
        draws = np.random.default_rng(epoch).random(8)
        indices = (0, 1, 2 + epoch % 3, 5)
        chosen = turned if epoch % 2 else options
        recipe = recipe_of(sizes, labels, 64, chosen)
        canvas = plan.mosaic_canvas(indices, center, draws, recipe)
        got = draw(canvas.layer, sources, imgsz)

        origins, covered = geometry.mosaic_layout(center, sizes[list(indices)], imgsz)
        doubled = np.full((128, 128, 3), 114, np.uint8)
        for index, (x1, y1, x2, y2) in zip(indices, covered, strict=True):
            doubled[y1:y2, x1:x2] = sources[index][0, 0]
        move = np.eye(3)
        move[:2, 2] = -origins[0]
        inverse = np.linalg.inv(canvas.layer.sources[0].matrix @ move)
        x, y = np.meshgrid(np.arange(64.0), np.arange(64.0))
        at = inverse @ np.stack([x.ravel(), y.ravel(), np.ones(64 * 64)])
        column, row = np.floor(at[:2] / at[2] + 0.5).astype(int)
        inside = (column >= 0) & (column < 128) & (row >= 0) & (row < 128)
        want = np.full((64 * 64, 3), 114, np.uint8)
        want[inside] = doubled[row[inside], column[inside]]
        np.testing.assert_array_equal(got.reshape(-1, 3), want)


def test_every_output_pixel_belongs_to_at_most_one_tile():
    imgsz = 64
    options = dataclasses.replace(USUAL, degrees=25.0, shear=5.0, perspective=0.0005)
    for epoch in range(20):
        owners = np.zeros((imgsz, imgsz), int)
        for source in sample(options, epoch=epoch).base.sources:
            start, stop = render.row_spans(source.matrix, source.region, (imgsz, imgsz))
            columns = np.arange(imgsz)
            owners += (columns >= start[:, None]) & (columns < stop[:, None])
        assert owners.max() == 1


def test_aligned_windows_equal_the_general_spans():
    rng = np.random.default_rng(0)
    for epoch in range(30):
        for source in sample(USUAL, epoch=epoch).base.sources:
            assert render.is_aligned(source.matrix)
            window = render.aligned_window(source.matrix, source.region, (64, 64))
            left, top, right, bottom = window
            start, stop = render.row_spans(source.matrix, source.region, (64, 64))
            want = np.zeros((64, 64), bool)
            want[top:bottom, left:right] = True
            columns = np.arange(64)
            got = (columns >= start[:, None]) & (columns < stop[:, None])
            np.testing.assert_array_equal(got, want)
    matrix = np.eye(3)
    matrix[tuple(rng.choice([(0, 1), (1, 0), (2, 0), (2, 1)]))] = 1e-9
    assert not render.is_aligned(matrix)


def test_row_spans_by_hand():
    # Source pixels 0 and 1 enlarged four times and moved by two.
    matrix = np.array([[4.0, 0, 2], [0, 4, 2], [0, 0, 1]])
    start, stop = render.row_spans(matrix, (-0.5, -0.5, 1.5, 1.5), (12, 12))
    shown = [(a, b) if b > a else None for a, b in zip(start, stop, strict=True)]
    assert shown == [(0, 8)] * 8 + [None] * 4


def test_mixup_matches_reference(golden):
    stored = golden("augment_mix")
    for number in range(3):
        name = f"mixup{number}"
        got = stored[f"{name}/in0/img"].copy()
        render.blend(got, stored[f"{name}/in1/img"], float(stored[f"{name}/r"]))
        np.testing.assert_array_equal(got, stored[f"{name}/out/img"])


def test_cutmix_matches_reference(golden):
    stored = golden("augment_mix")
    names = {key.split("/")[0] for key in stored if key.startswith("cutmix")}
    for name in names:
        first, second = stored[f"{name}/in0/img"], stored[f"{name}/in1/img"]
        got = plan.cutmix_objects(
            boxed(stored, f"{name}/in0"),
            boxed(stored, f"{name}/in1"),
            stored[f"{name}/areas"].astype(int),
            0.0,
            rotated=False,
        )
        result = first.copy()
        if got is not None:
            render.paste(result, second, got[0])
        np.testing.assert_array_equal(result, stored[f"{name}/out/img"])


def test_plans_with_everything_on_are_painted():
    options = dataclasses.replace(USUAL, mosaic=0.5, mixup=0.7, cutmix=0.7, degrees=9.0)
    sizes, _ = data_set()
    sources = pictures(sizes)
    before = [source.copy() for source in sources]
    results = [paint(sample(options, epoch=e, objects=1), sources) for e in range(20)]
    assert len({result.tobytes() for result in results}) == 20
    for source, copy in zip(sources, before, strict=True):
        np.testing.assert_array_equal(source, copy)
