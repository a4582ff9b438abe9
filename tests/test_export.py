"""The exported graph against torch. How `web/without_torch.py` reads the file is tested with it."""

import json
import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import RATE, hiss, tone

from dfa_utils import Detector
from dfa_utils.checkpoint import CheckpointError
from dfa_utils.export import export_onnx
from dfa_utils.inference import calibrated_logit
from dfa_utils.models import build_model
from dfa_utils.speech import SpeechCheck

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def file(detector, tmp_path_factory):
    return export_onnx(detector, tmp_path_factory.mktemp("onnx") / "detector.onnx")


def outputs(file, waves):
    """Score [B], logit [B] and measures [B, 3] of waveforms [B, T], by onnxruntime."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return session.run(["score", "logit", "measures"], {"waveform": np.asarray(waves)})


@torch.inference_mode()
def expected(detector, waves):
    """The logit [B], not calibrated, and the measures [B, 3] by torch."""
    return detector.model(waves).diff(dim=1)[:, 0].numpy(), detector.speech(waves).numpy()


@pytest.mark.parametrize("shape", [(1, 3_000), (1, 32_000), (3, 20_001), (40, 16_000)])
def test_any_number_of_waveforms_of_any_length_goes_in(detector, file, shape):
    waves = 0.1 * torch.randn(shape, generator=torch.Generator().manual_seed(1))
    (score, logit, measures), (logits, measured) = outputs(file, waves), expected(detector, waves)
    assert logit == pytest.approx(logits, abs=2e-3)
    calibrated = calibrated_logit(logit, shape[1] / RATE, *detector.calibration)
    assert score == pytest.approx(1 / (1 + np.exp(-calibrated)), abs=1e-6)
    assert measures == pytest.approx(measured, abs=1e-2)


def test_a_window_gets_the_score_that_predict_gives_it(detector, file):
    for wave in (tone(rng, 2), hiss(rng, 2)):
        assert outputs(file, wave[None])[0][0] == pytest.approx(detector.predict(wave).score, abs=1e-4)


def test_the_file_says_how_it_is_used(detector, file):
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    figures = json.loads(session.get_modelmeta().custom_metadata_map["dfa_utils"])
    assert figures["threshold"] == detector.threshold
    assert figures["uncertain"] == list(detector.uncertain_band)
    assert (figures["sample_rate"], figures["clip_samples"], figures["hop_samples"]) == (RATE, 2 * RATE, RATE)
    assert "research and education" in figures["licence"]
    assert figures["fingerprint"] == detector.fingerprint
    assert figures["limit"] == detector.speech.limit
    assert (figures["calibration"], figures["evidence"]) == (list(detector.calibration), list(detector.evidence))
    assert figures["format"] == 2
    assert file.stat().st_size < 6e6


@pytest.mark.parametrize("settings", [{}, {"mean_subtraction": "band"}, {"frequency_scale": "linear"}])
def test_a_detector_of_ones_own_is_exported_too(tiny_config, tmp_path, settings):
    model = build_model(config=replace(tiny_config, clip_seconds=1.0, **settings))
    waves = torch.from_numpy(np.stack([tone(rng, 1.5), hiss(rng, 1.5)]))
    ours = Detector(model, {"calibration": (2.0, 0.3)}, SpeechCheck.load())
    score, logit, _ = outputs(export_onnx(ours, tmp_path / "a.onnx"), waves)
    assert logit == pytest.approx(expected(ours, waves)[0], abs=1e-3)
    assert score == pytest.approx(1 / (1 + np.exp(-2 * logit - 0.3)), abs=1e-6)  # without a half, length is nothing


def test_exporting_leaves_the_detector_as_it_was(detector, tmp_path):
    wave = hiss(rng, 3)
    before = detector.predict(wave)
    export_onnx(detector, tmp_path / "a.onnx")
    assert detector.predict(wave).scores.tolist() == before.scores.tolist()


def test_what_cannot_be_exported_is_refused_with_the_cure(detector, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a\.pt: the file's name must end in \.onnx"):
        export_onnx(detector, tmp_path / "a.pt")
    with pytest.raises(ValueError, match="SpeechCheck; give it one"):
        export_onnx(Detector(detector.model, detector.info), tmp_path / "a.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ImportError, match="pip install onnx"):
        export_onnx(detector, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_torch_does_not_load_an_exported_detector_but_says_what_does(file, tmp_path):
    for path in (file, tmp_path / "gone.onnx"):
        with pytest.raises(
            CheckpointError, match=r"an exported detector; score files with python web/without_torch\.py"
        ):
            Detector.load(path)
