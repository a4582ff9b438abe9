from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE, ROOT

from dfa_utils import Detector
from dfa_utils.audio import load_audio, resample
from dfa_utils.checkpoint import CheckpointError, save_checkpoint
from dfa_utils.degradations import corrupt
from dfa_utils.inference import Prediction
from dfa_utils.models import build_model
from dfa_utils.speech import LEAST_SECONDS, SpeechCheck
from research import speech_check as release
from research.formula_sounds import KINDS, SAMPLES, make

NO_SPEECH, TOO_SHORT, NARROW = "no clear speech", "s of sound", "as on a telephone"


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def voices():
    return [load_audio(path) for path in sorted((ROOT / "data" / "toy").rglob("*.wav"))[::4]]


def judge(detector, waveforms):
    """The predictions of waveforms."""
    results = detector.judge((str(i), [torch.as_tensor(wave)]) for i, wave in enumerate(waveforms))
    return [result for _, result in results]


def test_sounds_that_are_no_speech_are_uncertain_with_the_reason(detector):
    rng = np.random.default_rng(2024)  # none of the sounds that the check was trained on
    results = {kind: judge(detector, [make(kind, rng, varied=i % 2 == 1) for i in range(6)]) for kind in KINDS}
    refused = [result.reason != "" for found in results.values() for result in found]
    assert np.mean(refused) >= 0.95
    assert {result.label for found in results.values() for result in found if result.reason} == {"uncertain"}
    assert all(NO_SPEECH in result.reason for result in results["white noise"] + results["chords"])


def test_a_voice_is_judged(detector, voices):
    assert [result.reason for result in judge(detector, voices)] == [""] * len(voices)


def test_a_voice_in_noise_is_judged(detector, voices):
    noisy = [corrupt(wave, "noise", 20, RATE, np.random.default_rng(i)) for i, wave in enumerate(voices)]
    assert np.mean([result.reason == "" for result in judge(detector, noisy)]) >= 0.9


def test_half_a_word_is_uncertain_however_long_the_silence_around_it(detector, voices):
    word = voices[0][RATE // 2 : RATE // 2 + RATE // 3]
    for padded in (word, torch.cat([torch.zeros(3 * RATE), word, torch.zeros(3 * RATE)])):
        [result] = judge(detector, [padded])
        assert (result.label, TOO_SHORT in result.reason) == ("uncertain", True)


def test_the_length_that_is_asked_for_is_that_of_the_sound(detector, voices):
    speech = voices[0][RATE // 2 :]
    for seconds in (LEAST_SECONDS - 0.2, LEAST_SECONDS + 0.2):
        [result] = judge(detector, [speech[: int(seconds * RATE)]])
        assert (TOO_SHORT in result.reason) == (seconds < LEAST_SECONDS)


def test_a_telephone_is_uncertain_with_the_reason(detector, voices):
    called = [corrupt(wave, "telephone", 8, RATE, np.random.default_rng(i)) for i, wave in enumerate(voices)]
    reasons = [result.reason for result in judge(detector, called)]
    assert np.mean([NARROW in reason for reason in reasons]) >= 0.9


def test_a_recording_at_8_khz_is_uncertain(detector, voices, tmp_path):
    for i, wave in enumerate(voices[:5]):
        soundfile.write(tmp_path / f"{i}.wav", resample(wave.numpy(), 2, 1), RATE // 2)
        assert NARROW in detector.predict(tmp_path / f"{i}.wav").reason


def test_of_a_long_recording_a_part_must_be_speech(detector, voices):
    rng = np.random.default_rng(1)
    music = [torch.from_numpy(make("chords", rng)) for _ in range(4)]
    mixed, alone = judge(detector, [torch.cat([*music, *voices[:4]]), torch.cat(music)])
    assert mixed.reason == ""
    assert NO_SPEECH in alone.reason


def test_what_surrounds_a_window_does_not_change_its_measures(voices):
    check, batch = SpeechCheck.load(), torch.stack(voices[:5])
    with torch.inference_mode():
        together, alone = check(batch), torch.cat([check(wave[None]) for wave in batch])
        louder = check(0.1 * batch + 0.05)
    assert torch.allclose(together, alone, atol=1e-3)
    assert torch.allclose(together, louder, atol=2e-2)


def test_the_share_that_sounds_counts_short_pauses(voices):
    check = SpeechCheck.load()
    noise = torch.randn(1, 2 * RATE, generator=torch.Generator().manual_seed(0))
    half, gaps = noise.clone(), noise.clone()
    half[:, RATE:] *= 1e-3
    gaps[:, ::1] *= torch.where(torch.arange(2 * RATE) % (RATE // 4) < RATE // 8, 1.0, 1e-3)
    with torch.inference_mode():
        shares = [check(wave)[0, 1].item() for wave in (noise, half, gaps)]
    assert shares == pytest.approx([1, 0.5, 1], abs=0.08)


def test_the_verdict_says_why():
    result = Prediction("a.wav", 0.9, 0.5, 2.0, np.zeros(1), np.zeros(1), (0.2, 0.3), "no clear speech in it")
    assert result.label == "uncertain"
    assert str(result) == "a.wav: uncertain (no clear speech in it, 2.00 s)"


def test_a_detector_of_another_sample_rate_has_no_check(tiny_config, tmp_path):
    for rate, checked in ((16_000, True), (8_000, False)):
        config = replace(tiny_config, sample_rate=rate, f_max=3_500.0)
        save_checkpoint(tmp_path / "a.safetensors", build_model(config=config), {})
        assert (Detector.load(tmp_path / "a.safetensors").speech is not None) == checked


@pytest.mark.parametrize("samples", [1, 100, 900, 5_000])
def test_windows_of_any_length_are_measured(samples):
    with torch.inference_mode():
        measures = SpeechCheck.load()(torch.randn(2, samples, generator=torch.Generator().manual_seed(0)))
    assert measures.shape == (2, 3)
    assert measures.isfinite().all()


def test_a_damaged_check_is_named(tmp_path, tiny_config):
    save_checkpoint(tmp_path / "none.safetensors", build_model(config=tiny_config), {})
    with pytest.raises(CheckpointError, match=r"none\.safetensors: holds no limit"):
        SpeechCheck.load(tmp_path / "none.safetensors")
    (tmp_path / "speech.safetensors").write_bytes(b"no tensors")
    with pytest.raises(CheckpointError, match=r"speech\.safetensors: damaged"):
        SpeechCheck.load(tmp_path / "speech.safetensors")


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
