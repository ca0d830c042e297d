"""What the program says of itself."""

import re

import pytest

import yolojax
from yolojax import config
from yolojax.config import command_line, helps, keys


def shown(capsys, *words):
    """Returns what is printed for a command that only asks."""
    with pytest.raises(SystemExit) as ended:
        command_line.parse(["yolojax", *words])
    assert ended.value.code == 0
    return capsys.readouterr().out


def flat(text):
    return re.sub(r"\s+", " ", text)


def test_help_lists_flags_and_every_setting_with_what_it_may_hold(capsys):
    text = shown(capsys, "--help")
    for flag in ("--config FILE", "--workdir", "--mode", "--debug", "--version"):
        assert flag in text
    for name, key in config.KEYS.items():
        assert f"  {name}={key.default}" in text
        assert flat(key.meaning + helps.allowed(key)) in flat(text), name
        missing = [c for c in key.choices if str(c).lower() not in text.lower()]
        assert not missing, name
    for title in keys.GROUPS.values():
        assert f"\n{title}\n" in text
    assert "[1 or more]" in text and "[0 to 1]" in text


def test_help_fits_a_terminal(capsys):
    lines = shown(capsys, "--help").splitlines()
    assert [line for line in lines if len(line) > 80 and "://" not in line] == []


@pytest.mark.parametrize(
    "words",
    [
        ("--mode", "export", "--help"),
        ("export", "--help"),
        ("help", "export"),
        ("export", "runs/detect/train", "-h"),
    ],
)
def test_help_for_a_command_lists_what_it_reads(capsys, words):
    text = shown(capsys, *words)
    assert "Settings that export reads" in text
    assert "  format=safetensors" in text and "  weights=None" in text
    assert "lr0" not in text and "mosaic" not in text


@pytest.mark.parametrize("words", [("--version",), ("version",), ("train", "-V")])
def test_the_version(capsys, words):
    assert shown(capsys, *words) == f"yolojax {yolojax.__version__}\n"


def test_groups_start_at_settings():
    assert set(keys.GROUPS) <= set(keys.KEYS)
    assert next(iter(keys.GROUPS)) == next(iter(keys.KEYS))
