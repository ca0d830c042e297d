"""What must be settled before JAX computes: its silence, platform and kept programs.

The command does all of it as it starts. Calls from Python leave the platform alone,
which belongs to the program that they are in.
"""

import functools
import logging
import os
from pathlib import Path
from typing import Any

from yolojax.cache import cache_root
from yolojax.config import device
from yolojax.errors import install_hint
from yolojax.files import local_path

STEPS = ("train", "val")  # commands whose steps are kept as well

log = logging.getLogger("yolojax")


def set_up_jax(config: Any, command: str | None = None) -> None:
    """Chooses platform and compilation cache; must run before JAX makes devices.

    Args:
        config: checked settings.
        command: one of keys.COMMANDS, joined with the other processes of its run if
            there are any; None: they are left alone.

    Raises:
        ValueError: there are no such devices, the cache cannot be written to, or the
            processes of a run do not find together.
    """
    silence_xla()
    from yolojax.devices import hosts

    if command is not None:
        hosts.join(config, command)
    wanted = device.parsed(config.device) if config.device else None
    if wanted is not None:
        _choose_platform(wanted, config.device)
    hosts.check_devices()
    keep_compiled(config.compile_cache)
    if command in STEPS and config.compile_cache != "off":
        from yolojax.program.kept import steps

        steps.keep()


def silence_xla() -> None:
    """Keeps XLA from writing between our lines: what it logs is not for users.

    It reads the setting when JAX is loaded. What ends a program comes as an exception.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def keep_compiled(setting: str) -> None:
    """Lets JAX keep compiled programs.

    Args:
        setting: config.compile_cache: a folder, "auto" for the usual one, or "off".

    Raises:
        ValueError: the folder that is set cannot be written to.
    """
    if setting == "off":
        return
    folder = cache_root() / "compiled"
    if setting != "auto":
        folder = local_path(setting, "config.compile_cache").absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        writable = os.access(folder, os.W_OK)
    except OSError:
        writable = False
    if not writable:
        text = f"compiled programs cannot be kept in {folder}: it cannot be written to"
        if setting != "auto":
            raise ValueError(f"config.compile_cache = {setting!r}: {text}.")
        log.warning("%s, so each run compiles anew", text)
        return
    _keep_in(folder)


@functools.cache
def keep_compiled_unless_set() -> None:
    """Lets JAX keep compiled programs in the usual folder, as calls from Python do.

    Once, and not where the program around has chosen a folder or wants none.
    """
    import jax

    values = jax.config.values
    wanted = values["jax_enable_compilation_cache"]
    if wanted and values["jax_compilation_cache_dir"] is None:
        from jax.experimental.compilation_cache import compilation_cache

        keep_compiled("auto")
        compilation_cache.reset_cache()  # it looks for a folder only once


def _keep_in(folder: Path) -> None:
    import jax

    from yolojax.program.kept.folder import mend_entries

    mend_entries(folder)
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 1.0)


def _choose_platform(wanted: device.Device, setting: str) -> None:
    """Lets JAX see the devices that are wanted, and no others."""
    import jax

    platform_name = {"gpu": "cuda"}.get(wanted.kind, wanted.kind)
    jax.config.update("jax_platforms", platform_name)
    if wanted.kind == "cpu" and wanted.count:
        jax.config.update("jax_num_cpu_devices", wanted.count)
    if wanted.numbers is not None:  # the others are left to other programs
        numbers = ",".join(map(str, wanted.numbers))
        jax.config.update("jax_cuda_visible_devices", numbers)
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # which one depends on JAX
        raise ValueError(
            f"config.device = {setting!r}: JAX finds no usable {wanted.kind}"
            " here. Leave the key out to use what there is, or write device=cpu."
            f" For GPUs: {install_hint('cuda12')}. For TPUs: {install_hint('tpu')}."
        ) from error
