"""Install the package into this Python and leave its torch alone; the notebooks' first cell calls this as a script.

It needs only the standard library and pip. torch, torchaudio and torchcodec must fit together: those that are installed
stay as they are where they do. The package is installed without its dependencies, and then those of pyproject.toml that
are missing or too old.
"""

import re
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
TRIO = {"torch": "2.{}.*", "torchaudio": "2.{}.*", "torchcodec": "0.{}.*"}  # releases of one number fit together
LAST = "11"  # torchaudio has no later one


def commands() -> list[list[str]]:
    """The pip commands to run, as argument lists; none if nothing is missing."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    package = [] if _installed("dfa-utils") else [[*pip, "--no-deps", str(CHECKOUT)]]
    listed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    wanted = [*(line for line in listed if Requirement(line).name not in TRIO), *_trio()]
    missing = [line for line in wanted if not _is_met(Requirement(line))]
    return [*package, [*pip, *dict.fromkeys([*missing, *_trio()])]] if missing else package


def _trio() -> list[str]:
    """Requirements for torch, torchaudio and torchcodec that fit together; of what is installed, what fits stays."""
    found = re.match(r"2\.(9|10|11)\.", _installed("torch") or "")
    wanted = {name: f"{name}=={number.format(found[1] if found else LAST)}" for name, number in TRIO.items()}
    return [f"{name}=={_installed(name)}" if _is_met(Requirement(line)) else line for name, line in wanted.items()]


def _is_met(requirement: Requirement) -> bool:
    number = _installed(requirement.name)
    return number is not None and requirement.specifier.contains(number, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    for command in commands():
        subprocess.run(command, check=True)
