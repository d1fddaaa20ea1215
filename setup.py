"""Puts the bundled experiment files into the package; everything else is in pyproject.toml."""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Copies `configs/` to `fathomlab/configs/`. In an editable install, the package finds the repository's folder."""

    def run(self) -> None:
        """Build, then copy."""
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "fathomlab" / "configs"
            self.mkpath(str(target))
            for file in sorted(Path("configs").iterdir()):
                self.copy_file(str(file), str(target / file.name))


setup(cmdclass={"build_py": BuildWithConfigs})
