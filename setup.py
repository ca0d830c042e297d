"""Puts the config files of `configs/` into the package; the rest: pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class WithConfigs(build_py):
    """Copies the packages, and the config files into a folder of the package."""

    def run(self) -> None:
        """Builds as usual; a clone that is installed in place reads its own folder."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "yolojax" / "configs"
            target.mkdir(parents=True, exist_ok=True)
            for file in sorted(Path("configs").glob("*.py")):
                shutil.copy(file, target)


setup(cmdclass={"build_py": WithConfigs})
