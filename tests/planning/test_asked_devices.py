"""Devices and prices as users write them."""

import pytest

from yolojax.config.grammar import translated
from yolojax.devices.known import DEVICES
from yolojax.planning.asked import Asked, devices_of, prices_of


def refusal(text):
    with pytest.raises(ValueError) as caught:
        devices_of(text)
    return str(caught.value)


def test_names_and_counts_are_read():
    asked = devices_of("h100, A100-80,v5e:4,h100x8,l4:2,h100")
    assert [(a.name, a.count) for a in asked] == [
        ("h100", 1),
        ("a100-80", 1),
        ("v5e", 4),
        ("h100", 8),
        ("l4", 2),
    ]


@pytest.mark.parametrize("text", [None, "", " , "])
def test_no_devices_are_refused_with_the_known_ones(text):
    assert "Known: h100, h200" in refusal(text)


def test_an_unknown_device_is_refused_with_the_nearest_and_all_known():
    said = refusal("h100,a100_80")
    assert "'a100_80' is no device" in said and "Did you mean 'a100-80'?" in said
    assert all(name in said for name in DEVICES)


def test_chips_make_slices():
    assert "3 v5e chips make no slice; use one of 1, 4, 8" in refusal("v5e:3")
    assert "Write one of v5p:4, v5p:8" in refusal("v5p")
    assert devices_of("v5e") == (Asked("v5e", "v5e", 1),)


def test_no_devices_of_a_kind_are_refused():
    assert "asks for no device" in refusal("h100:0")


def test_prices_are_of_devices_that_are_planned_for():
    asked = devices_of("h100x8,v5e:4")
    assert prices_of("h100=2.5,v5e=1", asked) == {"h100": 2.5, "v5e": 1.0}
    assert prices_of(None, asked) == {}
    with pytest.raises(ValueError, match="'t4' is not planned for.* h100, v5e"):
        prices_of("t4=1", asked)


@pytest.mark.parametrize("text", ["h100", "h100=", "h100=-1", "h100=nan", "h100=much"])
def test_what_is_no_price_is_refused(text):
    with pytest.raises(ValueError, match=f"price: '{text}' is no price. Write"):
        prices_of(text, devices_of("h100"))


def test_the_command_takes_a_word_that_python_keeps_for_itself():
    flags = translated(["plan", "yolo11n", "for=h100,v5e:4", "price=h100=2"], print)
    assert flags[0] == "--mode=plan"
    assert {"--config.plan_for=h100,v5e:4", "--config.price=h100=2"} < set(flags)


def test_every_device_says_where_its_figures_are_from():
    for name, device in DEVICES.items():
        assert device.source.startswith("https://"), name
        assert device.rate("fp32") <= device.rate("fp16"), name
        assert 0 < device.usable < device.memory, name
