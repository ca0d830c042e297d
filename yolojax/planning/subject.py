"""What is planned: the run's settings and data, as far as a program depends on them."""

import dataclasses
import functools
import hashlib
import importlib.util
import json
import platform
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

import yolojax
from yolojax import optim
from yolojax.assembly import data as loading
from yolojax.assembly import network
from yolojax.assembly.optimizer import run_schedule
from yolojax.config import KEYS, changed
from yolojax.config.recorded import code_of_its_own
from yolojax.data.store.host_cores import usable_cores
from yolojax.devices.images import KEPT_FREE, layout_of
from yolojax.devices.known import Device
from yolojax.devices.mesh import make_mesh
from yolojax.planning import compiled
from yolojax.program import batch_size
from yolojax.program.absent.targets import PACKAGES, TARGETS
from yolojax.program.train_program import Program, make_program

# A program is the same whatever these are, or they are seen in what is made of them.
_NOT_OF_THE_PROGRAM = (
    "batch",
    "batch_size",
    "data",
    "fraction",
    "fraction_mode",
    "epochs",
    "seed",
    "cache",
    "plan_for",
    "price",
    "warmup_epochs",
)
_CODE = (  # that makes a program, below the package
    "assembly",
    "devices",
    "losses",
    "models",
    "ops",
    "optim",
    "program",
    "tasks",
    "precision.py",
    "types.py",
)
_LOADING = ("assembly", "data", "planning/loading.py")
COUNTED_AT = 8  # images of the step whose arithmetic is counted


@dataclasses.dataclass(frozen=True)
class StateSizes:
    """Bytes of what every device holds, whatever it is."""

    state: int  # parameters, moments, averages
    per_image: int  # of a batch
    parameters: int  # numbers


class Subject:
    """A run that is planned."""

    def __init__(self, config: Any) -> None:
        """Opens the training images; decodes none.

        Args:
            config: the run's settings.
        """
        self.config = config
        self.source = loading.open_split(config, "train")
        self._batches: dict[int, Any] = {}

    @property
    def images(self) -> int:
        """Number of training images."""
        return len(self.source)

    def batches(self, batch: int) -> Any:
        """Returns the run's batches of a size for their shapes alone."""
        settled = batch_size.resolved(self.config, batch)
        if not self._batches:
            self._batches[batch] = batch_size.planned(settled, self.source)
        if batch not in self._batches:
            known = next(iter(self._batches.values()))
            self._batches[batch] = loading.with_batch(known, settled, self.source)
        return self._batches[batch]

    def like(self, batch: int) -> dict[str, np.ndarray]:
        """Returns the largest batch of a size to read shapes from."""
        batches = self.batches(batch)
        return batches.like(max(batches.shapes(), key=np.prod))

    def schedule(self, batch: int) -> optim.RunSchedule:
        """Returns the run's schedule with a batch size, without its warm-up.

        That changes neither its steps nor its program, and is long to count for small
        batches of many images.
        """
        settled = changed(self.config, batch=batch, warmup_epochs=0.0)
        return run_schedule(settled, self.images, len(self.source.names))

    def program(self, batch: int, mesh: Mesh, image_memory: int) -> Program:
        """Returns the program of the run with a batch size."""
        settled = batch_size.resolved(self.config, batch)
        return make_program(settled, self.source, mesh, image_memory=image_memory)

    def pictures(self, device: Device, count: int) -> int:
        """Returns the bytes that pictures take on each device.

        Raises:
            ValueError: they do not fit.
        """
        if self.config.cache != "device":
            return 0
        mesh: Any = AbstractMesh((count,), ("data",))
        free = image_memory(device)
        return layout_of(self._sizes, mesh, free=free).bytes_each

    @functools.cached_property
    def _sizes(self) -> np.ndarray:
        return loading.cached_sizes(self.config, self.source)

    def _widths(self) -> tuple[int, int]:
        """Returns how many pictures there are, and the pixels of the largest."""
        return len(self._sizes), int(self._sizes.prod(axis=1, dtype=np.int64).max())

    @functools.cached_property
    def sizes(self) -> StateSizes:
        """What the state and an image of a batch take; traces the network once."""
        name = self.fingerprint(None, 1, min(COUNTED_AT, self.images))

        def find() -> dict[str, Any]:
            return dataclasses.asdict(self._counted_sizes())

        return StateSizes(**compiled.kept(f"{name}-sizes", find))

    def _counted_sizes(self) -> StateSizes:
        program, shapes = self._shapes
        state, batch, _, _ = shapes
        flat = jax.tree.leaves(state.params)
        return StateSizes(
            state=_bytes(state),
            per_image=_bytes(batch) // program.schedule.batch,
            parameters=sum(leaf.size for leaf in flat),
        )

    @functools.cached_property
    def _shapes(self) -> tuple[Program, Any]:
        batch = min(COUNTED_AT, self.images)
        batch = -(-batch // self.config.bn_groups) * self.config.bn_groups
        program = self.program(batch, make_mesh("cpu:1", None), 1 << 62)
        return program, program.shapes(self.like(batch))

    def arithmetic(self) -> float:
        """Returns the operations of a training step for each image; traces the step."""
        program, shapes = self._shapes
        lowered = program.lowered(*shapes, size=program.sizes.largest())
        costs = lowered.cost_analysis() or {}
        return float(costs["flops"]) / program.schedule.batch

    def fingerprint(self, name: str | None, count: int, batch: int) -> str:
        """Returns what tells a program from all others.

        Args:
            name: of the device; None: it is counted for no device.
            count: of devices.
            batch: images of a step, over all devices.
        """
        schedule = self.schedule(batch)
        like = self.like(batch)
        on_device = self.config.cache == "device"
        told = {
            "settings": self._settings(),
            "optimizer": (schedule.optimizer, schedule.accumulate_nominal),
            "data": (list(self.source.names), network.keypoints_of(self.source)),
            "classes": loading.class_counts(self.source).tolist()
            if self.config.cls_pw
            else None,
            "batch": [(k, v.shape, str(v.dtype)) for k, v in _leaves(like)],
            "padded": self.images % batch != 0,
            "pictures": self._widths() if on_device else None,
            "devices": (count, TARGETS[name].description if name else None),
            "versions": _versions(name),
            "code": _code(self.config),
        }
        return _hash(told)

    def loading_fingerprint(self, images: int) -> str:
        """Returns what tells how fast images load here from how fast others do.

        Args:
            images: the first ones, which are looked at.
        """
        told = {
            "settings": self._settings(),
            "cache": self.config.cache,
            "images": [str(path) for path in self.source.paths[:images]],
            "sizes": self.source.original_hw[:images].tolist(),
            "machine": (platform.node(), platform.processor(), usable_cores()),
            "versions": (np.__version__, metadata.version("opencv-python-headless")),
            "code": _own_code(_LOADING),
        }
        return _hash(told)

    def _settings(self) -> dict[str, Any]:
        """Returns the settings that a program, or the making of images, depends on."""
        return {
            key: self.config[key]
            for key, known in KEYS.items()
            if "plan" in known.commands and key not in _NOT_OF_THE_PROGRAM
        }


def image_memory(device: Device) -> int:
    """Returns how many bytes of a device cached pictures may take."""
    return int(device.usable * (1 - KEPT_FREE))


def _leaves(tree: dict[str, Any]) -> list[tuple[str, Any]]:
    found = jax.tree_util.tree_flatten_with_path(tree)[0]
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in found]


def _bytes(tree: Any) -> int:
    """Returns the bytes of shapes; keys of random numbers count as two words."""
    return sum(
        leaf.size
        * (
            8
            if jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf.dtype.itemsize
        )
        for leaf in jax.tree.leaves(tree)
    )


def _versions(name: str | None) -> dict[str, str]:
    """Returns the versions of what makes a program."""
    packages = ["jax", "jaxlib", "flax", "optax"]
    if name is not None:
        packages.append(PACKAGES[TARGETS[name].platform][0].replace("_", "-"))
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "none"
    return found


def _hash(told: dict[str, Any]) -> str:
    text = json.dumps(told, default=str, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


@functools.cache
def _own_code(parts: tuple[str, ...]) -> str:
    """Returns a digest of parts of the package."""
    root = Path(yolojax.__file__).parent
    digest = hashlib.sha256()
    for part in parts:
        place = root / part
        for path in sorted(place.rglob("*.py")) if place.is_dir() else [place]:
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _code(config: Any) -> list[str]:
    """Returns digests of the code: ours, and of the modules that the user names."""
    found = [_own_code(_CODE)]
    for value in code_of_its_own(config).values():
        spec = importlib.util.find_spec(value.partition(":")[0])
        if spec is None or spec.origin is None:
            continue
        for path in sorted(Path(spec.origin).parent.glob("*.py")):
            found.append(hashlib.sha256(path.read_bytes()).hexdigest())
    return found
