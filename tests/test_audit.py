import shutil

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import hiss, tone

from dfa_utils import audit
from dfa_utils.data import scan

rng = np.random.default_rng(0)


def measured_one(tmp_path, wave, rate=16_000):
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    return audit.measure(pd.DataFrame({"path": [str(tmp_path / "a.wav")], "label": [0]})).iloc[0]


def test_level_peak_and_offset_of_a_known_sine(tmp_path):
    row = measured_one(tmp_path, 0.5 * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000) + 0.1)
    assert row.rms_db == pytest.approx(20 * np.log10(np.sqrt(0.125 + 0.01)), abs=0.01)
    assert row.peak_db == pytest.approx(20 * np.log10(0.6), abs=0.01)
    assert row.dc == pytest.approx(0.1, abs=1e-6)


def test_silence_at_both_ends_is_measured(tmp_path):
    wave = np.concatenate([np.zeros(1600), hiss(rng, 1.0), np.zeros(3200)])
    assert measured_one(tmp_path, wave).silence == pytest.approx(0.3, abs=0.002)


def test_the_header_is_the_files_own(tmp_path):
    row = measured_one(tmp_path, np.stack([tone(rng)] * 2, axis=1), 44_100)
    assert (row.sample_rate, row.channels) == (44_100, 2)


def test_a_planted_level_difference_is_the_strongest_cue(tiny_manifest):
    measured = audit.measure(tiny_manifest)
    loud = measured.assign(rms_db=measured.rms_db + 40 * measured.label)
    row = audit.cue_table(loud).loc["RMS level (dBFS)"]
    assert row.tolist() == pytest.approx([1, 1, 1])
    constant = audit.cue_table(measured).loc["duration (s)"]
    assert (constant == 0.5).all()


def test_duplicates_within_and_across_splits(tiny_root, tmp_path):
    shutil.copytree(tiny_root, tmp_path / "a")
    shutil.copy(tmp_path / "a/training/real/0.wav", tmp_path / "a/testing/real/copy.wav")
    measured = audit.measure(scan(tmp_path / "a"))
    assert len(audit.duplicates(measured)) == 2
    assert audit.shared_between_splits(measured, "hash").loc["training", "testing"] == 1


def test_unknown_speakers_are_not_shared(tiny_manifest):
    assert (audit.shared_between_splits(tiny_manifest, "speaker") == 0).all(axis=None)
