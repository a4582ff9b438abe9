import math

import numpy as np
import pytest
import torch

from dfa_utils.effects import corruptions
from dfa_utils.effects.corruptions import CORRUPTIONS, corrupt

RATE = 16_000
CASES = [(name, level) for name, corruption in CORRUPTIONS.items() for level in corruption.levels]
IN_STEP = set(CORRUPTIONS) - {"crop", "silence", "rerecording"}
RANDOM = ["noise", "reverberation", "rerecording"]


def generator(seed=0):
    return np.random.default_rng(seed)


def decibels(power):
    return float(10 * torch.log10(power))


@pytest.fixture(scope="module")
def voice():
    """Two seconds [T] of a pulse train through a few resonances, louder and softer by turns."""
    rng, t = generator(1), np.arange(2 * RATE) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 1.3 * t)
    harmonics = sum(np.sin(k * 2 * np.pi * np.cumsum(pitch) / RATE) / k for k in range(1, 40))
    wave = 0.08 * harmonics * (1 + 0.8 * np.sin(2 * np.pi * 2.5 * t)) + 0.002 * rng.standard_normal(len(t))
    return torch.tensor(wave, dtype=torch.float32)


@pytest.mark.parametrize(("name", "level"), CASES)
def test_only_crop_and_silence_change_the_length_and_nothing_the_type(voice, name, level):
    before = voice.clone()
    after = corrupt(voice, name, level, RATE, generator())
    assert len(after) == {"crop": level * RATE, "silence": len(voice) + level * RATE}.get(name, len(voice))
    assert after.dtype == torch.float32
    assert torch.isfinite(after).all()
    assert torch.equal(voice, before)


@pytest.mark.parametrize(("name", "level"), [case for case in CASES if case[0] not in ("gain", "silence")])
def test_the_level_is_kept(voice, name, level):
    after = corrupt(voice, name, level, RATE, generator())
    change = decibels(after.var() / voice.var())
    assert abs(change) < (3.2 if name == "noise" else 1.0)  # noise as loud as the voice: +3 dB


@pytest.mark.parametrize("name", RANDOM)
def test_one_seed_one_result(voice, name):
    first, again, other = (corrupt(voice, name, 0.5, RATE, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


@pytest.mark.parametrize("name", sorted(set(CORRUPTIONS) - set(RANDOM)))
def test_what_is_not_random_leaves_the_generator_alone(voice, name):
    rng = generator()
    corrupt(voice, name, CORRUPTIONS[name].levels[0], RATE, rng)
    assert rng.random() == generator().random()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_silence_stays_finite(name):
    after = corrupt(torch.zeros(RATE), name, CORRUPTIONS[name].levels[-1], RATE, generator())
    assert (after - after.mean()).abs().max() < 1e-4


@pytest.mark.parametrize("snr", [30, 10, 0, -5])
def test_the_noise_lies_as_far_below_as_asked_and_dc_does_not_count(voice, snr):
    noise = corruptions.add_noise(voice + 0.3, snr, generator()) - (voice + 0.3)
    assert decibels(voice.var() / noise.var()) == pytest.approx(snr, abs=0.1)


def test_the_noise_is_white(voice):
    noise = corruptions.add_noise(voice, 0, generator()) - voice
    bands = torch.fft.rfft(noise).abs().square()[:16_000].view(8, -1).mean(dim=1)  # eight bands of 1 kHz
    assert bands.max() / bands.min() < 1.25


def gain_at(hz, edge, rate=RATE):
    """By how many dB a steady tone passes."""
    tone = torch.sin(2 * math.pi * hz * torch.arange(rate) / rate)
    after = corruptions.limit_band(tone, edge, rate)
    middle = slice(rate // 4, 3 * rate // 4)
    return decibels((after[middle].square().mean() + 1e-20) / tone[middle].square().mean())


@pytest.mark.parametrize(("edge", "rate"), [(6000, RATE), (4000, RATE), (2000, RATE), (3400, 44_100)])
def test_the_band_ends_where_it_should(edge, rate):
    assert max(gain_at(hz, edge, rate) for hz in np.linspace(edge, rate / 2 - 50, 9)) < -40
    assert max(abs(gain_at(hz, edge, rate)) for hz in np.linspace(50, edge - corruptions.TRANSITION, 9)) < 0.1


def lag(before, after):
    """Samples by which `after` comes later, by the peak of the cross-correlation."""
    size = 2 * len(before)
    spectrum = torch.fft.rfft(after, size) * torch.fft.rfft(before, size).conj()
    peak = int(torch.fft.irfft(spectrum).argmax())
    return peak if peak < len(before) else peak - size


@pytest.mark.parametrize(
    ("name", "level"), [case for case in CASES if case[0] not in ("crop", "silence", "rerecording")]
)
def test_samples_stay_aligned(voice, name, level):
    assert lag(voice, corrupt(voice, name, level, RATE, generator())) == 0


def test_the_lag_is_measured_with_its_sign(voice):
    assert lag(voice, torch.roll(voice, 7)) == 7
    assert lag(voice, torch.roll(voice, -7)) == -7


@pytest.mark.parametrize(
    ("rate", "kbps"), [(RATE, kbps) for kbps in corruptions.MP3_RATES[RATE]] + [(44_100, 128), (8_000, 24)]
)
def test_an_mp3_has_the_bit_rate_asked_for_and_no_delay(voice, rate, kbps):
    size = len(corruptions.encode_mp3(voice, kbps, rate))
    assert 8 * size / (len(voice) / rate) / 1000 == pytest.approx(kbps, rel=0.15)
    assert lag(voice, corruptions.mp3(voice, kbps, rate)) == 0


@pytest.mark.parametrize("samples", [1, 100, 575, 576, 1151, 5_000])
@pytest.mark.parametrize("kbps", [128, 32])
def test_mp3_takes_any_length(voice, kbps, samples):
    assert len(corruptions.mp3(voice[:samples], kbps, RATE)) == samples


def test_fewer_bits_hurt_more(voice):
    errors = [float((corruptions.mp3(voice, kbps, RATE) - voice).square().mean()) for kbps in (128, 64, 32, 8)]
    assert errors == sorted(errors)
    assert errors[0] < 0.02 * float(voice.square().mean())


@pytest.mark.parametrize(("samples", "taps"), [(1, 1), (100, 7), (4_801, 300), (7, 1_000)])
def test_a_fast_convolution_is_a_convolution(samples, taps):
    wave, kernel = generator(0).standard_normal((2, samples)), generator(1).standard_normal((2, taps))
    ours = corruptions.convolve(torch.from_numpy(wave), torch.from_numpy(kernel)).numpy()
    assert ours == pytest.approx(np.stack([np.convolve(*pair) for pair in zip(wave, kernel, strict=True)]), abs=1e-9)


@pytest.mark.parametrize("samples", [1, 2, 100, 4_801, 32_000, 88_211])
def test_a_fast_size_holds_the_clip_and_is_not_much_larger(samples):
    size = corruptions.fft_size(samples)
    assert samples <= size <= 1.34 * samples
    assert size // (size & -size) in (1, 3, 5, 9)


def reverberation_time(response, rate, lowest=-35):
    """RT60 in s by Schroeder's backward integral: the line through its decay from -5 to -35 dB, drawn out to -60."""
    decay = np.cumsum(np.square(np.asarray(response, dtype=float))[::-1])[::-1]
    level = 10 * np.log10(decay / decay[0])
    part = np.flatnonzero((level < -5) & (level > lowest))
    return -60 / np.polyfit(part / rate, level[part], 1)[0]


@pytest.mark.parametrize("rate", [8_000, RATE])
@pytest.mark.parametrize("rt60", [0.2, 0.5, 1.0])
def test_the_room_rings_as_long_as_asked(rt60, rate):
    response = corruptions.room_response(rt60, rate, generator())
    assert reverberation_time(response, rate) == pytest.approx(rt60, rel=0.1)
    assert response[0] == 1
    assert response[1:].square().sum() == pytest.approx(2 * rt60, rel=1e-3)  # as much as the direct sound at 0.5 s


@pytest.mark.parametrize("rms", [0.2, 0.02])
def test_mu_law_is_as_noisy_as_theory_says(rms):
    """Jayant & Noll, "Digital coding of waveforms", 1984: nearly the same at any level."""
    hiss = rms * torch.from_numpy(generator().laplace(0, 0.5**0.5, 8_000)).float().clamp(-1 / rms, 1 / rms)
    after = corrupt(hiss, "telephone", 8, 8_000, generator())
    below = 1 / (255 * rms)
    expected = 6.02 * 8 + 4.77 - 20 * math.log10(math.log(256)) - 10 * math.log10(1 + below**2 + 2**0.5 * below)
    assert decibels(hiss.square().mean() / (after - hiss).square().mean()) == pytest.approx(expected, abs=0.5)
    assert len(after.unique()) <= 256


def test_a_telephone_line_ends_at_4_khz():
    hiss = torch.from_numpy(generator().standard_normal(RATE, dtype=np.float32)) / 10
    power = torch.fft.rfft(corrupt(hiss, "telephone", 8, RATE, generator())).abs().square()  # 1 Hz a bin
    assert decibels(power[4_500:].mean() / power[100:3_500].mean()) < -30


@pytest.mark.parametrize("rate", [8_000, RATE])
@pytest.mark.parametrize("rt60", CORRUPTIONS["rerecording"].levels)
def test_every_room_of_the_rerecording_rings_about_as_long_as_asked(rt60, rate):
    for room in range(corruptions.ROOMS):
        response, delay = corruptions.shoebox_response(rt60, rate, room)
        assert reverberation_time(response[delay:], rate, lowest=-25) == pytest.approx(rt60, rel=0.3)
        assert (delay - 40) / rate * 343 + 343 / rate > 0.4  # 40 samples: half of pyroomacoustics' kernel
        assert (delay - 40) / rate * 343 - 343 / rate < 0.8


@pytest.mark.parametrize("seed", range(6))
def test_the_direct_sound_of_a_rerecording_stays_in_step(seed):
    hiss = torch.from_numpy(generator(9).standard_normal(RATE, dtype=np.float32))  # a voice's phases are turned
    assert abs(lag(hiss, corrupt(hiss, "rerecording", 0.6, RATE, generator(seed)))) <= 1


def test_the_noise_of_a_rerecording_lies_25_db_below():
    burst = torch.cat([torch.from_numpy(generator(2).standard_normal(RATE, dtype=np.float32)), torch.zeros(RATE)])
    after = corrupt(burst, "rerecording", 0.3, RATE, generator())
    assert decibels(burst.square().mean() / after[-RATE // 4 :].square().mean()) == pytest.approx(25, abs=0.3)


def test_an_offset_moves_every_sample_alike(voice):
    torch.testing.assert_close(corrupt(voice, "offset", 0.1, RATE, generator()) - voice, torch.full_like(voice, 0.1))


def test_silence_comes_first_and_the_clip_after_it(voice):
    after = corrupt(voice, "silence", 1.0, RATE, generator())
    assert not after[:RATE].any()
    assert torch.equal(after[RATE:], voice)


@pytest.mark.parametrize("gain", [-40, -20, 20])
def test_a_gain_is_exact_and_clips_nothing(voice, gain):
    after = corrupt(voice, "gain", gain, RATE, generator())
    torch.testing.assert_close(after, voice * {-40: 0.01, -20: 0.1, 20: 10}[gain])
    assert gain < 0 or after.abs().max() > 1


def test_a_crop_is_the_middle_and_a_short_clip_stays_whole(voice):
    assert torch.equal(corruptions.crop(voice, 1.0, RATE), voice[RATE // 2 : 3 * RATE // 2])
    assert torch.equal(corruptions.crop(voice, 3.0, RATE), voice)


@pytest.mark.parametrize(
    ("name", "level", "said"),
    [
        ("fog", 1, "reverberation"),
        ("mp3", 100, "112"),
        ("mp3", 320, "160"),
        ("band", 9_000, "8000"),
        ("band", 100, "200"),
        ("reverberation", 0, "above 0"),
        ("crop", -1, "above 0"),
        ("silence", 0, "above 0"),
        ("rerecording", 0, "above 0"),
        ("telephone", 1, "2 bits"),
        ("telephone", 7.5, "whole"),
    ],
)
def test_what_cannot_be_had_is_refused_with_what_can(voice, name, level, said):
    with pytest.raises(ValueError, match=said):
        corrupt(voice, name, level, RATE, generator())


@pytest.mark.parametrize("shape", [(0,), (1, 100)])
def test_only_one_waveform_at_a_time(shape):
    with pytest.raises(ValueError, match="one waveform"):
        corrupt(torch.zeros(shape), "gain", 20, RATE, generator())
