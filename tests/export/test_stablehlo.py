"""Programs of JAX: the same numbers, any number of pictures, without this package."""

import subprocess
import sys

import exports
import numpy as np
import pytest

from yolojax.export import runners, stablehlo_file

ALONE = """
import sys
import jax.export
import numpy as np

program = jax.export.deserialize(bytearray(open(sys.argv[1], "rb").read()))
images = np.load(sys.argv[2])
found = program.call(images)
np.savez(sys.argv[3], *[np.asarray(table) for table in found])
assert not [name for name in sys.modules if name.startswith("yolojax")]
assert program.platforms == ("cpu", "cuda", "tpu")
"""


@pytest.mark.process
@pytest.mark.parametrize(
    "task",
    [
        *(pytest.param(t, marks=pytest.mark.slow) for t in ("detect", "pose", "obb")),
        "segment",
        pytest.param("classify", marks=pytest.mark.slow),
    ],
)
def test_a_process_without_this_package_gets_the_same(task, tmp_path):
    export = exports.export_by_rule(task, format="stablehlo")
    path = tmp_path / "net.stablehlo"
    assert "for cpu, cuda, tpu" in stablehlo_file.write(path, export)
    rng = np.random.default_rng(0)
    images = rng.uniform(0, 1, (3, 3, 64, 64)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    places = [str(tmp_path / name) for name in ("images.npy", "found.npz")]
    words = [sys.executable, "-c", ALONE, str(path), *places]
    subprocess.run(words, check=True, cwd=tmp_path)
    wanted = runners.network(export)(images)
    with np.load(places[1]) as file:
        found = [file[name] for name in file.files]
    for theirs, ours in zip(found, wanted, strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=2e-3)
    one = stablehlo_file.runner(path)(images[:1])
    np.testing.assert_allclose(one[0], wanted[0][:1], rtol=1e-4, atol=2e-3)


def test_a_damaged_file_is_one_line(tmp_path):
    path = tmp_path / "net.stablehlo"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match="is no usable StableHLO program"):
        stablehlo_file.runner(path)
