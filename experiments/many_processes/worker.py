"""The command, as a process of the experiment: it may note steps and signal itself.

The variable MANY says what, as JSON: note (a file), pause (seconds before each step),
signal ([SIGNAL, step] or [SIGNAL, validation, batch]), signalled (a file that is told
when), float64.
"""

import hashlib
import json
import os
import signal
import time


def main():
    """Runs the command of this process's arguments."""
    how = json.loads(os.environ["MANY"])
    if how.get("float64"):
        widen()
    if how.get("signal"):
        send(how["signalled"], *how["signal"])
    if how.get("note"):
        note(how["note"], how.get("pause", 0))
    from yolojax import main

    main.command()


def note(path, pause):
    """Writes a line per step: hashes of the rows made here, losses, and the time."""
    import jax

    from yolojax.training import loop

    usual = loop.do_steps

    def noted(run, state, host_batches, iteration):
        time.sleep(pause)
        state, logs = usual(run, state, host_batches, iteration)
        losses = [float(value) for value in jax.device_get(logs).losses]
        batches = run.data.batches
        rows = batches.painted or slice(0, batches.batch)
        line = {
            "step": iteration,
            "rows": hashes(host_batches[0], rows),
            "losses": losses,
            "at": time.monotonic(),
        }
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        return state, logs

    loop.do_steps = noted


def hashes(host, rows):
    """Returns a hash of each of these rows of a batch, by its number in the batch."""
    batch = len(host["example_valid"])
    found = {}
    for row in range(rows.start, rows.stop):
        digest = hashlib.sha256()
        for name in sorted(host):
            value = host[name]
            at = row if len(value) == batch else row - rows.start
            digest.update(name.encode() + value[at].tobytes())
        found[row] = digest.hexdigest()[:16]
    return found


def send(told, name, *where):
    """Lets this process signal itself before a step, or in a validation."""
    from yolojax.training import epoch_end, loop

    def strike():
        with open(told, "w", encoding="utf-8") as file:
            file.write(str(time.time()))
        os.kill(os.getpid(), signal.Signals[name])

    if len(where) == 1:
        usual = loop.do_steps

        def do_steps(run, state, host_batches, iteration):
            if iteration == where[0]:
                strike()
            return usual(run, state, host_batches, iteration)

        loop.do_steps = do_steps
        return
    forward, validations = epoch_end.forward, []

    def struck(*arguments):
        validations.append(0)
        for number, found in enumerate(forward(*arguments)):
            yield found
            if [len(validations), number] == list(where):
                strike()

    epoch_end.forward = struck


def widen():
    """Lets the network compute in float64, for which the command has no setting."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from yolojax import models, precision

    shapes, values = models.variable_shapes, models.initial_variables

    def wide_shapes(model):
        return jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, jnp.float64), shapes(model)
        )

    def wide_values(*arguments, **options):
        found = values(*arguments, **options)
        return jax.tree.map(lambda leaf: np.asarray(leaf, np.float64), found)

    precision.resolve = lambda *_: precision.Precision("fp64", jnp.float64, False)
    models.variable_shapes, models.initial_variables = wide_shapes, wide_values


if __name__ == "__main__":
    main()
