import librosa
import numpy as np
import pytest
import torch

from dfa_utils.config import Config
from dfa_utils.features import TOP_DB, LogMel, normalise_waveform, standardise

CONFIG = Config()
front_end = LogMel(CONFIG)
generator = torch.Generator().manual_seed(0)


def speechlike(n=3, seconds=2.0):
    """[n, T]: noise with a slow envelope and a falling spectrum, of very different levels."""
    noise = torch.randn(n, int(seconds * 16_000), generator=generator).cumsum(dim=1)
    noise = noise - noise.mean(dim=1, keepdim=True)
    envelope = 0.55 + 0.45 * torch.sin(torch.linspace(0, 20, noise.shape[1]))
    return noise / noise.abs().amax(dim=1, keepdim=True) * envelope * torch.logspace(0, -3, n)[:, None]


def test_shape():
    assert front_end(speechlike()).shape == (3, 1, CONFIG.n_mels, 1 + CONFIG.clip_samples // CONFIG.hop_length)


def test_a_clip_does_not_see_the_rest_of_its_batch():
    batch = speechlike()
    alone = torch.cat([front_end(clip[None]) for clip in batch])
    assert torch.allclose(front_end(batch), alone, atol=1e-3)


@pytest.mark.parametrize("gain_db", [-20, 20])
def test_gain_is_invisible(gain_db):
    batch = speechlike()
    assert torch.allclose(front_end(batch * 10 ** (gain_db / 20)), front_end(batch), atol=1e-2)


def test_dc_offset_is_invisible():
    batch = speechlike()[:2]  # the third is 60 dB down: with an offset of 0.2, float32 itself loses part of it
    assert torch.allclose(front_end(batch + 0.2), front_end(batch), atol=0.05)


def test_agrees_with_librosa():
    wave = normalise_waveform(speechlike(1))
    power = librosa.feature.melspectrogram(
        y=wave[0].numpy(), sr=CONFIG.sample_rate, n_fft=CONFIG.n_fft, hop_length=CONFIG.hop_length,
        n_mels=CONFIG.n_mels, fmin=CONFIG.f_min, fmax=CONFIG.f_max, pad_mode="reflect",
    )  # fmt: skip
    oracle = librosa.power_to_db(power, amin=1e-10, top_db=TOP_DB)
    assert np.abs(front_end(wave)[0, 0].numpy() - oracle).max() < 0.01


def test_the_floor_is_top_db_below_the_loudest_point():
    db = front_end(torch.cat([speechlike(1)[:, :16_000], torch.zeros(1, 16_000)], dim=1))
    assert db.max() - db.min() == pytest.approx(TOP_DB, abs=1e-3)


def test_silence_and_very_short_clips_give_finite_numbers():
    assert torch.isfinite(front_end(torch.zeros(1, 1000))).all()
    assert torch.isfinite(front_end(torch.randn(2, 5, generator=generator))).all()


@pytest.mark.parametrize("shape", [(100,), (1, 2, 100), (2, 0)])
def test_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match=r"\[B, T\]"):
        front_end(torch.zeros(shape))


def test_standardise_subtracts_the_mean_of_each_clip():
    db = torch.randn(2, 1, 8, 9, generator=generator) * 20 - 30
    out = standardise(db)
    assert torch.allclose(out.mean(dim=(1, 2, 3)), torch.zeros(2), atol=1e-5)
    assert torch.allclose(out, standardise(db + 7), atol=1e-5)


def test_subtracting_the_mean_of_each_band_removes_a_constant_channel():
    db = torch.randn(2, 1, 8, 9, generator=generator) * 20 - 30
    out = standardise(db, "band")
    channel = torch.randn(2, 1, 8, 1, generator=generator) * 10  # dB; another response for each clip
    assert torch.allclose(out.mean(dim=3), torch.zeros(2, 1, 8), atol=1e-5)
    assert torch.allclose(out, standardise(db + channel, "band"), atol=1e-5)
    assert not torch.allclose(standardise(db), standardise(db + channel), atol=0.1)


def test_linear_bands_are_evenly_spaced_in_hertz():
    config = Config(frequency_scale="linear", n_mels=56, f_min=4_000.0, f_max=7_500.0)
    front = LogMel(config)
    step = 3_500 / 57
    for row in (5, 30, 50):
        tone = torch.sin(2 * torch.pi * (4_000 + step * (row + 1)) * torch.arange(32_000) / 16_000)
        assert int(front(tone[None])[0, 0].mean(dim=1).argmax()) == row
