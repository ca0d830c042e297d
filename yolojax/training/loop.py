"""Training: epochs of batches, as a page to read."""

import contextlib
import logging
import time
from typing import Any

import jax

from yolojax.assembly import data as loading
from yolojax.devices import hosts
from yolojax.program import feed
from yolojax.program.step import Logs
from yolojax.training import outputs, preemption
from yolojax.training.clock import Meter
from yolojax.training.epoch_end import end_epoch, finish, has_result
from yolojax.training.replay.bad_step import stop_non_finite
from yolojax.training.run import Run
from yolojax.types import TrainState

log = logging.getLogger("yolojax")


def train(run: Run, state: TrainState) -> None:
    """Runs what is left of a run, then evaluates and draws its best weights.

    Args:
        run: the run.
        state: to start from, on the devices; donated.
    """
    step = int(jax.device_get(state.step))
    if outputs.say_complete(run.journal, run.program.schedule, run.config, step):
        # Process 0 alone knows: it may be the only one that sees what it has drawn.
        if hosts.everyone("left", run.config.plots and not has_result(run))[0]:
            finish(run)  # the run ended before this was done
        return
    if run.journal.saves:
        outputs.say_resuming(run.journal, run.program, step)
    run.journal.devices = run.program.mesh.size
    run.journal.ended = False  # perhaps it was, before it was given more time
    run.begin_step(state, step)
    if step == 0 and hosts.leads():
        data = run.data
        outputs.show_training_data(run.config, run.folder, data.source, data.batches)
    run.outputs = outputs.Outputs.open(
        run.folder, run.program, run.journal.epoch, run.means.now
    )
    run.open_watches()
    outputs.announce(run.program, run.config)
    run.outputs.header()
    with run.stop, preemption.watching(run.config, run.stop):
        train_epochs(run, state, step)
    run.checkpoints.wait()
    hosts.wait("the last save")
    finish(run)


def train_epochs(run: Run, state: TrainState, step: int) -> None:
    """Runs the remaining epochs.

    Args:
        run: the run.
        state: to start from; donated.
        step: batches that it has seen.
    """
    journal, total = run.journal, run.program.schedule.batches_per_epoch
    first, loader = journal.epoch, None
    try:
        while journal.epoch < run.program.schedule.epochs:
            epoch, started = journal.epoch, run.clock.seconds()
            loader = _loader(run, loader, step)
            state, step = train_epoch(run, state, step, loader)
            run.stop.begun = True  # also where only the validation was left
            if epoch == first and epoch + 1 < run.program.schedule.epochs:
                _wait_for_programs(run)
            run.settle()  # this end goes by what the one before has decided
            whole, saves = step == (epoch + 1) * total, journal.saves
            if whole:
                run.fit_to_time(epoch + 1)
            end_epoch(run, state, epoch, whole=whole, started=started)
            if outputs.say_ended(journal, run.config, run.clock.seconds()):
                break
            if run.stop.at(step):
                run.settle()
                if journal.saves == saves:
                    run.save(state)
                run.leave()
    except Exception:
        run.settle()  # the epoch before was whole, whatever happened in this one
        raise
    finally:
        if loader is not None:
            loader.close()
        run.watches.trace.close()
        run.outputs.close()


def train_epoch(
    run: Run, state: TrainState, step: int, loader: Any
) -> tuple[TrainState, int]:
    """Returns state and step after the (remaining) batches of an epoch.

    Some are left only if the time of the run is up. The devices are at most one
    dispatch behind: more would hold memory for batches, and a stop would have to wait.

    Args:
        run: the run.
        state: before them; donated.
        step: batches that it has seen.
        loader: yields the host batches from that step on.
    """
    config, total = run.config, run.program.schedule.batches_per_epoch
    end = (run.journal.epoch + 1) * total  # reached already if only validation is left
    meter, logs = Meter(config.batch), None
    while step < end:
        steps = run.program.steps_at_once(step % total)
        if step > 0 and run.is_time_up_at(step):
            _check_finite(run, state, logs)
            break
        waiting = time.monotonic()
        with jax.profiler.TraceAnnotation("load"):
            host_batches = [next(loader) for _ in range(steps)]
        meter.waited(time.monotonic() - waiting)
        earlier = logs
        state, logs = do_steps(run, state, host_batches, step)
        run.stop.begun = True
        if earlier is not None:
            jax.block_until_ready(earlier.bad_step)
        step, before = step + steps, step
        meter.stepped(steps)
        run.outputs.news(run.steps.train.compiler.news())
        if run.clock.compiled(step):
            meter = Meter(config.batch)  # speed without compilation
        last, every = step == end, config.log_every
        due = run.outputs.progress.due()  # a fast run moves its line by time
        if last or due or step % total // every > before % total // every:
            # The step before the newest one: reading it does not stop the device.
            newest = logs if last or earlier is None else earlier
            seen = _check_finite(run, state, newest)
            _show(run, seen, meter, step)
            run.outputs.news(run.watches.loading.news(loader, meter, last=last))
        run.outputs.pace = meter.pace()
        run.settle(wait=False)
        _save_if_asked(run, state, logs, step, last=last)
    return state, step


def do_steps(
    run: Run, state: TrainState, host_batches: list[dict[str, Any]], iteration: int
) -> tuple[TrainState, Logs]:
    """Returns state and logs after the steps of one or several host batches.

    Args:
        run: the run.
        state: before them; donated.
        host_batches: of consecutive steps.
        iteration: of the first of them.
    """
    program, steps = run.program, len(host_batches)
    batch, hyper = feed.put(
        host_batches, program.schedule, iteration, program.mesh, program.rows
    )
    telling: Any = contextlib.nullcontext()
    if run.clock.fresh:  # nothing is compiled yet
        telling = run.outputs.progress.phase(
            "compiling the training step, a minute or so", "compiled the training step"
        )
    with telling:
        if run.clock.fresh:
            size = program.size_at(iteration)
            run.steps.train.begin(state, batch, hyper, size=size, steps=steps)
            # Once the step is traced or loaded, which this would make wait.
            run.steps.train.compiler.later(
                lambda: run.watches.loading.measure(run.data.batches)
            )
            run.compile_ahead(state, host_batches, iteration)
        return _dispatched(run, state, batch, hyper, iteration, steps)


def _dispatched(
    run: Run, state: TrainState, batch: Any, hyper: Any, iteration: int, steps: int
) -> tuple[TrainState, Logs]:
    trace, compiler = run.watches.trace, run.steps.train.compiler
    trace.before(state, busy=compiler.busy())
    with jax.profiler.StepTraceAnnotation("train", step_num=iteration):
        state, logs = run.steps.train(
            state,
            batch,
            hyper,
            size=run.program.size_at(iteration),
            steps=steps,
        )
    trace.after(logs, steps, run.steps.train.text)
    return state, logs


def _wait_for_programs(run: Run) -> None:
    """Waits for the compiler: from now on nothing that is needed is compiled."""
    compiler = run.steps.train.compiler
    if compiler.busy():
        with run.outputs.progress.phase(
            "compiling what later epochs need", "compiled what later epochs need"
        ):
            compiler.wait(lambda: run.stop.requested)
    compiler.wait(lambda: run.stop.requested)  # or what went wrong
    run.outputs.news(compiler.news())


def _loader(run: Run, loader: Any, step: int) -> Any:
    """Returns the loader, or another one if the batches of the run became others."""
    if loader is not None and loader.batches is run.data.batches:
        return loader
    if loader is not None:
        loader.close()
    return loading.loader(run.data.batches, run.config, start_step=step)


def _save_if_asked(
    run: Run, state: TrainState, logs: Logs | None, step: int, *, last: bool
) -> None:
    """Saves in the middle of an epoch if it is time to, or to stop and leave."""
    config = run.config
    stopping = run.stop.at(step)  # asked once: it may change at any time
    due = config.save and not last and run.clock.due(config.save_minutes)
    if stopping or due:
        _check_finite(run, state, logs)
        run.settle()
        run.journal.seconds = run.clock.seconds()
        run.save(state)
        run.clock.saved()
    if stopping:
        run.leave()


def _check_finite(run: Run, state: TrainState, logs: Logs | None) -> Any:
    """Returns what a step told, read from the device; ends the run if it went wrong."""
    seen = jax.device_get(logs)
    if seen is not None and seen.bad_step >= 0:
        stop_non_finite(run, state, seen)
    return seen


def _show(run: Run, seen: Logs, meter: Meter, step: int) -> None:
    """Shows where the run is."""
    left = run.program.schedule.total_iterations - step
    eta = run.clock.remaining(step, left)
    run.outputs.show(run.program.schedule, step, seen, meter, eta)
    if run.program.net.policy.loss_scaling:
        run.outputs.skipped = int(seen.skipped)
