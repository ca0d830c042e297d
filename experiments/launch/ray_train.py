"""One training run over the workers of a Ray cluster, by Ray Train.

python experiments/launch/ray_train.py --workers 2 -- yolo11n data=shapes --workdir DIR
python experiments/launch/ray_train.py --workers 2 --gpus 8 -- yolo11n ...
python experiments/launch/ray_train.py --workers 4 --tpu TPU-V5E 4x4 -- yolo11n ...

Ray finds the machines and starts one process of the run on each; these join by JAX, as
if they had been started by hand. It takes `pip install -e ".[ray]"`.
"""

import argparse
import ctypes
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DONE, WRONG = 0, (1, 2)  # exit statuses: complete or asked to stop, and not to repeat


def arguments():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workers", type=int, default=2, help="processes of the run")
    parser.add_argument("--cores", type=int, default=1, help="of a worker, for Ray")
    parser.add_argument("--gpus", type=int, default=0, help="of a worker")
    parser.add_argument(
        "--tpu", nargs=2, metavar=("KIND", "TOPOLOGY"), help="of a slice, as Ray has it"
    )
    parser.add_argument("--restarts", type=int, default=10, help="after a lost machine")
    parser.add_argument("command", nargs="+", help="what follows `yolojax train`")
    return parser.parse_args()


def address():
    """Returns where process 0 listens: this machine, and a port that is free now."""
    import ray

    with socket.socket() as listener:
        listener.bind(("", 0))
        return f"{ray.util.get_node_ip_address()}:{listener.getsockname()[1]}"


def end_with_parent():
    """Has the kernel send SIGTERM to this process when Ray ends its worker."""
    ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def worker(loop):
    """Is one process of the run: the command in a process of its own.

    Signals reach a main thread only, and a worker of Ray has its own there.
    """
    import ray
    import ray.train
    from ray.train.collective import broadcast_from_rank_zero

    context = ray.train.get_context()
    number, count = context.get_world_rank(), context.get_world_size()
    where = broadcast_from_rank_zero(address() if number == 0 else None)
    command = [sys.executable, "-m", "yolojax", "train", *loop["command"]]
    status = subprocess.run(
        [*command, f"hosts={where},{count},{number}"],
        cwd=loop["folder"],
        preexec_fn=end_with_parent,
        check=False,
    ).returncode
    if status != DONE:
        raise RuntimeError(f"process {number} of {count} ended with status {status}")


def main():
    options = arguments()
    if "--workdir" not in " ".join(options.command):
        sys.exit("error: a run that is started again needs its --workdir.")
    try:
        import ray
        from ray.train import FailureConfig, RunConfig, ScalingConfig
        from ray.train.v2.jax import JaxConfig, JaxTrainer
    except ImportError as error:
        sys.exit(f"error: {error}. pip install -e '.[ray]' brings it.")

    ray.init(runtime_env={"env_vars": {"PYTHONPATH": os.environ.get("PYTHONPATH", "")}})
    scaling = ScalingConfig(
        num_workers=options.workers,
        use_gpu=options.gpus > 0,
        use_tpu=options.tpu is not None,
        accelerator_type=options.tpu[0] if options.tpu else None,
        topology=options.tpu[1] if options.tpu else None,
        resources_per_worker=None
        if options.tpu
        else {"CPU": options.cores} | ({"GPU": options.gpus} if options.gpus else {}),
    )
    trainer = JaxTrainer(
        worker,
        train_loop_config={"command": options.command, "folder": os.getcwd()},
        # The run joins JAX's processes itself, in those that Ray's workers start.
        jax_config=JaxConfig(),
        scaling_config=scaling,
        run_config=RunConfig(
            failure_config=FailureConfig(max_failures=options.restarts)
        ),
    )
    trainer.fit()


if __name__ == "__main__":
    main()
