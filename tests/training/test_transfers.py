"""Nothing crosses between host and devices in the loop without being meant to."""

import forked_runs
import jax
import numpy as np
import pytest
from forked_runs import results, run_here

from yolojax.program.dispatch import TrainDispatch

pytestmark = pytest.mark.process  # a whole run


@pytest.fixture
def guarded(monkeypatch):
    """Forbids implicit transfers from the second dispatch of a run on."""
    calls = []

    class Guarded(TrainDispatch):
        def __call__(self, *args, **options):
            if calls:
                jax.config.update("jax_transfer_guard", "disallow")
            calls.append(options["steps"])
            return super().__call__(*args, **options)

    monkeypatch.setitem(forked_runs.HANDED, "dispatch", Guarded)
    yield calls
    jax.config.update("jax_transfer_guard", "allow")


def test_the_loop_transfers_only_what_it_says(place, guarded, monkeypatch):
    monkeypatch.setenv("YOLOJAX_CACHE", str(place / "cache"))
    run_here(place, "guarded", epochs=2, fraction=12, log_every=1, save_minutes=1e-9)
    assert len(guarded) == 6 and len(results(place / "guarded")) == 2
    # The guard is in force: an array that was not put on a device is refused.
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        jax.jit(lambda x: x + 1)(np.zeros(3, np.float32))
