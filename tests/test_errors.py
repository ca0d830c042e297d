"""What is said to install, where something is not there."""

from importlib import metadata

import pytest
from places import ROOT

from yolojax import errors


def test_a_clone_is_installed_from_its_own_folder():
    assert errors.install_hint("coco") == f'pip install -e "{ROOT}[coco]"'


@pytest.mark.parametrize(("quote", "space"), [('"', " "), ("'", "")])
def test_elsewhere_the_packages_of_the_part_are_named(
    tmp_path, monkeypatch, quote, space
):
    place = tmp_path / "site" / "yolojax" / "errors.py"
    monkeypatch.setattr(errors, "__file__", str(place))
    marker = f"extra{space}=={space}{quote}coco{quote}"
    said = ["numpy>=2.0", f"faster-coco-eval>=1.6{space};{space}{marker}", "x; extra"]
    monkeypatch.setattr(metadata, "requires", lambda name: said)
    assert errors.install_hint("coco") == 'pip install "faster-coco-eval>=1.6"'
