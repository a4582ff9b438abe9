"""Sounds, a browser, the released detector and its exported form, which the tests of web/ share."""

import os
import shutil
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import expect, sync_playwright

RATE = 16_000
ROOT = Path(__file__).parents[2]
CACHE = tempfile.TemporaryDirectory()
os.environ["DFA_CACHE"] = CACHE.name
sys.path.insert(0, str(ROOT))  # for the folder web, which is not installed

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
SWITCHES = ["--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
PATIENCE = 60  # s; for a page or an answer on a busy machine


def tone(rng, seconds=0.5):
    """A sine with a little noise [T] float32."""
    t = np.arange(int(seconds * RATE)) / RATE
    wave = 0.2 * np.sin(2 * np.pi * rng.uniform(200, 400) * t) + 0.002 * rng.standard_normal(len(t))
    return wave.astype("float32")


def hiss(rng, seconds=0.5):
    """White noise [T] float32."""
    return (0.05 * rng.standard_normal(int(seconds * RATE))).astype("float32")


def broken_by_silence(rng, count):
    """Recordings [T] float32 of up to 3,000 samples: noise, zeros, constants and single clicks, in random order."""
    makers = (
        lambda size: 0.1 * rng.standard_normal(size),
        lambda size: np.zeros(size),
        lambda size: np.full(size, rng.uniform(-1, 1)),
        lambda size: np.full(size, rng.uniform(-1, 1)) + rng.choice([0, 1 / 32768, 4 / 32768], size),
        lambda size: np.eye(1, size)[0],
    )
    for _ in range(count):
        parts = [makers[rng.integers(len(makers))](int(rng.integers(1, 600))) for _ in range(rng.integers(1, 6))]
        yield np.concatenate(parts).astype("float32")


@pytest.fixture(scope="session")
def python():
    """The released detector in Python, with which everything here must agree."""
    from dfa_utils import Detector

    return Detector.load()


@pytest.fixture(scope="session")
def exported(python, tmp_path_factory):
    """The same as one ONNX file."""
    from dfa_utils.export import export_onnx

    return export_onnx(python, tmp_path_factory.mktemp("exported") / "detector.onnx")


@pytest.fixture(scope="session")
def browser():
    """Chromium; without one, the test is skipped, or fails where CI is set."""
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not found:
        give_up = pytest.fail if os.environ.get("CI") else pytest.skip
        give_up("no Chromium found, which these tests drive: apt-get install chromium")
    expect.set_options(timeout=1000 * PATIENCE)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=SWITCHES)
        yield browser
        browser.close()
