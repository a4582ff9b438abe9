from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, ROOT
from scipy import signal

from dfa_utils import Detector
from dfa_utils.audio import load_audio, resample
from dfa_utils.checkpoint import CheckpointError, save_checkpoint
from dfa_utils.inference import Prediction
from dfa_utils.models import build_model
from dfa_utils.speech import LEAST_SECONDS, SpeechCheck

NO_SPEECH, TOO_SHORT, NARROW = "no clear speech", "s of sound", "as on a telephone"


@pytest.fixture(scope="module")
def detector():
    return Detector.load()


@pytest.fixture(scope="module")
def voices():
    return [load_audio(path) for path in sorted((ROOT / "data" / "toy").rglob("*.wav"))[::4]]


def predictions(detector, waveforms):
    """The predictions of waveforms."""
    named = ((str(i), [torch.as_tensor(wave)]) for i, wave in enumerate(waveforms))
    return [result for _, result in detector.predict_recordings(named)]


def sounds():
    """Ten sounds of 2 s that are no speech, by name: noises, tones, beeps, clicks and a chord."""
    rng, time = np.random.default_rng(2024), np.arange(2 * RATE) / RATE
    white = rng.standard_normal(2 * RATE)
    chord = sum(np.sin(2 * np.pi * 220 * pitch * k * time) / k for pitch in (1, 1.25, 1.5) for k in range(1, 9))
    clicks = np.zeros(2 * RATE)
    clicks[rng.integers(0, 2 * RATE, 40)] = 1
    made = {
        "white noise": white,
        "brown noise": signal.lfilter([1], [1, -0.98], white),
        "hum": sum(np.sin(2 * np.pi * 50 * k * time) / k for k in range(1, 20)) + 0.01 * white,
        "tone": np.sin(2 * np.pi * 440 * time) + 0.01 * white,
        "beeps": np.sin(2 * np.pi * 1_000 * time) * (time % 0.5 < 0.25) + 0.01 * white,
        "chirp": signal.chirp(time, 100, 2, 7_000) + 0.01 * white,
        "siren": np.sin(2 * np.pi * 700 * time + 60 * np.sin(2 * np.pi * 2 * time)) + 0.01 * white,
        "clicks": clicks + 0.001 * white,
        "chord": chord * np.exp(-2 * (time % 0.5)),
        "gusts": white * (1 + np.sin(2 * np.pi * time)),
    }
    return {name: (0.3 * sound / np.abs(sound).max()).astype("float32") for name, sound in made.items()}


def add_noise(wave, snr_db):
    noise = torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    return wave + noise * wave.std() * 10 ** (-snr_db / 20)


def test_sounds_that_are_no_speech_are_uncertain_with_the_reason(detector):
    results = dict(zip(sounds(), predictions(detector, sounds().values()), strict=True))
    assert {name: result.label for name, result in results.items() if result.label != "uncertain"} == {}
    assert {name: result.reason for name, result in results.items() if NO_SPEECH not in result.reason} == {}


def test_a_voice_is_judged(detector, voices):
    assert [result.reason for result in predictions(detector, voices)] == [""] * len(voices)


def test_a_voice_in_noise_is_judged(detector, voices):
    noisy = [add_noise(wave, snr_db=20) for wave in voices]
    assert np.mean([result.reason == "" for result in predictions(detector, noisy)]) >= 0.9


def test_half_a_word_is_uncertain_however_long_the_silence_around_it(detector, voices):
    word = voices[0][RATE // 2 : RATE // 2 + RATE // 3]
    for padded in (word, torch.cat([torch.zeros(3 * RATE), word, torch.zeros(3 * RATE)])):
        [result] = predictions(detector, [padded])
        assert (result.label, TOO_SHORT in result.reason) == ("uncertain", True)


def test_the_length_that_is_asked_for_is_that_of_the_sound(detector, voices):
    speech = voices[0][RATE // 2 :]
    for seconds in (LEAST_SECONDS - 0.2, LEAST_SECONDS + 0.2):
        [result] = predictions(detector, [speech[: int(seconds * RATE)]])
        assert (TOO_SHORT in result.reason) == (seconds < LEAST_SECONDS)


def test_a_telephone_is_uncertain_with_the_reason(detector, voices):
    band = signal.butter(6, (300, 3_400), "band", fs=RATE, output="sos")
    called = [resample(signal.sosfilt(band, wave).astype("float32"), 2, 1) for wave in voices]
    reasons = [detector.predict(wave, RATE // 2).reason for wave in called]
    assert np.mean([NARROW in reason for reason in reasons]) >= 0.9


def test_a_recording_at_8_khz_is_uncertain(detector, voices, tmp_path):
    for i, wave in enumerate(voices[:5]):
        soundfile.write(tmp_path / f"{i}.wav", resample(wave.numpy(), 2, 1), RATE // 2)
        assert NARROW in detector.predict(tmp_path / f"{i}.wav").reason


@pytest.mark.parametrize("rate", [10_000, 11_025, 12_000])
def test_a_band_that_ends_above_a_telephones_is_judged(detector, voices, rate):
    """Recordings made at 10, 11.025 or 12 kHz end at 5 to 6 kHz, as do clips that the detector was trained on."""
    ratio = Fraction(rate, RATE)
    narrow = [resample(wave.numpy(), ratio.denominator, ratio.numerator) for wave in voices]
    assert np.mean([NARROW in detector.predict(wave, rate).reason for wave in narrow]) <= 0.05


def test_speech_below_strong_noise_is_uncertain_with_the_reason(detector, voices):
    reasons = [result.reason for result in predictions(detector, [add_noise(wave, snr_db=-5) for wave in voices])]
    assert np.mean([NO_SPEECH in reason for reason in reasons]) >= 0.9


def test_of_a_long_recording_a_part_must_be_speech(detector, voices):
    music = [torch.from_numpy(sounds()["chord"])] * 4
    mixed, alone = predictions(detector, [torch.cat([*music, *voices[:4]]), torch.cat(music)])
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
    place = np.zeros(1), np.full(1, 2.0), np.full(1, 0.9)
    result = Prediction("a.wav", 0.9, 0.5, 2.0, 2.0, *place, (0.2, 0.3), "no clear speech in it")
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
