"""What is drawn is loaded with the first picture."""

import subprocess
import sys

import pytest
from places import ROOT

from yolojax import visualize


def test_every_name_is_there():
    assert {*visualize._HOME} == {*visualize.__all__} <= {*dir(visualize)}
    for name in visualize.__all__:
        assert getattr(visualize, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        visualize.nothing  # noqa: B018


@pytest.mark.process
def test_a_command_starts_without_figures():
    code = (
        "import sys; import yolojax.commands.train;"
        "sys.exit('matplotlib.axes' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
