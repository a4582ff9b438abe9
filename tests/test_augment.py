import math
from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binom
from test_degradations import lag, reverberation_time

from dfa_utils import augment
from dfa_utils.augment import AUGMENTATIONS, CODECS, Augmentation

RATE = 16_000
STAY = sorted(set(AUGMENTATIONS) - {"speed"})  # in step sample by sample
CONSTANTS = {"mu_law", "speed"}  # torchaudio makes single numbers there, which go with any device


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def apply(name, waveforms, rate=RATE, seed=0):
    return AUGMENTATIONS[name](waveforms, rate, generator(seed))


def hiss(n, samples=RATE // 2, rms=0.1):
    return rms * torch.randn(n, samples, generator=generator(99))


def sine(hz, rate=RATE, seconds=1.0):
    return 0.3 * torch.sin(2 * math.pi * hz * torch.arange(int(seconds * rate)) / rate)


def decibels(ratio):
    return 10 * torch.log10(ratio)


def power(waveforms):
    return waveforms.square().mean(dim=1)


def pitch(waveforms, rate=RATE):
    """Hz [n] of the strongest line, to 1 / (4 * seconds)."""
    waveforms = waveforms * torch.hann_window(waveforms.shape[1])
    return torch.fft.rfft(waveforms, 4 * waveforms.shape[1]).abs().argmax(dim=1) * rate / (4 * waveforms.shape[1])


@pytest.mark.parametrize(("rate", "samples"), [(8_000, 2_400), (RATE, 4_801), (44_100, 10_007)])
def test_anything_comes_back_finite_and_as_long(rate, samples):
    odd = torch.stack([torch.zeros(samples), torch.full((samples,), 0.5), torch.ones(samples), -torch.ones(samples)])
    square = torch.where(torch.arange(samples) % 40 < 20, 1.0, -1.0)[None]
    for name in AUGMENTATIONS:
        after = apply(name, torch.cat([odd, square, hiss(1, samples), 1e-7 * hiss(1, samples)]), rate)
        assert after.shape == (7, samples), name
        assert after.dtype == torch.float32, name
        assert after.isfinite().all(), name
        assert after[0].abs().max() < 2 / 32_768, name  # silence, to the last bit of 16


def test_one_seed_one_result_and_what_is_given_stays():
    waves = hiss(4)
    before = waves.clone()
    for name in AUGMENTATIONS:
        augmentation = Augmentation([(name, 1.0)], RATE)
        first, again, other = (augmentation(waves, generator(seed)) for seed in (0, 0, 1))
        assert torch.equal(waves, before), name
        assert torch.equal(first, again), name
        assert not torch.allclose(first, other, atol=1e-4), name
        assert not torch.allclose(first, waves, atol=1e-4), name


def test_nothing_is_drawn_elsewhere():
    torch.manual_seed(0)
    state = torch.get_rng_state()
    np.random.seed(0)  # noqa: NPY002
    for name in AUGMENTATIONS:
        apply(name, hiss(2, 4_800))
        assert torch.equal(torch.get_rng_state(), state), name
    assert np.random.random() == np.random.RandomState(0).random()  # noqa: NPY002


def test_all_is_made_on_the_device_of_the_waveforms():
    for name in set(AUGMENTATIONS) - CONSTANTS:
        waves, draw = hiss(2, 4_800), generator()
        with torch.device("meta"):  # what forgets to name a device lands there, and does not go together with the rest
            after = AUGMENTATIONS[name](waves, RATE, draw)
        assert torch.equal(after, apply(name, waves)), name


def test_each_clip_is_drawn_by_itself():
    for name in AUGMENTATIONS:
        after = apply(name, hiss(1).repeat(12, 1))
        assert len(after.unique(dim=0)) >= (5 if name in STAY else 2), name


def test_samples_stay_in_step():
    waves = hiss(6)
    for name in STAY:
        assert [lag(*pair) for pair in zip(waves, apply(name, waves), strict=True)] == [0] * 6, name


def test_nothing_changes_without_a_policy_and_all_at_a_probability_of_one():
    waves = hiss(20)
    for policy in ((), [("noise", 0.0)]):
        assert torch.equal(Augmentation(policy, RATE)(waves, generator()), waves)
    assert (Augmentation([("noise", 1.0)], RATE)(waves, generator()) != waves).any(dim=1).all()


def test_only_the_drawn_rows_are_computed_and_in_the_order_of_the_policy(monkeypatch):
    seen = []

    def spy(name):
        return lambda waves, rate, draw: seen.append((name, len(waves), rate)) or waves + 1

    for name in ("first", "second", "never"):
        monkeypatch.setitem(AUGMENTATIONS, name, spy(name))
    waves = torch.zeros(400, 8)
    after = Augmentation([("first", 0.3), ("never", 0.0), ("second", 0.5)], 8_000)(waves, generator())
    (one, few, rate), (two, others, _) = seen
    assert (one, two, rate) == ("first", "second", 8_000)
    assert after.sum() == 8 * (few + others)
    for count, share in ((few, 0.3), (others, 0.5), ((after[:, 0] == 2).sum(), 0.15)):  # drawn independently
        low, high = binom.interval(1 - 1e-6, 400, share)
        assert low <= count <= high


REFUSED = [
    ([("fog", 0.5)], RATE, "rawboost"),
    ([("noise", 1.5)], RATE, r"\[0, 1\]"),
    ([("noise", -0.1)], RATE, "noise"),
    ([("noise", math.nan)], RATE, "nan"),
    ([("noise", 0.5)], 4_000, "8000"),
]


def test_a_policy_that_cannot_work_is_refused():
    for policy, rate, said in REFUSED:
        with pytest.raises(ValueError, match=said):
            Augmentation(policy, rate)


def test_only_batches_of_waveforms_are_taken():
    for shape in ((100,), (2, 0), (2, 1, 100)):
        with pytest.raises(ValueError, match="waveforms"):
            Augmentation([("noise", 1.0)], RATE)(torch.zeros(shape), generator())


def test_noise_lies_8_to_40_db_below_and_dc_does_not_count():
    waves = hiss(200, 4_000)
    added = apply("noise", waves + 0.3) - waves - 0.3
    snr = decibels(waves.var(dim=1) / power(added))
    assert 7.9 < snr.min() < 12
    assert 36 < snr.max() < 40.1


def test_noise_has_many_colours():
    added = apply("noise", hiss(200, 4_000)) - hiss(200, 4_000)
    spectrum = torch.fft.rfft(added).abs().square()  # 4 Hz a bin
    slope = decibels(spectrum[:, 250:500].mean(dim=1) / spectrum[:, 500:1_000].mean(dim=1))  # dB an octave, downwards
    assert -4 < slope.min() < -2
    assert 7 < slope.max() < 11  # f^-1.5: 9 dB


def responses(name, n=100, rate=RATE):
    """Gains [n, 8001] in dB, 1 Hz apart at 16 kHz, by clicks in the middle of 1 s."""
    clicks = torch.zeros(n, rate)
    clicks[:, rate // 2] = 1
    return 2 * decibels(torch.fft.rfft(apply(name, clicks, rate)).abs() + 1e-12)


def test_band_removes_what_lies_beyond_its_edges():
    gains = responses("band", rate=44_100)
    for gain in gains:
        low, high = (lambda passed: (int(passed[0]), int(passed[-1])))((gain > -3.01).nonzero())
        assert 20 <= low + 1 <= 352
        assert 2_999 <= high <= 8_001
        assert gain[2 * high :].max() < -23.9  # order 4: 24 dB an octave
        assert gain[: low // 2].amax() < -17 if low > 60 else True
    assert (gains[:, 20_000] < -60).float().mean() > 0.5


def test_an_equaliser_is_smooth_about_5_db_uneven_and_without_phase():
    gains = responses("equalise")
    assert 3 < gains[:, 50:7_900].std() < 6
    assert (gains[:, 1_001:7_900] - gains[:, 1_000:7_899]).abs().max() < 0.1  # dB a Hz


def test_a_room_leaves_the_direct_sound_and_adds_a_tail_as_loud_as_stated():
    clicks = torch.zeros(100, RATE)
    clicks[:, 0] = 1
    after = apply("room", clicks)
    assert (after[:, 0] - 1).abs().max() < 1e-4
    assert after[:, 1:32].abs().max() < 1e-4
    tail = decibels(after[:, 1:].square().sum(dim=1))
    assert -12.1 < tail.min() < -10
    assert 1 < tail.max() < 3.1
    times = [reverberation_time(tail, RATE, lowest=-25) for tail in after[:, 1:]]
    assert 0.06 < min(times) < 0.12
    assert 0.5 < max(times) < 0.7


def test_rerecording_distorts():
    lines = torch.fft.rfft(apply("rerecord", sine(1_000).repeat(40, 1))).abs().square()  # 1 Hz a bin
    third = decibels(lines[:, 2_998:3_003].sum(dim=1) / lines[:, 998:1_003].sum(dim=1))
    floor = decibels(lines[:, 2_598:2_603].sum(dim=1) / lines[:, 998:1_003].sum(dim=1))
    assert (third - floor).median() > 10
    assert third.max() < -9.5  # a square wave has 9.5 dB


def test_rerecording_has_a_room_and_noise():
    bursts = hiss(60, RATE)
    bursts[:, RATE // 4 :] = 0
    after = apply("rerecord", bursts)
    tail, floor = (power(after[:, start : start + 1_600]) for start in (RATE // 4, RATE - 1_600))
    snr = decibels(power(after) / floor)
    assert 12 < snr.min() < 20
    assert 35 < snr.max() < 43
    assert decibels(tail / floor).median() > 5


def test_clipping_cuts_1_to_14_db_off_the_peak_and_leaves_the_rest():
    waves = hiss(100, 4_000)
    after = apply("clip", waves)
    level = after.abs().amax(dim=1)
    cut = 2 * decibels(level / waves.abs().amax(dim=1))
    assert -14.01 < cut.min() < -12
    assert -2 < cut.max() < -0.99
    below = waves.abs() < level[:, None]
    assert torch.equal(after[below], waves[below])


def test_mu_law_leaves_at_most_256_values():
    after = apply("mu_law", hiss(20, 32_000))
    assert all(10 < len(row.unique()) <= 256 for row in after)
    assert decibels(power(hiss(20, 32_000)) / power(after - hiss(20, 32_000))).min() > 25


def test_a_tone_moves_by_the_factor():
    factors = [old / new for old, new in augment.SPEEDS]
    hz = pitch(apply("speed", sine(1_000).repeat(20, 1)))
    nearest = torch.tensor([min((1_000 * factor for factor in factors), key=lambda x: abs(x - found)) for found in hz])
    assert (hz - nearest).abs().max() < 4
    assert len(nearest.unique()) == len(factors)


def test_rawboost_adds_the_harmonics_of_its_powers():
    lines = torch.fft.rfft(apply("rawboost", sine(400).repeat(40, 1))).abs().square()  # 1 Hz a bin
    at = [decibels(lines[:, k * 400] / lines[:, 400]) for k in (2, 3, 4, 5)]
    between = decibels(lines[:, 600] / lines[:, 400])
    assert all((harmonic - between).median() > 10 for harmonic in at)
    assert lines[:, 0].max() < 1e-2 * lines[:, 400].median()


def test_rawboost_cuts_notches():
    clicks = torch.eye(RATE)[[RATE // 2] * 40]
    spectrum = torch.fft.rfft(apply("rawboost", clicks)).abs().square()[:, :8_000].view(40, 160, 50).mean(dim=2)
    assert (decibels(spectrum.amax(dim=1) / spectrum.amin(dim=1)) > 5).all()


def test_rawboost_adds_impulses_and_stationary_noise_to_half_of_the_clips_each():
    waves = sine(50).repeat(100, 1)
    waves[:, RATE // 2 :] = 0
    after = apply("rawboost", waves)
    low, high = binom.interval(1 - 1e-6, 100, 0.5)
    pause = after[:, 11_000:13_000]  # impulses hit a tenth of it at most, which a median passes over
    spread = (pause - pause.median(dim=1, keepdim=True).values).abs().median(dim=1).values
    assert low < (spread > 1e-3 * after.std(dim=1)).sum() < high
    rough = after[:, 1_000:7_000].diff(n=3)
    kurtosis = rough.pow(4).mean(dim=1) / rough.square().mean(dim=1).square()  # 3 for noise, 1.5 for a sine
    assert low < (kurtosis > 8).sum() < high


@pytest.mark.parametrize("name", CODECS)
def test_every_codec_is_in_step_and_does_its_work(name):
    for rate, quality in product((8_000, RATE, 22_050), (0.0, 1.0)):
        wave = 0.7 * torch.tanh(sine(150, rate, 0.5) * 3) + hiss(1, rate // 2, 0.05)[0]
        after = augment._through(wave, name, quality, rate)
        assert abs(lag(wave, after)) <= (2 if rate > RATE else 1), (rate, quality)
        assert not torch.allclose(after, wave, atol=1e-4), (rate, quality)
        assert torch.corrcoef(torch.stack([wave, after]))[0, 1] > 0.9, (rate, quality)


def test_a_lower_quality_hurts_more():
    wave = 0.7 * torch.tanh(sine(150) * 3) + hiss(1, RATE, 0.05)[0]
    for name in (name for name, (_, levels, _) in CODECS.items() if levels):
        best, worst = ((augment._through(wave, name, quality, RATE) - wave).norm() for quality in (0.0, 1.0))
        assert worst > 1.2 * best, name


def test_the_codecs_keep_the_level_and_are_all_drawn(monkeypatch):
    drawn = []
    monkeypatch.setattr(
        augment, "_through", lambda wave, name, quality, sample_rate: drawn.append((name, quality)) or wave
    )
    waves = hiss(100, 400, rms=1e-3)
    torch.testing.assert_close(apply("codec", waves), waves)
    assert {name for name, _ in drawn} == set(CODECS)
    assert len({quality for _, quality in drawn}) == 100
