"""Decisions at the end of an epoch: best so far, early stopping, validation, mosaic.

Plain numbers in, plain numbers out. Fitness values arrive rounded to five decimals.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Stopper:
    """State of early stopping; `dataclasses.asdict` gives what a checkpoint holds."""

    best: float = 0.0
    best_epoch: int = 0  # counted from 1; 0: no epoch seen


def stopper_update(
    state: Stopper, fitness: float | None, epoch: int, patience: int
) -> tuple[Stopper, bool, bool]:
    """Returns the new state, whether the next epoch may stop, and whether to stop now.

    A tie does not reset the wait. While the best is 0 every epoch does, so a run whose
    metric has not left zero is never stopped.

    Args:
        state: state after the previous epoch.
        fitness: fitness of this epoch, None if it was not measured.
        epoch: number of this epoch, counted from 1.
        patience: epochs to wait for an improvement, 0: for ever.
    """
    if fitness is None:
        return state, False, False
    if fitness > state.best or state.best == 0:
        state = Stopper(float(fitness), epoch)
    if patience == 0:
        return state, False, False
    waited = epoch - state.best_epoch
    return state, waited >= patience - 1, waited >= patience


def update_best(best: float | None, fitness: float | None) -> tuple[float | None, bool]:
    """Returns the best fitness including this epoch, and whether this epoch equals it.

    The second value says to write the best checkpoint: also on a later tie, and on
    every epoch as long as no fitness was measured at all.
    """
    if fitness is not None and (best is None or fitness > best):
        best = fitness
    return best, fitness == best


def keeps_epoch(epoch: int, save_period: int) -> bool:
    """Returns whether the weights of an epoch (counted from 0) are kept for good.

    Every `save_period` epochs, the first one among them; below 1: never.
    """
    return save_period > 0 and epoch % save_period == 0


def validation_due(
    *, val: bool, epoch: int, epochs: int, may_stop: bool, stopping: bool
) -> bool:
    """Returns whether an epoch (counted from 0) ends with a validation.

    Args:
        val: validate after every epoch.
        epoch: this epoch.
        epochs: length of the run.
        may_stop: the stopper said so after the previous epoch.
        stopping: the run was asked to end with this epoch.
    """
    return val or epoch == epochs - 1 or may_stop or stopping
