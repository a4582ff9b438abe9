"""A data set of two trivially different classes, small enough to train on in a second."""

import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from dfa_utils.config import Config
from dfa_utils.dataset import scan

RATE = 16_000
ROOT = Path(__file__).parents[1]


def write_few_clips(root):
    """Copy the toy data of the repository to `root`, with four of its ten voices to train on."""
    source, dropped = ROOT / "data" / "toy", [f"voice{i:02}-*" for i in range(4, 10)]
    shutil.copytree(source, root, ignore=shutil.ignore_patterns(*dropped))
    table = pd.read_csv(source / "manifest.csv")
    table[[(root / path).exists() for path in table.path]].to_csv(root / "manifest.csv", index=False)


if "PYTEST_XDIST_WORKER" not in os.environ:  # the first process makes these folders, and its workers share them
    MADE = tempfile.TemporaryDirectory()
    os.environ["DFA_CACHE"] = f"{MADE.name}/cache"
    os.environ["DFA_DATA"] = f"{MADE.name}/toy"  # what the notebooks run on, whatever the developer works on
    write_few_clips(Path(os.environ["DFA_DATA"]))
os.environ["DFA_WIDGETS"] = "off"
os.environ["DFA_VOICES"] = "off"  # tests use no network


@pytest.fixture(autouse=True)
def draws_of_its_own(request):
    """Each test of a module that has an `rng` draws the same numbers, whatever ran before it in the same process."""
    if hasattr(request.module, "rng"):
        request.module.rng = np.random.default_rng(0)


def tone(rng, seconds=0.5, hz=None):
    """A sine with a little noise [T] float32: the "real" class."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * (hz or rng.uniform(200, 400)) * t) + 0.002 * rng.standard_normal(len(t))
    return wave.astype("float32")


def hiss(rng, seconds=0.5):
    """White noise [T] float32: the "fake" class."""
    return (0.05 * rng.standard_normal(int(seconds * RATE))).astype("float32")


def contrast_ratio(first, second):
    """The contrast of two colours, each [red, green, blue] from 0 to 1, as WCAG 2 defines it: 1 to 21."""

    def luminance(colour):
        parts = np.asarray(colour)
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722]

    low, high = sorted(map(luminance, (first, second)))
    return (high + 0.05) / (low + 0.05)


@pytest.fixture(scope="session")
def tiny_root(tmp_path_factory):
    """ROOT/{training,validation,testing}/{real,fake}/*.wav with 12 + 12, 6 + 6 and 6 + 6 clips of 0.5 s."""
    root, rng = tmp_path_factory.mktemp("tiny"), np.random.default_rng(0)
    for split, count in (("training", 12), ("validation", 6), ("testing", 6)):
        for label, make in (("real", tone), ("fake", hiss)):
            folder = root / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                soundfile.write(folder / f"{i}.wav", make(rng), RATE)
    return root


@pytest.fixture(scope="session")
def tiny_manifest(tiny_root):
    return scan(tiny_root)


@pytest.fixture(scope="session")
def tiny_config():
    return Config(clip_seconds=0.4, hop_seconds=0.2, channels=(4, 8, 8), epochs=3, batch_size=8, dropout=0.2)


@pytest.fixture(scope="session")
def few_clips():
    """The root of a small data set on which everything runs in half the time; the notebooks run on it too."""
    return Path(os.environ["DFA_DATA"])


@pytest.fixture(scope="session")
def clips(tmp_path_factory):
    """60 files: usual, short, long, empty, silent, no audio, and with names that a CSV must quote."""
    folder, rng = tmp_path_factory.mktemp("clips"), np.random.default_rng(0)
    for i in range(54):
        soundfile.write(folder / f"{i:02}.wav", hiss(rng, float(rng.choice([0.1, 0.4, 0.5, 1.7]))), RATE)
    (folder / "20 empty.wav").touch()
    (folder / "30 text.wav").write_text("no audio")
    soundfile.write(folder / "40 silent.wav", np.zeros(9_000), RATE)
    soundfile.write(folder / '41 a "quoted", name.wav', tone(rng), RATE)
    soundfile.write(folder / "42 two\nlines.wav", tone(rng), RATE)
    (folder / "43 broken\nname.wav").touch()
    return folder
