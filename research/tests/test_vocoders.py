import numpy as np
import pytest
import torch
from conftest import RATE

from dfa_utils.toy.voice import make_voice, speak
from research import vocoders as module
from research.vocoders import VOCODERS, vocode


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(scope="module")
def speech():
    """A simulated utterance [RATE] with a floor of noise, as recordings have."""
    wave = speak(make_voice(3, 0), generator(), 1.0) + 1e-3 * generator().standard_normal(RATE)
    return torch.from_numpy(wave.astype(np.float32))


def envelope(wave):
    """RMS of every 10 ms [T / 160]."""
    return wave.reshape(-1, 160).square().mean(dim=1).sqrt().numpy()


def bands(wave):
    """Power of 20 bands of equal width, in dB."""
    power = np.abs(np.fft.rfft(wave.numpy())[1:]) ** 2
    return 10 * np.log10(power.reshape(20, -1).sum(axis=1) + 1e-12)


def magnitude(wave):
    return torch.stft(wave, 512, 128, window=torch.hann_window(512), return_complex=True).abs()


def test_a_copy_is_as_long_finite_and_not_the_original(speech):
    for name in VOCODERS:
        copy = vocode(speech, name, RATE, generator())
        assert copy.shape == speech.shape, name
        assert copy.dtype == torch.float32, name
        assert copy.isfinite().all(), name
        assert (copy - speech).norm() > 0.03 * speech.norm(), name


def test_a_copy_follows_from_its_generator_alone(speech):
    for name in VOCODERS:
        np.random.seed(1)  # noqa: NPY002
        torch.manual_seed(1)
        state = torch.get_rng_state()
        first = vocode(speech, name, RATE, generator(1))
        assert np.random.random() == np.random.RandomState(1).random(), name  # noqa: NPY002
        assert torch.equal(torch.get_rng_state(), state), name
        assert torch.equal(vocode(speech, name, RATE, generator(1)), first), name
        part = speech[:1_600]
        assert len({vocode(part, name, RATE, generator(seed)).sum().item() for seed in range(30)}) == 30, name


def test_a_copy_is_in_step_with_the_original(speech):
    true = envelope(speech) - envelope(speech).mean()
    for name in VOCODERS:
        for seed in range(3):
            made = envelope(vocode(speech, name, RATE, generator(seed)))
            made = made - made.mean()
            assert np.correlate(made, true, "full").argmax() == len(true) - 1, (name, seed)
            assert np.corrcoef(made, true)[0, 1] > 0.8, (name, seed)


def test_a_copy_scales_with_the_waveform(speech):
    for name in VOCODERS:
        quiet = vocode(speech / 256, name, RATE, generator())
        assert torch.allclose(256 * quiet, vocode(speech, name, RATE, generator()), atol=1e-5), name


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("samples", [1, 160, 1_600])
def test_silence_and_short_clips_are_no_trouble(samples):
    noise = torch.from_numpy(generator().standard_normal(samples).astype(np.float32))
    for name in VOCODERS:
        for wave in (torch.zeros(samples), torch.full((samples,), 0.1), noise):
            copy = vocode(wave, name, RATE, generator())
            assert copy.shape == wave.shape, name
            assert copy.isfinite().all(), name
        assert not vocode(torch.zeros(samples), name, RATE, generator()).abs().max() > 1e-9, name


@pytest.mark.parametrize("name", VOCODERS)
def test_a_copy_has_the_spectrum_of_the_original_at_every_rate(name):
    for rate in (8_000, RATE, 44_100):
        noise = torch.from_numpy(generator().standard_normal(rate // 40 * 20 + 1).astype(np.float32))
        wave = noise[1:] + 0.9 * noise[:-1]  # falls by 25 dB towards the top
        for seed in range(3):
            difference = bands(vocode(wave, name, rate, generator(seed))) - bands(wave)
            assert np.abs(difference[:-1]).max() < 3, (rate, seed)  # up to 95 % of the band


def test_griffin_lim_finds_the_magnitudes_again(speech):
    for seed in range(3):
        made, true = magnitude(vocode(speech, "griffin_lim", RATE, generator(seed))), magnitude(speech)
        assert (made - true).norm() < 0.3 * true.norm()


@pytest.mark.parametrize("hertz", [110, 220])
def test_a_buzz_keeps_its_pitch_through_source_and_filter(hertz):
    time = torch.arange(RATE) / RATE
    wave = 0.1 * sum(torch.cos(2 * np.pi * hertz * k * time + k) / k for k in range(1, 7_000 // hertz))
    for seed in range(3):
        copy = vocode(wave, "source_filter", RATE, generator(seed)).numpy()
        spectrum = np.abs(np.fft.rfft(copy * np.hanning(RATE)))  # 1 Hz a bin
        found = 20 + spectrum[20 : int(1.4 * hertz)].argmax()
        assert abs(found / hertz - 1) < 0.01
        assert spectrum[int(0.45 * hertz) : int(0.55 * hertz)].max() < 0.3 * spectrum[found]  # no octave lower


def test_the_excitation_has_unit_power_all_of_it_in_harmonics(monkeypatch):
    monkeypatch.setattr(module, "_pitch", lambda wave, rate: (np.full(rate, 130.0), np.ones(rate, dtype=bool)))
    counts = set()
    for seed in range(12):
        power = np.abs(np.fft.rfft(module._excitation(np.zeros(RATE), RATE, generator(seed)))) ** 2 * 2 / RATE**2
        assert 0.95 < power[130::130].sum() < 1.05
        assert power.sum() - power[130::130].sum() < 0.2**2 * 1.1  # noise; harmonics that fold back would come on top
        counts.add(int((power[130::130] > 0.5 / 60).sum()))
    assert counts == {8, 30, 60}  # 60 * 130 Hz = 97.5 % of 8 kHz


def test_sizes_last_as_long_at_every_rate():
    for rate in (8_000, RATE, 22_050, 44_100):
        assert module._scaled(512, rate) / rate == pytest.approx(0.032, rel=0.005)


def test_what_has_no_pitch_gets_no_harmonics():
    """Gaussian noise is left: its kurtosis is 3, that of pulses many times as much."""
    wave = torch.from_numpy(generator().standard_normal(RATE).astype(np.float32))
    for seed in range(3):
        copy = vocode(wave, "source_filter", RATE, generator(seed))
        assert (copy.pow(4).mean() / copy.square().mean() ** 2).item() == pytest.approx(3, abs=0.3)


def test_images_mirror_the_lower_half():
    """A tone at 1 kHz in wide noise appears again at 7 kHz where a filter leaves images of the lower half."""
    time = torch.arange(RATE) / RATE
    noise = torch.from_numpy(generator().standard_normal(RATE).astype(np.float32))
    wave = torch.sin(2 * np.pi * 1_000 * time) + 0.01 * noise
    seen = []
    for seed in range(12):
        spectrum = np.abs(np.fft.rfft(vocode(wave, "image", RATE, generator(seed)).numpy()))
        seen.append(spectrum[6_990:7_010].max() / np.median(spectrum[6_500:7_500]))
    assert np.median(seen) > 10


def test_images_keep_no_tone_of_the_upper_half():
    noise = torch.from_numpy(generator().standard_normal(RATE).astype(np.float32))
    wave = torch.sin(2 * np.pi * 7_000 * torch.arange(RATE) / RATE) + 0.01 * noise
    for seed in range(6):
        spectrum = np.abs(np.fft.rfft(vocode(wave, "image", RATE, generator(seed)).numpy()))
        assert spectrum[6_990:7_010].max() < 10 * np.median(spectrum[6_900:7_100])


def test_what_an_image_keeps_of_the_band_is_the_original(speech):
    """At most 60 % of it: 4.8 kHz; some of it in nearly all copies."""
    kept = []
    for seed in range(12):
        error = magnitude(vocode(speech, "image", RATE, generator(seed)) - speech).mean(dim=1)  # [257], 31 Hz a bin
        kept.append(int((error > 1e-3 * error.max()).nonzero()[0]))
    assert 0.4 * 257 < max(kept) <= 0.6 * 257
    assert min(kept) < 0.2 * 257


def test_anything_but_a_waveform_is_refused():
    for shape in ((), (0,), (1, 800)):
        with pytest.raises(ValueError, match=r"waveform \[T\]"):
            vocode(torch.zeros(shape), "image", RATE, generator())


def test_an_unknown_name_is_told_the_known_ones(speech):
    with pytest.raises(ValueError, match=r"'hifigan'.*griffin_lim.*image"):
        vocode(speech, "hifigan", RATE, generator())
