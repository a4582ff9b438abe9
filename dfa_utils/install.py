"""Install the checkout this file stands in into the running Python; the notebooks' first cell calls it as a script.

Only the standard library and pip are used. With `--colab`, the torch, torchaudio and torchcodec that Colab brings stay
as they are, since they fit together: the package goes in without its dependencies, and then those that are missing or
too old, as pyproject.toml lists them.
"""

import importlib.util
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

CHECKOUT = Path(__file__).resolve().parents[1]
TRIO = {"torch": "2.11.0", "torchaudio": "2.11.0", "torchcodec": "0.11.*"}  # the last releases that fit together


def commands(colab: bool) -> list[list[str]]:
    """The pip commands to run, as argument lists."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if not colab:
        trio = [] if importlib.util.find_spec("torch") else [f"{name}=={number}" for name, number in TRIO.items()]
        return [[*pip, str(CHECKOUT), *trio]]
    package = [*pip, "--no-deps", str(CHECKOUT)]
    kept = [f"{name}=={number}" for name in TRIO if (number := _installed(name))]  # so that nothing replaces them
    return [package, [*pip, *missing, *kept]] if (missing := _missing()) else [package]


def _missing() -> list[str]:
    """The dependencies that are not there, or too old."""
    listed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    return [line for line in listed if Requirement(line).name not in TRIO and not _is_met(Requirement(line))]


def _is_met(requirement: Requirement) -> bool:
    number = _installed(requirement.name)
    return number is not None and requirement.specifier.contains(number, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    for command in commands(colab="--colab" in sys.argv):
        subprocess.run(command, check=True)
