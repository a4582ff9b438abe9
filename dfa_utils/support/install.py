"""Install the checkout this file stands in into the running Python; the notebooks' first cell calls it as a script.

Only the standard library is used. With `--colab`, torch, torchaudio and all that Colab brings are left as they are:
the package goes in without its dependencies, and then the light ones that are missing.
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

TRIO = ["torch==2.11.0", "torchaudio==2.11.0", "torchcodec==0.11.*"]  # the last releases that fit together
LIGHT = {
    "accelerate": "accelerate",
    "librosa": "librosa",
    "safetensors": "safetensors",
    "seaborn": "seaborn",
    "sklearn": "scikit-learn",
    "soundfile": "soundfile",
}  # import name: name to install


def commands(colab: bool) -> list[list[str]]:
    """The pip commands to run, as argument lists."""
    checkout = str(Path(__file__).resolve().parents[1])
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if not colab:
        return [[*pip, checkout, *([] if importlib.util.find_spec("torch") else TRIO)]]
    missing = [package for name, package in LIGHT.items() if importlib.util.find_spec(name) is None]
    return [[*pip, "--no-deps", checkout], *([[*pip, "--no-deps", *missing]] if missing else [])]


if __name__ == "__main__":
    for command in commands(colab="--colab" in sys.argv):
        subprocess.run(command, check=True)
