"""A data set of two trivially different classes, small enough to train on in a second."""

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dfa_utils.config import Config
from dfa_utils.dataset import scan

RATE = 16_000
ROOT = Path(__file__).parents[2]
CACHE = tempfile.TemporaryDirectory()
os.environ["DFA_CACHE"] = CACHE.name


def tone(rng, seconds=0.5):
    """A sine with a little noise [T] float32: the "real" class."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * rng.uniform(200, 400) * t) + 0.002 * rng.standard_normal(len(t))
    return wave.astype("float32")


def hiss(rng, seconds=0.5):
    """White noise [T] float32: the "fake" class."""
    return (0.05 * rng.standard_normal(int(seconds * RATE))).astype("float32")


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
