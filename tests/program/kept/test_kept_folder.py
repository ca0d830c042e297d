"""Damaged entries of the compilation cache go once, and are written anew."""

import logging
import warnings
import zlib

import jax
import jax.numpy as jnp
import pytest
from jax.experimental.compilation_cache import compilation_cache

from yolojax.program.kept import folder as kept


@pytest.fixture
def shown():
    """Returns the warnings that a user would see."""
    seen = []
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *rest: seen.append(str(message))
        yield seen


@pytest.fixture
def folder(tmp_path, caplog, shown):
    """Returns an empty folder that JAX keeps every program in."""
    caplog.set_level(logging.INFO, "yolojax")
    names = ("jax_compilation_cache_dir", "jax_persistent_cache_min_compile_time_secs")
    before = {name: getattr(jax.config, name) for name in names}
    compilation_cache.reset_cache()
    jax.config.update(names[0], str(tmp_path))
    jax.config.update(names[1], 0.0)
    kept.mend_entries(tmp_path)
    yield tmp_path
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def compile_once(size=3):
    jax.clear_caches()

    def doubled_in_test(x):
        return 2 * x

    return jax.jit(doubled_in_test)(jnp.ones(size))


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: zlib.compress(b"no program"),  # unpacks, but is none
    ],
)
def test_a_damaged_entry_is_removed_and_written_anew(folder, caplog, shown, damage):
    compile_once()
    [entry] = folder.glob("jit_doubled_in_test-*-cache")
    whole = entry.read_bytes()
    entry.write_bytes(damage(whole))
    assert compile_once().sum() == 6
    assert "in " + str(folder) + " was damaged and is made anew" in caplog.text
    assert len(caplog.messages) == 1 and not shown
    assert len(entry.read_bytes()) > 100
    compile_once()
    assert len(caplog.messages) == 1  # nothing to be told any more


def entries(folder):
    return len([*folder.glob("jit_doubled_in_test-*-cache")])


def test_programs_are_kept_elsewhere_for_a_while(folder, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    with kept.programs_kept_in(other):
        compile_once()
    assert (entries(folder), entries(other)) == (0, 1)
    with kept.programs_kept_in(None):
        compile_once()
    assert (entries(folder), entries(other)) == (0, 1)
    compile_once()
    assert (entries(folder), entries(other)) == (1, 1)


def test_the_usual_folder_comes_back_after_an_error(folder):
    with pytest.raises(KeyError), kept.programs_kept_in(None):
        raise KeyError
    compile_once()
    assert entries(folder) == 1


def test_whole_entries_of_the_same_name_stay(tmp_path):
    for number, data in enumerate((zlib.compress(b"x"), b"cut", zlib.compress(b"y"))):
        (tmp_path / f"jit_step-{number}-cache").write_bytes(data)
    (tmp_path / "jit_other-1-cache").write_bytes(b"cut")
    assert kept.remove_damaged(tmp_path, "jit_step") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "jit_other-1-cache",
        "jit_step-0-cache",
        "jit_step-2-cache",
    ]


def test_other_warnings_are_shown_and_a_full_disk_is_told_once(folder, caplog, shown):
    text = "Error writing persistent compilation cache entry for 'jit_a': OSError: full"
    for _ in range(3):
        warnings.warn(text, stacklevel=1)
    assert caplog.messages == ["compiled programs cannot be kept: OSError: full"]
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("something else", stacklevel=1)
    assert len(caplog.messages) == 1 and shown == ["something else"]
