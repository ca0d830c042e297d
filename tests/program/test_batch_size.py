"""Batch sizes chosen from the memory of the compiled step, and what it really takes."""

import dataclasses
import logging
import types

import flax.linen as nn
import forked_runs
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from accelerators import accelerators
from quick_compiler import AS_RUN

from yolojax import config as config_lib
from yolojax import models
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.data.batches import input_size
from yolojax.data.store import host_memory
from yolojax.devices import hosts
from yolojax.devices import images as device_images
from yolojax.devices import mesh as sharding
from yolojax.models.blocks import ConvBN
from yolojax.models.yolo11 import HEAD_NAME
from yolojax.program import batch_size as autobatch
from yolojax.program import memory as step_memory
from yolojax.program.step import Logs
from yolojax.program.train_program import make_program

MIB = 2**20


class Deep(nn.Module):
    """Layers that all keep their activations, unless these are recomputed."""

    head: type
    dtype: type
    remat: bool

    @nn.compact
    def __call__(self, image, *, mode):
        head = self.head(dtype=self.dtype, name=HEAD_NAME)
        mode = dataclasses.replace(mode, norm=head.norm)
        x = jnp.asarray(image, self.dtype)
        for i in range(4):
            block = ConvBN(8, 3, dtype=self.dtype, name=f"model_{i}")
            x = recomputed(block, x, mode) if self.remat else block(x, mode=mode)
        return head((x[:, ::16, ::16],), mode=mode)


def recomputed(block, x, mode):
    return nn.remat(lambda block, x: block(x, mode=mode))(block, x)


def build(head, *, dtype, remat):
    return Deep(head, dtype, remat)


def light_step(net, tx, *, padded, frozen, render, size, ema_decay):
    """A step that compiles at once and holds two images in float32 for each it gets."""

    def step(state, batch, hyper, pixels):
        image, side = batch.image.astype(jnp.float32), size or batch.image.shape[1]
        image = jax.image.resize(image, (len(image), side, side, 3), "nearest")
        turned = jax.lax.optimization_barrier(image[:, ::-1])
        total = jax.lax.optimization_barrier(jnp.sort(turned * hyper.lr[0], 1)).sum()
        zero = jnp.zeros((), jnp.int32)
        losses = state.loss_sum + total
        state = dataclasses.replace(state, loss_sum=losses)
        return state, Logs(losses, total, zero, losses, zero)

    return step


LOWER = {}  # how steps are lowered: nothing, or with the light step


@pytest.fixture(scope="module")
def shapes(place):
    config = settings(place, batch=2)
    source = loading.open_split(config, "train")
    return models.variable_shapes(network.network(config, len(source.names)).model)


@pytest.fixture
def light(monkeypatch, shapes):
    monkeypatch.setitem(LOWER, "lower", light_lower)
    monkeypatch.setattr(models, "variable_shapes", lambda model: shapes)
    no_scratch(monkeypatch)


def light_lower(config, source, mesh, class_width):
    program = make_program(config, source, mesh, class_width)
    light = dataclasses.replace(program, make_step=light_step)
    return light.lowered_shapes(loading.train_batches(config, source))


def no_scratch(monkeypatch):
    """Leaves the compiler's account alone, which the tests can compute with."""
    monkeypatch.setattr(step_memory, "CPU_KEPT", 0)
    monkeypatch.setattr(step_memory, "CPU_PACKED", 0)


@pytest.fixture(scope="module")
def classes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    forked_runs.write_data(folder, "classify")
    return folder


def settings(folder, task="detect", **values):
    config = config_lib.default(task)
    config.data = str(folder / forked_runs.CONFIGS[task][1])
    usual = {"model": "tiny_model:build", "imgsz": 64, "batch": -1, "nbs": 1}
    usual["epochs"] = 3  # samples of the whole run are planned, up to some thousands
    if task != "classify":
        usual["mosaic"] = 0.0
    for name, value in (usual | values).items():
        config[name] = value
    return config_lib.check(config)


def opened(folder, devices=1, **values):
    config = settings(folder, **values)
    mesh = sharding.make_mesh(f"cpu:{devices}", None)
    return config, loading.open_split(config, "train"), mesh


def need(folder, batch, devices=1, **values):
    config, source, mesh = opened(folder, devices, **values)
    return step_memory.need_of(lowered(config, source, mesh, batch).compile(), mesh)


def lowered(config, source, mesh, batch):
    lower = LOWER.get("lower", autobatch.lowered_step)
    return lower(autobatch.resolved(config, batch), source, mesh, None)


def chosen(folder, limit, devices=1, share=0.5, **values):
    """Returns the choice for so many bytes per device."""
    config, source, mesh = opened(folder, devices, **values)
    free = int(limit / share)
    return autobatch.choose(config, source, mesh, free, share, **LOWER)


@pytest.mark.slow
def test_a_step_takes_its_state_and_so_much_for_each_image(classes):
    values = {"task": "classify", "model": "test_batch_size:build", "imgsz": 32}
    one, two, four = (need(classes, batch, **values) for batch in (4, 8, 16))
    per_image = (two.total - one.total) / 4
    assert per_image > 4 * 32 * 32 * 8 * 4  # activations of four layers
    assert (four.total - two.total) / 8 == pytest.approx(per_image, rel=0.1)
    config, source, mesh = opened(classes, **values)
    image = four.arguments - two.arguments
    assert image == 8 * (32 * 32 * 3 + 4 + 1)  # pixels, class, whether it counts
    less, four = (as_run(classes, batch=16, remat=x, **values) for x in (True, False))
    assert less.arguments == four.arguments
    assert less.temporaries < 0.8 * four.temporaries


def as_run(folder, **values):
    """Returns the need of a program compiled as a run does it, not as tests do."""
    config, source, mesh = opened(folder, **values)
    step = autobatch.lowered_step(config, source, mesh, None)
    return step_memory.need_of(step.compile(compiler_options=AS_RUN), mesh)


def test_images_take_memory_only_if_they_will_be_kept(place, monkeypatch):
    config, source, mesh = opened(place, cache="ram")
    needed = 3 * int(loading.cached_sizes(config, source).prod(axis=1).sum())
    for available, left in ((2 * needed, needed), (needed, needed)):
        monkeypatch.setattr(
            autobatch.host_memory, "available", lambda free=available: free
        )
        assert autobatch.free_bytes(config, [source], mesh) == left


def test_the_choice_fits_and_one_image_more_would_not(place, light, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    needs = [need(place, batch).total for batch in (2, 11, 12)]
    limit = (needs[1] + needs[2]) / 2
    choice = chosen(place, limit)
    assert choice.batch == 11
    assert [row.batch for row in choice.table] == [16, 2, 11]
    assert [row.needed for row in choice.table][1:] == needs[:2]
    assert choice.table[-1].share == pytest.approx(0.5 * needs[1] / limit)
    assert choice.line.per_image == pytest.approx(needs[2] - needs[1], rel=0.02)
    assert choice == chosen(place, limit)  # nothing random in it
    text = caplog.text
    assert "per image" in text and "batch = 11, 4" in text
    assert f"11{needs[1] / MIB:14.0f} MiB" in text


def test_what_fits_at_once_is_compiled_once(place, light):
    choice = chosen(place, 1e9)
    assert [row.batch for row in choice.table] == [16] and choice.line is None
    assert choice.batch == 16  # the most that is chosen on a CPU by itself


@pytest.mark.parametrize("rect", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_samples_are_planned_once_for_all_batch_sizes(place, monkeypatch, rect):
    plans = []
    planned = autobatch.planned
    monkeypatch.setattr(autobatch, "planned", lambda *a: plans.append(a) or planned(*a))
    config, source, mesh = opened(place, model="tiny_model:bare", rect=rect)
    lower, texts = autobatch._planning_once(), []
    for batch in (2, 5):
        sized = autobatch.resolved(config, batch)
        texts.append(lower(sized, source, mesh, None).as_text())
    assert len(plans) == 1
    assert texts[1] == autobatch.lowered_step(sized, source, mesh, None).as_text()
    assert texts[0] != texts[1]


def test_a_larger_input_size_leaves_room_for_fewer_images(place, light):
    sizes = {"multi_scale": 0.5}
    largest = input_size.sizes(64, 0.5, None)[-1]
    assert largest == 96
    limit = need(place, 12).total
    assert chosen(place, limit).batch == 12
    assert 4 <= chosen(place, limit, **sizes).batch <= 7  # 12 / 1.5**2 and the rest
    assert chosen(place, limit, multi_scale_sizes=(32, 64), **sizes).batch == 12


def test_devices_share_the_batch_evenly(place, light):
    alone, shared = need(place, 2), need(place, 16, devices=8)
    for part in ("arguments", "temporaries"):  # each has its two
        assert getattr(shared, part) == pytest.approx(getattr(alone, part), rel=0.05)
    limit = (need(place, 8, devices=8).total + shared.total) / 2
    assert chosen(place, limit, devices=8, share=0.9).batch == 8
    assert chosen(place, 1e9, devices=8).batch == 16
    assert chosen(place, 1e9, devices=8, batch=0.9).batch == 16  # of 22 images


def test_what_a_cpu_allocates_besides_is_added(place, light, monkeypatch):
    account = need(place, 8, devices=8)
    assert account.scratch == 0
    monkeypatch.setattr(step_memory, "CPU_KEPT", 800)
    monkeypatch.setattr(step_memory, "CPU_PACKED", 0.5)
    both = need(place, 8, devices=8)  # in one process, so what that keeps is shared
    assert both.scratch == 100 + account.temporaries // 2
    assert both.total == account.total + both.scratch
    step = lowered(*opened(place), 8).compile()
    assert step_memory.need_of(step, accelerators({})).scratch == 0


def test_too_little_memory_leaves_one_image_per_device_and_a_warning(
    place, light, caplog
):
    assert chosen(place, 1000).batch == 1
    assert chosen(place, 1000, devices=8).batch == 8
    warnings = [r.getMessage() for r in caplog.records if r.levelname == "WARNING"]
    assert len(warnings) == 2 and "imgsz" in warnings[0]


class Compiler:
    """Stands for a compiler whose programs take `cost(batch)` bytes."""

    def __init__(self, cost):
        self.cost, self.asked = cost, []

    def lowered_step(self, config, source, mesh, class_width):
        def compiled():
            self.asked.append(config.batch)
            size = self.cost(config.batch)
            if size is None:
                raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: too large")
            names = ("argument", "output", "temp", "alias")
            sizes = dict.fromkeys((f"{n}_size_in_bytes" for n in names), 0)
            sizes["temp_size_in_bytes"] = size
            figures = types.SimpleNamespace(**sizes)
            return types.SimpleNamespace(memory_analysis=lambda: figures)

        return types.SimpleNamespace(compile=compiled)


def search(place, monkeypatch, cost, limit, images=5000):
    """Returns (batch, compiled batches) on a device that takes any batch."""
    compiler = Compiler(cost)
    monkeypatch.setattr(autobatch, "MOST_ON_CPU", autobatch.MOST)
    no_scratch(monkeypatch)
    config, _, mesh = opened(place)
    source = range(images)
    lower = compiler.lowered_step
    choice = autobatch.choose(config, source, mesh, limit, 1.0, lower=lower)
    assert [row.batch for row in choice.table] == compiler.asked
    return choice.batch, compiler.asked


@pytest.mark.parametrize("seed", range(20))
def test_a_straight_line_is_found_with_three_programs(place, monkeypatch, seed):
    rng = np.random.default_rng(seed)
    fixed, slope = rng.integers(1, 10**6, 2).tolist()
    best = int(rng.integers(1, 1024))
    limit = fixed + slope * best + int(rng.integers(0, slope))
    batch, asked = search(place, monkeypatch, lambda b: fixed + slope * b, limit)
    assert batch == best
    assert asked[:2] == [8, 2] and len(asked) <= 3


@pytest.mark.parametrize("power", [0.7, 1.2, 1.5])
def test_a_bent_line_never_ends_above_the_limit(place, monkeypatch, power):
    def cost(batch):
        return int(1000 * batch**power)

    for limit in (10_000, 100_000, 400_000):
        batch, asked = search(place, monkeypatch, cost, limit)
        assert cost(batch) <= limit and len(asked) <= 3 + autobatch.CHECKS
        assert batch == 1024 or cost(batch + 1) > 0.8 * limit  # and not far below it


def test_a_size_that_the_compiler_refuses_is_left_alone(place, monkeypatch):
    def cost(batch):
        return 1000 * batch if batch < 400 else None

    batch, _ = search(place, monkeypatch, cost, 10**6)
    assert 200 <= batch < 400
    batch, _ = search(place, monkeypatch, lambda b: 9 if b < 2 else None, 10**6)
    assert batch == 1


def test_other_errors_of_the_compiler_are_not_hidden(place, monkeypatch):
    def cost(batch):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")

    with pytest.raises(jax.errors.JaxRuntimeError, match="something else"):
        search(place, monkeypatch, cost, 10**6)


def test_limits_of_the_choice(place, monkeypatch):
    free = lambda batch: 1
    assert search(place, monkeypatch, free, 10**6)[0] == 1024
    assert search(place, monkeypatch, free, 10**6, images=300)[0] == 300
    assert search(place, monkeypatch, free, 10**6, images=1)[0] == 1
    config, _, mesh = opened(place, devices=8)
    for images, most in ((300, 296), (5000, 1024), (3, 8)):
        lower = Compiler(free).lowered_step
        choice = autobatch.choose(config, range(images), mesh, 10**6, 1.0, lower=lower)
        assert choice.batch == most
    config = settings(place, batch=0.5)
    lower = Compiler(free).lowered_step
    choice = autobatch.choose(config, range(5000), mesh, 10**6, 0.5, lower=lower)
    assert choice.batch == 64


def test_a_batch_is_made_up_of_whole_groups_of_rows(place, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    monkeypatch.setattr(autobatch, "MOST_ON_CPU", autobatch.MOST)
    no_scratch(monkeypatch)
    config, _, mesh = opened(place, devices=2, bn_groups=3)
    lower = Compiler(lambda batch: MIB * (5 + batch // 2)).lowered_step
    choice = autobatch.choose(config, range(99), mesh, 40 * MIB, 1.0, lower=lower)
    assert choice.batch == 66  # 5 + 33 are at most 40, and 72 would take 41
    assert all(row.batch % 6 == 0 for row in choice.table)
    assert "needed = 5 MiB + 1.0 MiB per image per device" in caplog.text
    full = MemoryError()
    assert halve(place, 66, full, devices=2, bn_groups=3) == 30


def test_a_jax_that_does_not_tell_gives_a_fixed_batch(
    place, light, monkeypatch, caplog
):
    config, source, mesh = opened(place)
    step = lowered(config, source, mesh, 2).compile()
    assert step_memory.need_of(step, mesh).total > 0
    for value in (None, types.SimpleNamespace(temp_size_in_bytes=3)):
        silent = types.SimpleNamespace(memory_analysis=lambda v=value: v)
        assert step_memory.need_of(silent, mesh) is None
    monkeypatch.delattr(jax.stages.Compiled, "memory_analysis")
    assert step_memory.need_of(step, mesh) is None
    assert chosen(place, 1e9) == autobatch.Choice(16, (), None)
    assert chosen(place, 1e9, devices=8).batch == 16
    assert caplog.text.count("does not tell how much memory a program needs") == 2


def test_which_configs_leave_the_batch_open(place):
    for batch, automatic in ((-1, True), (0.7, True), (1, False), (16, False)):
        assert autobatch.is_automatic(settings(place, batch=batch)) is automatic
    config = settings(place)
    plain = autobatch.resolved(config, 12)
    assert plain.batch == 12 and config.batch == -1
    assert dict(plain.items()) | {"batch": -1} == dict(config.items())


def test_an_automatic_batch_is_a_number_where_nothing_is_trained(place, caplog):
    caplog.set_level(logging.INFO, "yolojax")
    config, _, mesh = opened(place, devices=2)
    assert autobatch.without_training(config, 11, mesh).batch == 10
    assert "batch = -1 is for training: batches of 10 here" in caplog.text
    given = settings(place, batch=6)
    assert autobatch.without_training(given, 11, mesh) is given


def test_resolve_takes_the_share_that_the_config_gives(place, light, monkeypatch):
    config, source, mesh = opened(place, batch=0.9)
    limit = need(place, 12).total
    monkeypatch.setattr(host_memory, "available", lambda: int(limit / 0.9) + 100)
    assert autobatch.resolve(config, [source], mesh, **LOWER).batch == 12
    config = settings(place)  # -1: of less
    assert autobatch.resolve(config, [source], mesh, **LOWER).batch < 12
    monkeypatch.setattr(host_memory, "available", lambda: int(limit / 0.6) + 100)
    assert autobatch.resolve(config, [source], mesh, **LOWER).batch == 12


def test_several_processes_take_the_batch_that_fits_all_of_them(
    place, light, monkeypatch
):
    config, source, mesh = opened(place, batch=0.9)

    def chosen():
        return autobatch.resolve(config, [source], mesh, **LOWER).batch

    little = int(need(place, 12).total / 0.9) + 100
    monkeypatch.setattr(host_memory, "available", lambda: 10**9)
    assert chosen() == len(source)
    told = {"free memory": little, "memory of a step": 0.0}
    monkeypatch.setattr(hosts, "everyone", lambda what, value: [value, told[what]])
    assert chosen() == 12
    told.update({"free memory": 10**9, "memory of a step": np.inf})
    assert chosen() == 1
    told["free memory"] = None
    assert chosen() == autobatch.FALLBACK


def test_cached_images_count_as_taken(place, monkeypatch):
    monkeypatch.setattr(host_memory, "available", lambda: 10**9)
    config, source, mesh = opened(place)
    pixels = 64 * 64  # the pictures are square
    kept = len(source) * pixels * 3

    def free(devices=1, sources=(source,), **values):
        mesh = sharding.make_mesh(f"cpu:{devices}", None)
        return autobatch.free_bytes(settings(place, **values), list(sources), mesh)

    assert free() == free(cache="disk") == 10**9
    assert free(cache="ram") == 10**9 - kept
    assert free(cache="ram", sources=(source, source)) == 10**9 - 2 * kept
    assert free(devices=8) == 10**9 // 8
    # On a device four bytes per pixel, and those of validation in the host's memory.
    stored = len(source) * pixels * 4
    assert free(cache="device", sources=(source, source)) == 10**9 - kept - stored
    monkeypatch.setattr(host_memory, "available", lambda: 8 * stored)
    monkeypatch.setattr(device_images, "CHUNK_BYTES", 4 * pixels)
    assert free(cache="device", devices=8) == stored - 3 * pixels * 4  # of 22 images


def test_the_fullest_accelerator_counts(place):
    config, source, _ = opened(place)

    def free(*stats):
        return autobatch.free_bytes(config, [source], accelerators(*stats))

    full = {"bytes_limit": 100, "bytes_in_use": 70}
    assert free({"bytes_limit": 100, "bytes_in_use": 20}, full) == 30
    assert free({"bytes_limit": 100, "bytes_in_use": 170}) == 0
    assert free(full, None) is None and free({"bytes_in_use": 3}) is None


def test_unknown_memory_gives_a_fixed_batch(place, caplog):
    config, source, _ = opened(place)
    settled = autobatch.resolve(config, [source], accelerators({}))
    assert settled.batch == 16
    assert autobatch.resolve(config, [source], accelerators(*[{}] * 3)).batch == 15
    assert "how much is free on An accelerator" in caplog.text


def halve(place, batch, error, **values):
    usual = {"asked": -1, "epoch": 0, "halvings": 0, "devices": 1} | values
    own = {"batch": batch, "bn_groups": usual.pop("bn_groups", 1)}
    found = autobatch.halved(settings(place, **own), error, **usual)
    return found and found.batch


def test_only_an_automatic_batch_in_the_first_epoch_is_halved(place):
    full = jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating")
    assert halve(place, 21, full) == 10
    assert halve(place, 20, MemoryError(), asked=0.8, halvings=2) == 10
    assert halve(place, 24, full, devices=8) == 8
    assert halve(place, 20, full, asked=20) is None
    assert halve(place, 20, full, epoch=1) is None
    assert halve(place, 20, full, halvings=3) is None
    assert halve(place, 1, full) is None
    assert halve(place, 8, full, devices=8) is None
    assert halve(place, 20, jax.errors.JaxRuntimeError("INTERNAL: x")) is None
    assert halve(place, 20, ValueError("x")) is None
    # A full disk is no memory that ran out, whatever a library calls it.
    disk = "RESOURCE_EXHAUSTED: Failed to write 1 bytes: No space left on device"
    assert halve(place, 20, ValueError(disk)) is None
