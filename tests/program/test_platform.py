"""Precision and the forms of convolutions follow the devices that a program is for."""

import jax
import numpy as np
import pytest

from yolojax import config as config_lib
from yolojax import models
from yolojax.assembly import network
from yolojax.program.step import make_eval_step
from yolojax.tasks.detect import DetectionRules
from yolojax.types import Batch

RULES = DetectionRules(0.25, 0.7, 20, multi_label=False, agnostic=False)


def made(platform, **settings):
    config = config_lib.default("detect")
    config.update(settings)
    return network.network(config_lib.check(config), 3, platform=platform)


@pytest.mark.parametrize(
    ("platform", "amp", "name"),
    [("cpu", True, "fp32"), ("gpu", True, "bf16"), ("tpu", True, "bf16")],
)
def test_precision_is_that_of_the_platform(platform, amp, name):
    assert made(platform, amp=amp).policy.name == name


def test_float32_products_are_whole_where_they_were_asked_for():
    assert made("tpu", amp=False).policy.matmul == "highest"
    assert made("tpu", amp="bf16").policy.matmul is None


def convolutions(net):
    """Returns how many convolutions of XLA's own the evaluation step has."""
    image = np.zeros((1, 64, 64, 3), np.uint8)
    boxes, one = np.zeros((1, 8, 4), np.float32), np.zeros((1, 8), np.int32)
    rows = {"image": image, "boxes": boxes, "classes": one, "valid": one > 0}
    rows["example_valid"] = np.ones(1, bool)
    batch = Batch(**rows)
    step = make_eval_step(net, RULES)
    text = str(jax.make_jaxpr(step)(models.variable_shapes(net.model), batch))
    return text.count("conv_general_dilated[")


def test_a_program_for_absent_devices_has_their_convolutions():
    """JAX's own default here is a CPU, whatever the program is for."""
    assert jax.default_backend() == "cpu"
    here, there = (convolutions(made(p, amp="fp32")) for p in ("cpu", "gpu"))
    assert 0 < here < there / 2  # pointwise and depthwise ones have another form
    assert convolutions(made(None, amp="fp32")) == here
