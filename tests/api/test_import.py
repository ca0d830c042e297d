"""`import yolojax` costs nothing; what it offers comes when it is asked for."""

import json
import os
import subprocess
import sys

import pytest
import tiny_weights
from places import HELPERS, ROOT

SCRIPT = """
import sys, time
begun = time.perf_counter()
import yolojax
seconds = time.perf_counter() - begun
loaded = sorted({"jax", "numpy", "cv2", "flax"} & sys.modules.keys())
offered = sorted(set(yolojax.__all__) - set(dir(yolojax)))
load = yolojax.load
from jax._src import xla_bridge
import jax, json
began = sorted(xla_bridge._backends)
load(sys.argv[1], model="tiny_model:bare")
folder = jax.config.jax_compilation_cache_dir
print(json.dumps([seconds, loaded, offered, began, folder]))
"""


@pytest.mark.process
def test_importing_starts_nothing(tmp_path):
    environment = os.environ | {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{HELPERS}",
        "YOLOJAX_CACHE": str(tmp_path / "cache"),
    }
    environment.pop("JAX_COMPILATION_CACHE_DIR", None)
    words = [sys.executable, "-c", SCRIPT, str(tiny_weights.write(tmp_path))]
    done = subprocess.run(words, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    (line,) = done.stdout.splitlines()  # loading says nothing
    seconds, loaded, offered, began, folder = json.loads(line)
    assert seconds < 0.3
    assert (loaded, offered, began) == ([], [], [])
    assert folder == str(tmp_path / "cache" / "compiled")


def test_what_is_not_offered():
    import yolojax

    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = yolojax.nothing
