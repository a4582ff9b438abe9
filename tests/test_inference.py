import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from conftest import hiss, tone

from dfa_utils import Detector
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import CheckpointError, save_checkpoint
from dfa_utils.inference import Prediction
from dfa_utils.train import fit

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def detector(tiny_config, tiny_manifest, tmp_path_factory):
    return Detector.load(
        fit(replace(tiny_config, epochs=8), tiny_manifest, tmp_path_factory.mktemp("run") / "a").folder
    )


def test_it_tells_the_two_classes_apart(detector):
    assert detector.predict(tone(rng)).label == "real"
    assert detector.predict(hiss(rng)).label == "fake"


def test_label_and_score_agree_with_the_threshold(detector):
    result = detector.predict(hiss(rng))
    assert (result.label == "fake") == (result.score >= result.threshold)
    assert 0 <= result.score <= 1
    assert result.score == pytest.approx(result.scores.mean())


def test_file_and_array_give_the_same(detector, tmp_path):
    wave = tone(rng, seconds=1.3)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    from_file, from_array = detector.predict(tmp_path / "a.wav"), detector.predict(wave)
    assert from_file.score == pytest.approx(from_array.score, abs=1e-6)
    assert from_file.seconds == pytest.approx(1.3)
    assert str(tmp_path / "a.wav") in str(from_file)


def test_another_sample_rate_is_resampled(detector):
    t = np.arange(44_100) / 44_100
    result = detector.predict(0.3 * np.sin(2 * np.pi * 300 * t), sample_rate=44_100)
    assert result.seconds == pytest.approx(1, abs=1e-3)


def test_a_long_recording_is_judged_over_time(detector):
    wave = np.concatenate([tone(rng, 3), hiss(rng, 3), np.zeros(48_000, "float32")])
    result = detector.predict(wave)
    assert result.seconds == pytest.approx(9)
    assert result.times.max() < 6  # the silent end is not judged
    assert (
        result.scores[result.times < 2.5].mean() < 0.5 < result.scores[(result.times > 3) & (result.times < 5.5)].mean()
    )


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(16_000, "float32"),
        np.zeros(0, "float32"),
        np.zeros((2, 16_000), "float32"),
        np.full(100, np.nan, "float32"),
        np.zeros(100, "int16"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused(detector, bad):
    with pytest.raises(AudioError):
        detector.predict(bad)


def test_a_bad_file_does_not_stop_the_others(detector, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    soundfile.write(tmp_path / "good.wav", tone(rng), 16_000)
    results = dict(detector.predict_files([tmp_path / "bad.wav", tmp_path / "good.wav"]))
    assert isinstance(results[str(tmp_path / "bad.wav")], AudioError)
    assert isinstance(results[str(tmp_path / "good.wav")], Prediction)


def test_memory_does_not_grow_with_the_length(detector, tmp_path):
    save_checkpoint(tmp_path / "d.safetensors", detector.model, detector.info)
    code = "import resource, sys; from dfa_utils import Detector; Detector.load(sys.argv[1]).predict(sys.argv[2]); " \
           "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # fmt: skip

    def peak_kilobytes(seconds):
        soundfile.write(tmp_path / "a.wav", np.tile(hiss(rng, 10), seconds // 10), 16_000)
        command = [sys.executable, "-c", code, str(tmp_path / "d.safetensors"), str(tmp_path / "a.wav")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_kilobytes(1800) < peak_kilobytes(60) + 50_000  # the samples alone would take 111,000


def test_without_shipped_weights_the_error_says_how_to_train(monkeypatch, tmp_path):
    monkeypatch.setattr("dfa_utils.inference.SHIPPED", tmp_path / "none")
    with pytest.raises(CheckpointError, match="dfa_utils train --data"):
        Detector.load()


def test_a_tensor_is_as_good_as_an_array(detector):
    wave = tone(rng)
    assert detector.predict(torch.from_numpy(wave)).score == detector.predict(wave).score


@pytest.mark.parametrize(("score", "label"), [(0.1, "real"), (0.2, "uncertain"), (0.5, "uncertain"), (0.6, "fake")])
def test_between_the_bounds_the_answer_is_uncertain(score, label):
    said = Prediction("a.wav", score, 0.4, 2.0, np.zeros(1), np.array([score]), (0.2, 0.6))
    assert said.label == label
    assert label in str(said)
