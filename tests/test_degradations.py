"""The degradations by themselves, and the table of what they do to a detector."""

import io
import math
from itertools import product

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import hiss, tone
from torch.utils.data import DataLoader

from dfa_utils import degradations, metrics
from dfa_utils.audio import AudioError
from dfa_utils.augment import convolve, fft_size, fit_end, through_codec
from dfa_utils.dataset import ClipDataset
from dfa_utils.degradations import DEGRADATIONS, Degradation, degrade, robustness, score_degraded
from dfa_utils.evaluation import eer_interval, score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import build_model

RATE = 16_000
CASES = [(name, level) for name, degradation in DEGRADATIONS.items() for level in degradation.levels]


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
    return 20 * torch.log10(torch.fft.rfft(degrade(click, name, level, rate, generator())).abs() / 0.5 + 1e-9)


def test_lengths_types_and_what_is_given(voice):
    before = voice.clone()
    for name, level in CASES:
        after = degrade(voice, name, level, RATE, generator())
        assert after.shape == voice.shape, name
        assert after.dtype == torch.float32, name
        assert torch.isfinite(after).all(), name
        assert torch.equal(voice, before), name


def test_the_level_is_kept(voice):
    for name, level in CASES:
        if name not in ("gain", "telephone"):
            change = decibels(degrade(voice, name, level, RATE, generator()).var() / voice.var())
            assert abs(change) < (3.2 if name == "noise" else 1.0), (name, level)  # noise as loud as the voice: +3 dB


def test_one_seed_one_result(voice):
    first, again, other = (degrade(voice, "noise", 0.5, RATE, generator(seed)) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, atol=1e-3)


def test_what_is_not_random_leaves_the_generator_alone(voice):
    for name in set(DEGRADATIONS) - {"noise"}:
        rng = generator()
        degrade(voice, name, DEGRADATIONS[name].levels[0], RATE, rng)
        assert rng.random() == generator().random(), name


def test_silence_stays_silent():
    for name, degradation in DEGRADATIONS.items():
        after = degrade(torch.zeros(RATE), name, degradation.levels[-1], RATE, generator())
        assert (after - after.mean()).abs().max() < 1e-4, name


def test_samples_stay_in_step(voice):
    assert [lag(voice, torch.roll(voice, shift)) for shift in (7, 0, -7)] == [7, 0, -7]
    for name, level in CASES:
        assert lag(voice, degrade(voice, name, level, RATE, generator())) == 0, (name, level)


def test_the_noise_lies_as_far_below_as_asked_and_dc_does_not_count(voice):
    for snr in (30, 10, 0, -5):
        noise = degrade(voice + 0.3, "noise", snr, RATE, generator()) - (voice + 0.3)
        assert decibels(voice.var() / noise.var()) == pytest.approx(snr, abs=0.1)


def test_the_noise_is_white(voice):
    noise = degrade(voice, "noise", 0, RATE, generator()) - voice
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
        assert lag(hiss, degrade(hiss, "telephone", 8, rate, generator())) == 0, rate


@pytest.mark.parametrize("rms", [0.2, 0.02])
def test_mu_law_is_as_noisy_as_theory_says(rms):
    """A step is as wide as the slope of the curve makes it: Jayant & Noll, "Digital coding of waveforms", 1984."""
    hiss = white(8_000) * 10 * rms
    coded, exact = (degrade(hiss, "telephone", bits, 8_000, generator()) for bits in (8, 16))
    step = 2 * math.log(256) / 255 * (exact.abs() + 1 / 255)
    share = (3_500 - 200) / 4_000  # of the rounding's white noise, which the band after it lets through
    assert decibels((coded - exact).square().mean() / (share * step.square().mean() / 12)) == pytest.approx(0, abs=0.3)


def test_a_telephone_line_clips_at_full_scale():
    after = degrade(1e3 * white(8_000), "telephone", 8, 8_000, generator())
    assert 0.5 < after.square().mean() < 1


def test_an_mp3_has_the_bit_rate_asked_for_and_no_delay(voice, monkeypatch):
    styles = []
    monkeypatch.setattr(
        degradations, "through_codec", lambda *args, **style: styles.append(style) or through_codec(*args, **style)
    )
    for rate, kbps in [(RATE, kbps) for kbps in degradations.MP3_BIT_RATES[RATE]] + [(44_100, 128), (8_000, 24)]:
        file = io.BytesIO()
        degrade(voice, "mp3", kbps, rate, generator())
        soundfile.write(file, voice.numpy(), rate, **styles[-1])
        assert 8 * file.tell() / (len(voice) / rate) / 1000 == pytest.approx(kbps, rel=0.15)
        assert lag(voice, degrade(voice, "mp3", kbps, rate, generator())) == 0, (rate, kbps)


def test_mp3_takes_any_length(voice):
    for samples in (1, 100, 575, 576, 1151, 5_000):
        for kbps in (128, 32):
            assert len(degrade(voice[:samples], "mp3", kbps, RATE, generator())) == samples


def test_fewer_bits_hurt_more(voice):
    errors = [float((degradations.mp3(voice, kbps, RATE) - voice).square().mean()) for kbps in (128, 64, 32, 8)]
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


def test_a_gain_is_exact_and_clips_nothing(voice):
    for gain, factor in ((-40, 0.01), (-20, 0.1), (20, 10)):
        torch.testing.assert_close(degrade(voice, "gain", gain, RATE, generator()), voice * factor)
    assert (10 * voice).abs().max() > 1


REFUSED = [
    ("fog", 1, "telephone"),
    ("mp3", 100, "112"),
    ("mp3", 320, "160"),
    ("band", 9_000, "8000"),
    ("band", 200, "200"),
    ("telephone", 1, "from 2 on"),
    ("telephone", 7.5, "whole bits"),
]


def test_what_cannot_be_had_is_refused_with_what_can(voice):
    for name, level, said in REFUSED:
        with pytest.raises(ValueError, match=said):
            degrade(voice, name, level, RATE, generator())
    with pytest.raises(ValueError, match="8 kHz"):
        degrade(voice, "telephone", 8, 6_000, generator())


def test_only_one_waveform_at_a_time():
    for shape in ((0,), (1, 100)):
        with pytest.raises(ValueError, match="one waveform"):
            degrade(torch.zeros(shape), "gain", 20, RATE, generator())


@pytest.fixture(scope="module")
def detector(tiny_manifest, tiny_config):
    """Trained until it tells tones (real) from noise (fake)."""
    part = tiny_manifest[tiny_manifest.split == "training"]
    clips = ClipDataset(part, tiny_config)
    waves, labels = next(iter(DataLoader(clips, batch_size=len(clips))))
    model = build_model(config=tiny_config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(waves), labels).backward()
        optimizer.step()
    return Detector(model, {})


@pytest.fixture(scope="module")
def some(tiny_manifest):
    return tiny_manifest[tiny_manifest.split != "training"].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(detector, some):
    return robustness(detector, some)


def row(table, name):
    return table[table.degradation == name].squeeze()


def test_there_is_a_row_for_clean_and_for_every_level(table, some):
    expected = [("clean", ""), *((name, c.unit) for name, c in DEGRADATIONS.items() for _ in c.levels)]
    assert list(zip(table.degradation, table.unit, strict=True)) == expected
    assert table.level[1:].tolist() == [level for c in DEGRADATIONS.values() for level in c.levels]
    assert (table.clips == len(some)).all()
    assert ((table.eer_low <= table.eer) & (table.eer <= table.eer_high)).all()


def test_the_clean_row_is_the_evaluation(detector, some, table):
    scores = score_clips(detector, some).score
    clean = row(table, "clean")
    assert clean.eer == metrics.eer(some.label, scores)[0] == 0
    assert clean.hter == metrics.hter(some.label, scores, 0.5)
    assert clean["shift"] == clean.shift_95 == 0


def test_noise_makes_tones_sound_fake_and_more_noise_more_so(detector, some, table):
    noise = table[table.degradation == "noise"]
    assert noise["shift"].is_monotonic_increasing
    assert noise.hter.iloc[-1] > 0.2
    clean = score_clips(detector, some).score.to_numpy()
    [loud] = score_degraded(detector, some.path, [("noise", 0)])
    assert loud[some.label == 0].mean() > clean[some.label == 0].mean() + 0.2
    assert noise["shift"].iloc[-1] == pytest.approx(np.abs(loud - clean).mean(), abs=1e-6)
    assert noise.shift_95.iloc[-1] == pytest.approx(np.quantile(np.abs(loud - clean), 0.95), abs=1e-6)


def test_a_gain_changes_nothing_for_a_detector_that_levels_its_input(table):
    assert table[table.degradation == "gain"].shift_95.max() < 1e-3


def test_noise_follows_from_seed_level_and_place_alone(detector, some):
    first, again = (score_degraded(detector, some.path, [("noise", 10), ("noise", 20)], seed=3) for _ in range(2))
    alone = score_degraded(detector, some.path[:5], [("noise", 20)], seed=3)
    other = score_degraded(detector, some.path, [("noise", 10)], seed=4)
    assert np.array_equal(first, again)
    assert alone[0] == pytest.approx(first[1, :5], abs=1e-6)
    assert np.abs(other[0] - first[0]).max() > 1e-5


def test_a_longer_clip_is_judged_by_the_same_windows(detector, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", np.r_[tone(rng, 0.9), hiss(rng, 0.4)], 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / "long.wav")], "label": [0]})
    expected = score_clips(detector, manifest).score
    [scores] = score_degraded(detector, manifest.path, [("gain", -20)])
    assert scores == pytest.approx(expected.to_numpy(), abs=1e-3)


def test_every_level_draws_its_own_noise(detector, some, monkeypatch):
    draws = []

    def draw(waveform, level, sample_rate, generator):
        draws.append(generator.random())
        return waveform

    for name in ("first", "second"):
        monkeypatch.setitem(DEGRADATIONS, name, Degradation(draw, (1, 2), ""))
    score_degraded(detector, some.path[:3], list(product(["first", "second"], [1, 2])))
    assert len(set(draws)) == len(draws) == 2 * 2 * 3


def test_two_copies_of_a_clip_get_noise_of_their_own(detector, some):
    first, second = score_degraded(detector, pd.Series([some.path[0]] * 2), [("noise", 10)])[0]
    assert first != pytest.approx(second, abs=1e-6)


def test_intervals_are_drawn_by_speaker_and_system_where_they_are_named(detector, some):
    numbers = np.arange(len(some))
    mixed = some.assign(label=numbers % 2)  # so that there are errors
    named = mixed.assign(speaker=[f"v{i // 6}" for i in numbers], system=np.where(mixed.label == 1, "x", ""))
    table, by_clip = (robustness(detector, clips, ["noise"]) for clips in (named, mixed))
    conditions = [("noise", level) for level in DEGRADATIONS["noise"].levels]
    scores = [score_clips(detector, some).score, *score_degraded(detector, some.path, conditions)]
    for row, score in zip(table.itertuples(), scores, strict=True):
        assert (row.eer_low, row.eer_high) == eer_interval(named.assign(score=score))
    assert (table.eer_high - table.eer_low).sum() > (by_clip.eer_high - by_clip.eer_low).sum() + 0.1


def test_a_clip_that_a_degradation_leaves_silent_counts_as_undecided(detector, some, monkeypatch):
    def mute(waveform, level, sample_rate, generator):
        return waveform * (waveform.abs().max() < level)

    monkeypatch.setitem(DEGRADATIONS, "mute", Degradation(mute, (0.203,), ""))
    [scores] = score_degraded(detector, some.path, [("mute", 0.203)])
    table = robustness(detector, some, ["mute"])
    assert 0 < np.isnan(scores).sum() < len(some)
    assert table.silent.tolist() == [0, np.isnan(scores).sum()]
    expected = np.abs(np.where(np.isnan(scores), 0.5, scores) - score_clips(detector, some).score)
    assert table.shift_95.iloc[1] == pytest.approx(np.quantile(expected, 0.95))


def test_any_other_error_than_silence_is_raised(detector, some, monkeypatch):
    monkeypatch.setitem(DEGRADATIONS, "nan", Degradation(lambda wave, *_: wave * float("nan"), (1,), ""))
    with pytest.raises(AudioError, match="no finite score"):
        score_degraded(detector, some.path, [("nan", 1)])


def test_a_clip_that_is_silent_to_begin_with_is_named(detector, some, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    manifest = pd.concat([some, pd.DataFrame({"path": [str(tmp_path / "silent.wav")], "label": [0]})])
    with pytest.raises(AudioError, match=r"silent\.wav"):
        robustness(detector, manifest, ["gain"])


def test_an_unknown_degradation_is_refused_with_the_known_ones(detector, some):
    with pytest.raises(ValueError, match="telephone"):
        robustness(detector, some, ["fog"])
