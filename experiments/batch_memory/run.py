"""Compares the predicted memory of a training step with what the process really takes.

python experiments/batch_memory/run.py path/to/coco128/data.yaml
"""

import json
import os
import subprocess
import sys
import time

CASES = [  # model, pixels, batch
    *(("yolo11n", 320, 8), ("yolo11n", 320, 16)),
    *(("yolo11n", 640, 8), ("yolo11n", 640, 16)),
    *(("yolo11s", 320, 8), ("yolo11s", 320, 16)),
    *(("yolo11s", 640, 8), ("yolo11s", 640, 16)),
]
HUGE_PAGES = "glibc.malloc.hugetlb=1"  # as yolojax.main sets it


def one(data, model, imgsz, batch):
    """Returns the figures of one case, bytes; this process must be fresh."""
    import jax

    from yolojax import autobatch, build, loading, optim, sharding
    from yolojax import config as config_lib
    from yolojax.step import Hyper, initial_state

    config = config_lib.default("detect")
    config.model, config.imgsz, config.batch, config.data = model, imgsz, batch, data
    config = config_lib.check(config)
    source = loading.open_split(config, "train")
    mesh = sharding.make_mesh("cpu", batch)
    rows = autobatch.batch_rows(config, source)
    started = time.perf_counter()
    lowered = autobatch.lowered_step(config, source, batch, mesh, rows)
    step = lowered.compile()
    seconds = time.perf_counter() - started
    need = autobatch.need_of(step)
    host = loading.train_batches(config, source)[0]
    net = build.network(config, len(source.names))
    plan = build.run_plan(config, len(source), len(source.names))
    values = optim.schedule(plan, 0)
    hyper = Hyper(values.lr, values.momentum, True, True)
    hyper = jax.tree.map(lambda spec, v: jax.numpy.asarray(v, spec.dtype),
                         lowered.args_info[0][2], Hyper(*map(jax.numpy.asarray, (
                             hyper.lr, hyper.momentum, hyper.update, hyper.first))))

    def state():
        variables = build.initial_variables(net, config.seed)
        tx = build.optimizer(config, plan, variables["params"])
        return sharding.replicate(
            initial_state(
                variables,
                tx,
                seed=config.seed,
                num_losses=len(net.task.loss_names),
                accumulates=plan.accumulate_nominal > 1,
                loss_scaling=net.policy.loss_scaling,
            ),
            mesh,
        )

    def two_steps():
        now, inputs = state(), sharding.put_batch(host, mesh)
        for _ in range(2):
            now, logs = step(now, inputs, hyper)
            jax.block_until_ready((now, logs))
        assert logs.bad_step < 0

    state()  # what it compiles is not part of the step
    measured = autobatch.peak_growth(two_steps)
    return {
        "predicted": need.total,
        "arguments": need.arguments,
        "temporaries": need.temporaries,
        "measured": measured,
        "seconds": seconds,
    }


def fresh(*case, **environment):
    """Returns the figures of one case, measured in a process of its own."""
    command = [sys.executable, __file__, *map(str, case)]
    done = subprocess.run(
        command, env=os.environ | environment, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def main(data):
    print("| model | px | batch | predicted MiB | measured MiB | error |"
          " measured, huge pages | error | compile s |")
    print("|---|---|---|---|---|---|---|---|---|")
    for case in CASES:
        plain = fresh(data, *case, GLIBC_TUNABLES="")
        huge = fresh(data, *case, GLIBC_TUNABLES=HUGE_PAGES)
        predicted = plain["predicted"]
        cells = [*case, f"{predicted / 2**20:.0f}"]
        for figures in (plain, huge):
            error = predicted / figures["measured"] - 1
            cells += [f"{figures['measured'] / 2**20:.0f}", f"{100 * error:+.1f} %"]
        print(f"| {' | '.join(map(str, cells))} | {plain['seconds']:.0f} |", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 2:
        main(sys.argv[1])
    else:
        data, model, *numbers = sys.argv[1:]
        print(json.dumps(one(data, model, *map(int, numbers))))
