import io
import math
import sys

import numpy as np
import pytest
import soundfile
import torch

from dfa_utils import degradations as corruptions
from dfa_utils.augment import convolve, fft_size, fit_end
from dfa_utils.degradations import CORRUPTIONS, corrupt

RATE = 16_000
CASES = [(name, level) for name, corruption in CORRUPTIONS.items() for level in corruption.levels]
RANDOM = ["noise", "rerecording"]


def generator(seed=0):
    return np.random.default_rng(seed)


def decibels(power):
    return 10 * math.log10(power)


def white(samples=RATE, seed=9):
    return torch.from_numpy(generator(seed).standard_normal(samples, dtype=np.float32)) / 10


@pytest.fixture(scope="module")
def voice():
    """Two seconds [T] of a pulse train through a few resonances, louder and softer by turns."""
    rng, t = generator(1), np.arange(2 * RATE) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 1.3 * t)
    harmonics = sum(np.sin(k * 2 * np.pi * np.cumsum(pitch) / RATE) / k for k in range(1, 40))
    wave = 0.08 * harmonics * (1 + 0.8 * np.sin(2 * np.pi * 2.5 * t)) + 0.002 * rng.standard_normal(len(t))
    return torch.tensor(wave, dtype=torch.float32)


def lag(before, after):
    """Samples by which `after` comes later, by the peak of the cross-correlation."""
    size = 2 * len(before)
    spectrum = torch.fft.rfft(after, size) * torch.fft.rfft(before, size).conj()
    peak = int(torch.fft.irfft(spectrum).argmax())
    return peak if peak < len(before) else peak - size


def reverberation_time(response, rate, lowest=-35):
    """RT60 in s by Schroeder's backward integral: the line through its decay from -5 dB to `lowest`, drawn to -60."""
    decay = np.cumsum(np.square(np.asarray(response, dtype=float))[::-1])[::-1]
    level = 10 * np.log10(decay / decay[0])
    part = np.flatnonzero((level < -5) & (level > lowest))
    return -60 / np.polyfit(part / rate, level[part], 1)[0]


def gains(name, level, rate):
    """Amplification [1 + rate / 2] in dB, 1 Hz apart, by a click in the middle of 1 s."""
    click = torch.zeros(rate)
    click[rate // 2] = 0.5
    return 20 * torch.log10(torch.fft.rfft(corrupt(click, name, level, rate, generator())).abs() / 0.5 + 1e-9)


def test_lengths_types_and_what_is_given(voice):
    before = voice.clone()
    for name, level in CASES:
        after = corrupt(voice, name, level, RATE, generator())
        assert len(after) == len(voice) + (level * RATE if name == "silence" else 0), name
        assert after.dtype == torch.float32, name
        assert torch.isfinite(after).all(), name
        assert torch.equal(voice, before), name


def test_the_level_is_kept(voice):
    for name, level in CASES:
        if name not in ("gain", "silence", "telephone"):
            change = decibels(corrupt(voice, name, level, RATE, generator()).var() / voice.var())
            assert abs(change) < (3.2 if name == "noise" else 1.0), (name, level)  # noise as loud as the voice: +3 dB


def test_one_seed_one_result(voice):
    for name in RANDOM:
        first, again, other = (corrupt(voice, name, 0.5, RATE, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(first, again), name
        assert not torch.allclose(first, other, atol=1e-3), name


def test_what_is_not_random_leaves_the_generator_alone(voice):
    for name in set(CORRUPTIONS) - set(RANDOM):
        rng = generator()
        corrupt(voice, name, CORRUPTIONS[name].levels[0], RATE, rng)
        assert rng.random() == generator().random(), name


def test_silence_stays_silent():
    for name, corruption in CORRUPTIONS.items():
        after = corrupt(torch.zeros(RATE), name, corruption.levels[-1], RATE, generator())
        assert (after - after.mean()).abs().max() < 1e-4, name


def test_samples_stay_in_step(voice):
    assert [lag(voice, torch.roll(voice, shift)) for shift in (7, 0, -7)] == [7, 0, -7]
    for name, level in CASES:
        if name not in ("silence", "rerecording"):
            assert lag(voice, corrupt(voice, name, level, RATE, generator())) == 0, (name, level)


def test_the_noise_lies_as_far_below_as_asked_and_dc_does_not_count(voice):
    for snr in (30, 10, 0, -5):
        noise = corrupt(voice + 0.3, "noise", snr, RATE, generator()) - (voice + 0.3)
        assert decibels(voice.var() / noise.var()) == pytest.approx(snr, abs=0.1)


def test_the_noise_is_white(voice):
    noise = corrupt(voice, "noise", 0, RATE, generator()) - voice
    bands = torch.fft.rfft(noise).abs().square()[:16_000].view(8, -1).mean(dim=1)  # eight bands of 1 kHz
    assert bands.max() / bands.min() < 1.25


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
def test_the_band_is_flat_and_ends_where_it_should(rate):
    for edge in (2_000, 3_400, 4_000):
        gain = gains("band", edge, rate)
        assert gain[: edge - 200].abs().max() < 0.01
        assert gain[edge:].max() < -75


@pytest.mark.parametrize("rate", [8_000, RATE, 44_100])
def test_a_telephone_line_passes_300_to_3400_hz_alone(rate):
    gain = gains("telephone", 16, rate)  # so many bits that rounding does not count
    assert gain[300:3_001].abs().max() < 0.5
    assert gain[3_001:3_401].abs().max() < 3
    assert max(gain[:100].max(), gain[3_600:].max()) < -80
    assert max(gains("telephone", 8, rate)[3_600:]) < -60  # rounding adds nothing there


def test_a_telephone_line_delays_nothing():
    for rate in (8_000, RATE, 44_100):
        hiss = white(rate)
        assert lag(hiss, corrupt(hiss, "telephone", 8, rate, generator())) == 0, rate


@pytest.mark.parametrize("rms", [0.2, 0.02])
def test_mu_law_is_as_noisy_as_theory_says(rms):
    """A step is as wide as the slope of the curve makes it: Jayant & Noll, "Digital coding of waveforms", 1984."""
    hiss = white(8_000) * 10 * rms
    coded, exact = (corrupt(hiss, "telephone", bits, 8_000, generator()) for bits in (8, 16))
    step = 2 * math.log(256) / 255 * (exact.abs() + 1 / 255)
    share = (3_500 - 200) / 4_000  # of the rounding's white noise, which the band after it lets through
    assert decibels((coded - exact).square().mean() / (share * step.square().mean() / 12)) == pytest.approx(0, abs=0.3)


def test_a_telephone_line_clips_at_full_scale():
    after = corrupt(1e3 * white(8_000), "telephone", 8, 8_000, generator())
    assert 0.5 < after.square().mean() < 1


def test_an_mp3_has_the_bit_rate_asked_for_and_no_delay(voice):
    for rate, kbps in [(RATE, kbps) for kbps in corruptions.MP3_RATES[RATE]] + [(44_100, 128), (8_000, 24)]:
        file = io.BytesIO()
        soundfile.write(file, voice.numpy(), rate, **corruptions.mp3_style(kbps, rate))
        assert 8 * file.tell() / (len(voice) / rate) / 1000 == pytest.approx(kbps, rel=0.15)
        assert lag(voice, corrupt(voice, "mp3", kbps, rate, generator())) == 0, (rate, kbps)


def test_mp3_takes_any_length(voice):
    for samples in (1, 100, 575, 576, 1151, 5_000):
        for kbps in (128, 32):
            assert len(corrupt(voice[:samples], "mp3", kbps, RATE, generator())) == samples


def test_fewer_bits_hurt_more(voice):
    errors = [float((corruptions.mp3(voice, kbps, RATE) - voice).square().mean()) for kbps in (128, 64, 32, 8)]
    assert errors == sorted(errors)
    assert errors[0] < 0.02 * float(voice.square().mean())


def test_a_fast_convolution_is_a_convolution():
    for samples, taps in ((1, 1), (100, 7), (4_801, 300), (7, 1_000)):
        wave, kernel = generator(0).standard_normal((2, samples)), generator(1).standard_normal((2, taps))
        ours = convolve(torch.from_numpy(wave), torch.from_numpy(kernel)).numpy()
        theirs = np.stack([np.convolve(*pair) for pair in zip(wave, kernel, strict=True)])
        assert ours == pytest.approx(theirs, abs=1e-9)


def test_an_end_is_cut_or_followed_by_zeros():
    wave = torch.arange(1.0, 4.0)
    assert [fit_end(wave, size).tolist() for size in (2, 3, 5)] == [[1, 2], [1, 2, 3], [1, 2, 3, 0, 0]]


def test_a_fast_size_holds_the_clip_and_is_not_much_larger():
    for samples in (1, 2, 100, 4_801, 32_000, 88_211):
        size = fft_size(samples)
        assert samples <= size <= 1.34 * samples
        assert size // (size & -size) in (1, 3, 5, 9)


@pytest.mark.parametrize("rate", [8_000, RATE])
def test_every_room_of_the_rerecording_rings_about_as_long_as_asked(rate):
    for rt60 in CORRUPTIONS["rerecording"].levels:
        for room in range(corruptions.ROOMS):
            response, delay = corruptions.shoebox_response(rt60, rate, room)
            assert reverberation_time(response[delay:], rate, lowest=-25) == pytest.approx(rt60, rel=0.3), room
            metres = (delay - 40) / rate * 343  # 40 samples: half of pyroomacoustics' kernel
            assert 0.4 - 343 / rate < metres < 0.8 + 343 / rate, room


def test_the_direct_sound_of_a_rerecording_stays_in_step():
    hiss = white()  # a voice's phases are turned
    assert {abs(lag(hiss, corrupt(hiss, "rerecording", 0.6, RATE, generator(seed)))) for seed in range(6)} <= {0, 1}


def test_rerecordings_are_made_in_all_rooms_with_devices_of_their_own(monkeypatch):
    click, rooms, gains = torch.eye(1, RATE)[0], [], []

    def no_room(rt60, rate, room):
        rooms.append(room)
        return torch.ones(1), 0

    monkeypatch.setattr(corruptions, "shoebox_response", no_room)
    for seed in range(16):
        spectrum = torch.fft.rfft(corrupt(click, "rerecording", 0.3, RATE, generator(seed))).abs()  # 1 Hz a bin
        gains.append(20 * torch.log10(spectrum / spectrum[1_000]))
    assert set(rooms) == set(range(corruptions.ROOMS))
    assert 1 < torch.stack(gains)[:, 300:3_000].std(dim=0).mean() < 4  # dB from one device to another


def test_a_loudspeaker_gives_back_150_hz_to_7_khz():
    click = torch.eye(1, RATE)[0]
    for seed in range(6):
        response = 20 * torch.log10(
            torch.fft.rfft(corruptions._through_loudspeaker(click, RATE, generator(seed))).abs()
        )
        assert response[75] == pytest.approx(-12, abs=2)  # 12 dB an octave
        assert response[300:5_000].abs().max() < 8


def test_the_noise_of_a_rerecording_lies_25_db_below():
    burst = torch.cat([white(), torch.zeros(RATE)])
    after = corrupt(burst, "rerecording", 0.3, RATE, generator())
    assert decibels(burst.square().mean() / after[-RATE // 4 :].square().mean()) == pytest.approx(25, abs=0.3)


def test_without_pyroomacoustics_rerecording_says_how_to_get_it(voice, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    corruptions.shoebox_response.cache_clear()
    with pytest.raises(ValueError, match=r'pip install "dfa-utils\[release\]"'):
        corrupt(voice, "rerecording", 0.3, RATE, generator())


def test_an_offset_moves_every_sample_alike(voice):
    torch.testing.assert_close(corrupt(voice, "offset", 0.1, RATE, generator()) - voice, torch.full_like(voice, 0.1))


def test_silence_comes_first_and_the_clip_after_it(voice):
    after = corrupt(voice, "silence", 1.0, RATE, generator())
    assert not after[:RATE].any()
    assert torch.equal(after[RATE:], voice)


def test_a_gain_is_exact_and_clips_nothing(voice):
    for gain, factor in ((-40, 0.01), (-20, 0.1), (20, 10)):
        torch.testing.assert_close(corrupt(voice, "gain", gain, RATE, generator()), voice * factor)
    assert (10 * voice).abs().max() > 1


REFUSED = [
    ("fog", 1, "rerecording"),
    ("mp3", 100, "112"),
    ("mp3", 320, "160"),
    ("band", 9_000, "8000"),
    ("band", 200, "200"),
    ("silence", 0, "above 0"),
    ("rerecording", 0, "above 0"),
    ("telephone", 1, "2 bits"),
    ("telephone", 7.5, "whole"),
]


def test_what_cannot_be_had_is_refused_with_what_can(voice):
    for name, level, said in REFUSED:
        with pytest.raises(ValueError, match=said):
            corrupt(voice, name, level, RATE, generator())
    with pytest.raises(ValueError, match="from 8000 Hz"):
        corrupt(voice, "telephone", 8, 6_000, generator())


def test_only_one_waveform_at_a_time():
    for shape in ((0,), (1, 100)):
        with pytest.raises(ValueError, match="one waveform"):
            corrupt(torch.zeros(shape), "gain", 20, RATE, generator())
