"""What several processes must have in common, compared by content.

Places may differ from machine to machine, and the same place may hold something else.
"""

from collections.abc import Iterable, Mapping

import jax
import numpy as np

from yolojax.data import Source
from yolojax.devices import hosts
from yolojax.runs.data_notes import data_identity
from yolojax.runs.journal import arrays_hash, names_hash
from yolojax.types import PyTree


def check_data(sources: Mapping[str, Source]) -> None:
    """Raises ValueError, in every process, unless all have the same data.

    Args:
        sources: by split.
    """
    if not hosts.joined():
        return
    values: dict[str, object] = {"splits": len(sources)}
    for split, source in sources.items():
        found = data_identity(source)
        values[f"classes of {split}"] = found.names
        values[f"images of {split} (number, hash of their names)"] = found.images
        values[f"content of {split} (hash of pictures and labels)"] = found.content
    hosts.agree(values)


def check_weights(variables: PyTree) -> None:
    """Raises ValueError, in every process, unless all have the same weights."""
    if hosts.joined():
        leaves = map(np.asarray, jax.tree.leaves(variables))
        hosts.agree({"content of the weights (hash)": arrays_hash(leaves)})


def check_names(what: str, names: Iterable[str]) -> None:
    """Raises ValueError, in every process, unless all have the same names.

    Args:
        what: has them, in words.
        names: in their order.
    """
    if hosts.joined():
        names = list(names)
        hosts.agree({f"{what} (number, hash)": f"{len(names)} ({names_hash(names)})"})
