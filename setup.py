"""Puts the bundled experiment files into the package, and the README on its page; everything else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

RELATIVE = r"\((?![a-z]+:)[^)\s]+\)"


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


def description(readme: str) -> str:
    """Return the README without what exists only in the repository: images, and targets of relative links."""
    without_images = re.sub(rf"!\[[^]]*\]{RELATIVE}\n*", "", readme)
    return re.sub(rf"\[([^]]+)\]{RELATIVE}", r"\1", without_images)


setup(
    cmdclass={"build_py": BuildWithConfigs},
    long_description=description(Path("README.md").read_text(encoding="utf-8")),
    long_description_content_type="text/markdown",
)
