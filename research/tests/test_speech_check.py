"""How the speech check is trained, and the sounds that it is trained on."""

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from dfa_utils.speech import SpeechCheck
from research import speech_check as release
from research.formula_sounds import KINDS, SAMPLES, make


def test_the_check_is_trained_by_one_command_which_goes_on_where_it_was(tiny_root, tmp_path, monkeypatch, capsys):
    settings = replace(release.SETTINGS, epochs=1, batch_size=16, augment=())
    for name, value in {"PLAIN": 1, "VARIED": 1, "PARTS": 2, "SETTINGS": settings}.items():
        monkeypatch.setattr(release, name, value)
    command = ["--data", str(tiny_root), "--out", str(tmp_path / "s.safetensors"), "--runs", str(tmp_path / "runs")]
    assert release.main(command) == 0
    said = capsys.readouterr().out
    assert [line[:19].strip() for line in said.splitlines()][:2] == ["speech of testing", "white noise"]
    assert {line[:19].strip() for line in said.splitlines()} == {"speech of testing", *KINDS}
    assert pd.read_csv(tmp_path / "s.csv").refused.between(0, 1).all()
    first = SpeechCheck.load(tmp_path / "s.safetensors")
    assert np.isfinite(first.limit)
    assert release.main(command) == 0
    assert capsys.readouterr().out == said
    again = SpeechCheck.load(tmp_path / "s.safetensors")
    assert again.limit == first.limit
    assert all(torch.equal(*pair) for pair in zip(first.parameters(), again.parameters(), strict=True))


def test_sounds_are_the_same_for_the_same_seed_and_stay_below_full_scale():
    for kind in KINDS:
        one, two = (make(kind, np.random.default_rng(5), varied=True) for _ in range(2))
        assert one.shape == (SAMPLES,)
        assert one.dtype == np.float32
        assert np.array_equal(one, two)
        assert 0.02 < np.abs(one).max() < 1
