"""Rows of a plan, from counts that are handed in: nothing is compiled."""

import json
import re

import pytest

from yolojax import config as config_lib
from yolojax.assembly.optimizer import run_schedule
from yolojax.config import changed
from yolojax.devices.known import DEVICES, Measured
from yolojax.planning import picture, plan, told
from yolojax.planning.asked import devices_of
from yolojax.planning.compiled import Found
from yolojax.planning.plan import Context, Failed
from yolojax.planning.subject import StateSizes

GIB = 2**30


class Subject:
    """A run on 118 287 pictures, without the pictures."""

    images = 118_287
    sizes = StateSizes(state=GIB // 16, per_image=GIB // 512, parameters=2_600_000)

    def __init__(self, cached=0, **settings):
        config = changed(config_lib.check(config_lib.default("detect")), **settings)
        self.config, self.cached = config, cached

    def pictures(self, device, count):
        if self.cached > device.usable:
            raise ValueError("cache = 'device' needs more.")
        return self.cached

    def schedule(self, batch):
        return run_schedule(
            changed(self.config, batch=batch, warmup_epochs=0.0), self.images, 80
        )


def context(prices=(), measured=(), cached=0, **settings):
    settings = {"batch": 64, "epochs": 10} | settings
    return Context(
        Subject(cached, **settings),
        dict(prices),
        operations=20e9,
        rate=300.0,
        measured=dict(measured),
        cores=2,
    )


class Compiler:
    """Tells of programs that hold so many GiB for each image, and what was asked."""

    def __init__(self, each=0.1, fixed=1.0, refused_above=None):
        self.each, self.fixed, self.refused_above = each, fixed, refused_above
        self.asked = []

    def __call__(self, name, count, batch):
        self.asked.append((name, count, batch))
        images = batch // count
        if self.refused_above and images > self.refused_above:
            return Found(refused="RESOURCE_EXHAUSTED: Used 20G of 15G hbm.")
        activations = int((self.fixed + self.each * images) * GIB)
        return Found(GIB // 8, activations, 3000, 750_000_000 * images, 5, 60.0)


def row_of(text, compiler, made=None):
    (asked,) = devices_of(text)
    return plan.row(made or context(), asked, compiler)


def test_a_row_holds_what_the_counts_imply():
    row = row_of("h100", Compiler(), context({"h100": 2.0}))
    assert (row.batch, row.precision, row.fits) == (64, "bf16", True)
    assert row.times.binds == "memory traffic"
    assert row.times.bound == pytest.approx(64 * 0.75e9 / 3.35e12)
    assert row.steps == 10 * -(-118_287 // 64)
    assert row.hours.bound == pytest.approx(row.steps * row.times.bound / 3600)
    assert row.hours.cost == pytest.approx(2 * row.hours.bound)
    assert row.cores == -(-row.images_per_second // 300)


def test_the_largest_batch_is_that_of_an_automatic_one():
    compiler = Compiler()
    row = row_of("h100", compiler, context(batch=-1))
    limit = 0.6 * DEVICES["h100"].usable / GIB
    assert row.batch == row.largest == int((limit - 1 - 1 / 8) / 0.1)
    assert compiler(*("h100", 1), row.largest).needed <= limit * GIB


def test_gpus_of_one_generation_share_the_first_points_of_the_line():
    compiler = Compiler()
    row_of("h200", compiler)
    assert ("h100", 1, 2) in compiler.asked and ("h100", 1, 8) in compiler.asked
    assert {name for name, _, batch in compiler.asked if batch > 8} == {"h200"}
    row_of("v5e:4", tpu := Compiler(each=0.01))
    assert {(name, count) for name, count, _ in tpu.asked} == {("v5e", 4)}


def test_several_devices_share_batch_and_arithmetic():
    one, eight = row_of("h100", Compiler()), row_of("h100x8", Compiler())
    assert eight.times.arithmetic == pytest.approx(one.times.arithmetic / 8)
    assert eight.memory.batch == one.memory.batch // 8
    assert eight.largest % 8 == 0
    uneven = row_of("h100x8", Compiler(), context(batch=60))
    assert uneven.batch == 64
    assert "8 devices do not share 60 images evenly: 64" in uneven.notes


def test_a_batch_that_does_not_fit_gives_way_to_the_largest():
    row = row_of("l4", Compiler(each=1.0))
    assert row.batch == row.largest < 64 and row.fits
    said = " ".join(plan.advice(context(), row))
    assert "a batch of 64 takes 65.12 GiB, 48.25 more than the 16.9 there are" in said


@pytest.mark.parametrize(
    ("compiler", "said"),
    [
        (Compiler(fixed=20.0), "1 image on each device: takes 20.22 GiB, 3.35 more"),
        (Compiler(refused_above=0.5), "does not fit (RESOURCE_EXHAUSTED: Used 20G"),
    ],
)
def test_what_does_not_fit_at_one_image_is_told_with_what_helps(compiler, said):
    row = row_of("l4", compiler)
    assert (row.batch, row.fits) == (1, False)
    told_ = " ".join(plan.advice(context(), row))
    assert said in told_ and "lower imgsz, remat=true" in told_


def test_cached_pictures_leave_less_for_a_step():
    plain = row_of("h100", Compiler())
    cached = context(cached=30 * GIB, cache="device")

    inner = Compiler()

    def compiler(name, count, batch):
        found = inner(name, count, batch)
        return Found(found.arguments + 30 * GIB, found.activations, 1, 1)

    row = row_of("h100", compiler, cached)
    assert row.memory.pictures == 30 * GIB and row.largest < plain.largest
    failed = row_of("t4", compiler, cached)
    assert isinstance(failed, Failed) and "needs more" in failed.why


def test_without_a_compiler_what_is_known_is_told():
    made = context()
    row = row_of("v5e:4", None, made)
    assert row.fits is None and row.found is None and row.largest is None
    assert row.times.named == {"arithmetic": pytest.approx(64 * 20e9 / 4 / 197e12)}
    assert "plan-tpu" in row.missing and "arithmetic alone" in str(
        plan.advice(made, row)
    )
    assert told.missing([row, row]) == [row.missing]


@pytest.mark.parametrize(
    ("name", "settings", "said"),
    [
        ("t4", {}, "no units for bfloat16.*amp=fp16"),
        ("h100", {"amp": False}, "bound by arithmetic.*amp=bf16"),
        ("t4", {"amp": "fp16"}, "bound by memory traffic.*more bandwidth"),
        ("h100", {"cache": "ram"}, "cores like those of this.*cache=device"),
        ("h100", {}, "which has 2 .300 images/s a core.: cache=ram"),
        ("h100", {}, "no efficiency measured on this device: bound only"),
    ],
)
def test_what_binds_is_said_with_what_helps(name, settings, said):
    made = context(**settings)
    text = " ".join(plan.advice(made, row_of(name, Compiler(each=0.01), made)))
    assert re.search(said, text), text


def test_an_estimate_stands_on_a_run_that_was_seen():
    made = context(measured={"h100": Measured(0.5, "docs/speed.md")})
    row = row_of("h100", Compiler(), made)
    assert row.hours.estimate == pytest.approx(2 * row.hours.bound)
    assert "estimate with 50 % of the bound, docs/speed.md" in plan.advice(made, row)


def test_the_table_is_no_wider_than_a_page(tmp_path):
    made = context({"h100": 2.5})
    rows = [
        row_of("h100x8", Compiler(), made),
        row_of("v5e:16", None, made),
        row_of("l4", Compiler(fixed=20), made),
        Failed(devices_of("t4")[0], "cache = 'device' needs more."),
    ]
    text = told.table(rows) + "\n" + told.headline(made, made.subject.config)
    text += "\n" + "\n".join(told.sentences(made, row) for row in rows)
    assert max(map(len, text.splitlines())) <= told.WIDTH
    table = told.table(rows).splitlines()
    assert [line.split()[0] for line in table[1:]] == ["h100x8", "v5e:16", "l4", "t4"]
    assert ">" in table[2] and ">" not in table[1]
    record = json.loads(json.dumps(told.record(made, rows)))
    assert [d.get("fits") for d in record["devices"]] == [True, None, False, None]
    assert record["devices"][3]["failed"].startswith("cache")
    picture.plan_png(tmp_path / "plan.png", [told.bars(row) for row in rows[:3]])
    assert (tmp_path / "plan.png").stat().st_size > 10_000
