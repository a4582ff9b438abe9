"""The sounds without speech, and the command that trains the check on them."""

from dataclasses import replace

import numpy as np
import torch

from dfa_utils.inference import Detector
from dfa_utils.speech import SpeechCheck
from research import speech_check
from research.formula_sounds import SAMPLES, SOUNDS, make


def test_the_released_check_refuses_sounds_without_speech():
    detector, rng = Detector.load(), np.random.default_rng(2024)  # none of the sounds it was trained on
    for kind in SOUNDS:
        results = [detector.predict(make(kind, rng, varied=i % 2 == 1)) for i in range(6)]
        refused = [result for result in results if result.reason]
        assert len(refused) >= 5, kind
        assert {result.label for result in refused} == {"uncertain"}, kind


def test_one_seed_one_sound_below_full_scale():
    for kind in SOUNDS:
        one, two = (make(kind, np.random.default_rng(5), varied=True) for _ in range(2))
        assert one.shape == (SAMPLES,)
        assert one.dtype == np.float32
        assert np.array_equal(one, two)
        assert 0.02 < np.abs(one).max() < 1


def test_one_command_trains_the_check_and_a_second_call_changes_nothing(tiny_root, tmp_path, monkeypatch, capsys):
    settings = replace(speech_check.SETTINGS, epochs=1, batch_size=16, augment=())
    for name, value in {"PLAIN": 1, "VARIED": 1, "PARTS": 2, "SETTINGS": settings}.items():
        monkeypatch.setattr(speech_check, name, value)
    command = ["--data", str(tiny_root), "--out", str(tmp_path / "s.safetensors"), "--runs", str(tmp_path / "runs")]
    assert speech_check.main(command) == 0
    said = capsys.readouterr().out
    assert {line[:19].strip() for line in said.splitlines()} == {"speech of testing", *SOUNDS}
    first = SpeechCheck.load(tmp_path / "s.safetensors")
    assert np.isfinite(first.limit)
    assert speech_check.main(command) == 0
    assert capsys.readouterr().out == said
    again = SpeechCheck.load(tmp_path / "s.safetensors")
    assert again.limit == first.limit
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))
