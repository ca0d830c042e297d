"""Groups of rows with batch-norm statistics of their own, and devices that hold them.

Batch norm over the whole batch makes devices that share a batch wait for each other in
every layer. With statistics of groups of rows, and whole groups on each device, nothing
of a row depends on another device until the loss: every device computes the forward and
backward pass of its rows with a copy of the parameters, and the gradients of all layers
are added up at once. The numbers depend on the groups, not on the devices: eight groups
are the same on one device as on eight.

Reference: Ioffe and Szegedy 2015, arXiv:1502.03167; groups of a batch, "ghost batches",
Hoffer et al. 2017, arXiv:1705.08741.
"""

import dataclasses
import math
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from yolojax.devices.mesh import rows_over
from yolojax.models.blocks import Pass
from yolojax.optim import flat
from yolojax.types import Array, PyTree


@dataclasses.dataclass(frozen=True)
class Groups:
    """How many groups the rows of a batch make, and who holds whole ones."""

    count: int = 1  # 1: the whole batch
    mesh: Mesh | None = None  # each device holds whole groups; None: not looked after
    empty: int = 0  # of the groups: the last ones, of padding alone

    def rows(self, batch: int, devices: int) -> int:
        """Returns the rows of a batch that the devices share, with those of padding.

        Args:
            batch: rows that count.
            devices: how many there are.
        """
        if self.count == 1:
            return rows_over(batch, devices)
        return batch // (self.count - self.empty) * self.count

    def on_one_device(self) -> "Groups":
        """Returns the groups of one device, which needs no padding."""
        return Groups(self.count - self.empty)

    def spread(self, params: PyTree) -> PyTree:
        """Returns the parameters to differentiate: of each device [D, ...], or as is.

        One copy for each device keeps the gradients of different devices apart until
        `added` adds them up, all layers in one exchange.
        """
        if self.mesh is None:
            return params
        size, own = self.mesh.size, NamedSharding(self.mesh, P("data"))
        return jax.tree.map(
            lambda leaf: jax.lax.with_sharding_constraint(
                jnp.broadcast_to(leaf[None], (size, *leaf.shape)), own
            ),
            params,
        )

    def added(self, gradients: PyTree, like: PyTree) -> PyTree:
        """Returns gradients of what `spread` gave, packed as the parameters are.

        Args:
            gradients: of the copies of each device, or of the parameters.
            like: the packed parameters.
        """
        if self.mesh is None:
            return flat.packed_like(gradients, like)
        each = jax.vmap(lambda tree: flat.packed_like(tree, like))(gradients)
        return jax.tree.map(lambda vector: vector.sum(0), each)

    def forward(
        self, model: nn.Module, variables: PyTree, image: Array, mode: Pass
    ) -> tuple[Any, PyTree]:
        """Returns outputs and batch statistics of a training pass.

        Args:
            model: the network.
            variables: {"params", "batch_stats"}; parameters as `spread` gives them.
            image: [B, H, W, 3].
            mode: of the pass; its groups are replaced by these.

        Returns:
            The outputs, and the new statistics: [G, ...] of each group, to be joined by
            `joined`, if there are several.
        """
        params, statistics = variables["params"], variables["batch_stats"]
        if self.count == 1:
            return _forward(model, params, statistics, image, mode)
        if self.mesh is None:
            mode = dataclasses.replace(mode, groups=self.count)
            return _forward(model, params, statistics, image, mode)
        mode = dataclasses.replace(mode, groups=self.count // self.mesh.size)

        def own(copies: PyTree, statistics: PyTree, image: Array, valid: Any) -> Any:
            params = jax.tree.map(lambda leaf: leaf[0], copies)
            local = dataclasses.replace(mode, example_valid=valid)
            return _forward(model, params, statistics, image, local)

        rows = P("data")
        apart = jax.shard_map(
            own,
            mesh=self.mesh,
            in_specs=(rows, P(), rows, rows),
            out_specs=rows,
            check_vma=False,  # what is replicated is never differentiated here
        )
        return apart(params, statistics, image, mode.example_valid)

    def joined(
        self, statistics: PyTree, before: PyTree, valid: Array | None, fixed: frozenset
    ) -> PyTree:
        """Returns the running statistics that all groups lead to, packed.

        They are the mean over the groups that have a row that counts.

        Args:
            statistics: as `forward` returns.
            before: packed ones that the pass began with.
            valid: [B] bool, rows that count; None: all.
            fixed: paths of batch norms that stay as they are.
        """
        if self.count == 1:
            return flat.packed_like(statistics, before)
        each = jax.vmap(lambda tree: flat.packed_like(tree, before))(statistics)
        if valid is None:
            new = jax.tree.map(lambda vector: vector.mean(0), each)
        else:
            counts = valid.reshape(self.count, -1).any(1)
            total = jnp.maximum(counts.sum(), 1)
            new = jax.tree.map(
                lambda vector: jnp.where(counts[:, None], vector, 0).sum(0) / total,
                each,
            )
        if not fixed:
            return new
        # Their mean over groups is the same but for rounding.
        kept = jax.tree_util.tree_map_with_path(
            lambda path, old, value: old if _norm_of(path) in fixed else value,
            flat.unpacked(before),
            flat.unpacked(new),
        )
        return flat.packed_like(kept, before)


def of_mesh(count: int, batch: int, mesh: Mesh, *, mixes: bool) -> Groups:
    """Returns the groups of batches that the devices of a mesh share.

    Where the devices cannot share them evenly, groups of padding are added.

    Args:
        count: of groups.
        batch: rows, as many in each group.
        mesh: the devices.
        mixes: whether the network's training pass draws random numbers for the batch as
            a whole (dropout), which a device cannot do for its rows alone.
    """
    if count == 1:
        return Groups()
    apart = 1 < mesh.size <= count and not mixes
    # Whole groups for each device; else as many as make rows that they share evenly.
    several = mesh.size if apart else mesh.size // math.gcd(batch // count, mesh.size)
    total = -(-count // several) * several
    return Groups(total, mesh if apart else None, total - count)


def _forward(
    model: nn.Module, params: PyTree, statistics: PyTree, image: Array, mode: Pass
) -> tuple[Any, PyTree]:
    outputs, changed = model.apply(
        {"params": params, "batch_stats": statistics},
        image,
        mode=mode,
        mutable=["batch_stats"],
    )
    new = changed["batch_stats"]
    count = mode.groups
    if count is None:
        return outputs, new

    def of_groups(new: Array, old: Array) -> Array:
        if new.ndim > old.ndim:
            return new
        return jnp.broadcast_to(new[None], (count, *new.shape))  # of a frozen one

    return outputs, jax.tree.map(of_groups, new, statistics)


def _norm_of(path: Any) -> str:
    name = jax.tree_util.keystr(path, simple=True, separator="/")
    return name.rpartition("/")[0]
