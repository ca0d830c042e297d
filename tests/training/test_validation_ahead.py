"""Validation programs are compiled beside the first epoch, not while a device waits."""

import forked_runs
import pytest
from forked_runs import run_here
from yolo_files import add, picture, write_yaml

from yolojax.training import epoch_end

pytestmark = pytest.mark.process  # a whole run

SIZES = ((64, 64), (32, 64), (64, 32))


@pytest.fixture
def shapes(tmp_path, monkeypatch):
    """Returns a data set whose validation pictures have three shapes."""
    monkeypatch.setenv("YOLOJAX_CACHE", str(tmp_path / "cache"))
    for number in range(4):
        add(tmp_path, "train", f"t{number}", image=picture(64, 64, seed=number))
    for number in range(6):
        image = picture(*SIZES[number // 2], seed=number)
        add(tmp_path, "val", f"v{number}", image=image)
    write_yaml(tmp_path, "names: [a, b, c]\ntrain: images/train\nval: images/val\n")
    return tmp_path


def test_all_shapes_are_compiled_when_the_first_validation_begins(shapes, monkeypatch):
    seen = []

    def validate(run, variables, **options):
        compiler = run.steps.evaluate.compiler
        seen.append((len(run.data.val_batches.shapes()), len(compiler), None))
        found = epoch_end.validate(run, variables, **options)
        seen[-1] = (*seen[-1][:2], len(compiler))
        return found

    monkeypatch.setitem(forked_runs.HANDED, "validate", validate)
    run_here(
        shapes, "run", data=str(shapes / "data.yaml"), epochs=2, batch=1, fraction=1.0
    )
    assert [kinds for kinds, _, _ in seen] == [3, 3]
    # One for the training step, one for each shape, and none was added by validating.
    assert all(before == after >= 4 for _, before, after in seen)
