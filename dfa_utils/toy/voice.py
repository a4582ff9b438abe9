"""Simulated voices: glottal pulses and noise through resonators, in random syllables. No recording is involved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import signal

SAMPLE_RATE = 16_000  # Hz
BLOCK = 80  # samples per control frame: 5 ms

F1 = (280, 400, 550, 690, 710, 590, 450, 310, 500)  # Hz, of nine vowels
F2 = (2250, 2000, 1770, 1660, 1100, 880, 1030, 870, 1500)
F3 = (2900, 2550, 2490, 2490, 2540, 2540, 2380, 2250, 2500)
CONSONANTS = (
    (0, 1.0, 5500, 0.10),
    (0, 0.8, 3000, 0.09),
    (0.5, 0.5, 5200, 0.07),
    (0.3, 0, 3000, 0.07),
    (0, 0.02, 3500, 0.05),
    (0.1, 0.3, 1800, 0.05),
)
# (voiced amplitude, noise amplitude, noise centre in Hz, seconds): s, sh, z, m, stop, h


@dataclass(frozen=True)
class Voice:
    """A simulated speaker."""

    name: str
    pitch: float  # mean f0, Hz
    tract: float  # formant frequencies relative to the table of vowels
    jitter: float  # relative deviation of single periods
    shimmer: float  # relative deviation of single pulses' amplitude
    breath: float  # noise relative to the glottal pulses
    open_quotient: float  # part of a period in which the glottis is open
    rate: float  # speaking rate relative to the tables
    melody: float  # deviation of the intonation contour, semitones


def make_voice(number: int, seed: int) -> Voice:
    """Voice `number` of the world `seed`; high voices tend to have short vocal tracts."""
    rng = np.random.default_rng([seed, 0, number])
    height = rng.uniform()
    return Voice(
        name=f"voice{number:02d}",
        pitch=90 * 2.4**height,
        tract=0.9 + 0.22 * height + rng.uniform(-0.05, 0.05),
        jitter=rng.uniform(0.006, 0.018),
        shimmer=rng.uniform(0.04, 0.12),
        breath=rng.uniform(0.02, 0.08),
        open_quotient=rng.uniform(0.5, 0.75),
        rate=rng.uniform(0.8, 1.25),
        melody=rng.uniform(1.5, 3.5),
    )


def speak(voice: Voice, rng: np.random.Generator, seconds: float) -> np.ndarray:
    """One random utterance of `voice` without room or noise: [T] float64, peak 0.9, T rounded down to 5 ms."""
    frames = int(seconds * SAMPLE_RATE / BLOCK)
    voiced, noise, centre, *formants = _smooth(_segments(voice, rng, frames), 9)
    voiced, noise = (
        voiced * signal.windows.tukey(frames, 0.1),
        noise * signal.windows.tukey(frames, 0.1),
    )  # no click at either end
    formants = np.stack([*formants, np.full(frames, 3500 * voice.tract), np.full(frames, 4500 * voice.tract)])
    source = _glottis(voice, rng, _intonation(voice, rng, frames)) * np.repeat(voiced, BLOCK)
    hiss = np.diff(rng.standard_normal(frames * BLOCK + 1)) * np.repeat(noise, BLOCK)
    vowels = _resonate(source, formants, np.array([70, 90, 130, 200, 260]))
    wave = vowels + 0.25 * _resonate(hiss, centre[None], np.array([1500]))
    return 0.9 * wave / np.abs(wave).max()


def _segments(voice: Voice, rng: np.random.Generator, frames: int) -> np.ndarray:
    """Targets [6, frames] of random syllables: voiced and noise amplitude, noise centre, F1, F2, F3 in Hz."""
    rows, lengths = [], []
    while sum(lengths) < frames:
        vowel = np.transpose([F1, F2, F3])[rng.integers(len(F1))] * voice.tract  # [3]
        voiced, noise, centre, seconds = CONSONANTS[rng.integers(len(CONSONANTS))]
        pause = rng.uniform(0.1, 0.25) if rows and rng.uniform() < 0.15 else 0.0
        rows += [(0, 0, centre, *vowel), (voiced, noise, centre, *vowel), (rng.uniform(0.6, 1), 0, centre, *vowel)]
        durations = np.array([pause, seconds, rng.uniform(0.09, 0.22)]) / voice.rate
        lengths += [round(d * SAMPLE_RATE / BLOCK) for d in durations]
    return np.repeat(np.array(rows, dtype=float), lengths, axis=0)[:frames].T


def _smooth(tracks: np.ndarray, frames: int) -> np.ndarray:
    """`tracks` [N, frames] averaged over a Hann window of `frames` frames; the edges are held."""
    kernel = signal.windows.hann(frames + 2)[1:-1]
    padded = np.pad(tracks, ((0, 0), (frames, frames)), mode="edge")
    return np.stack([np.convolve(row, kernel / kernel.sum(), mode="same") for row in padded])[:, frames:-frames]


def _intonation(voice: Voice, rng: np.random.Generator, frames: int) -> np.ndarray:
    """f0 [frames] in Hz: declination, slow accents and a fine tremor around the voice's pitch."""
    slow, fine = (_smooth(rng.standard_normal((1, frames)), n)[0] for n in (60, 6))
    semitones = np.linspace(1.5, -2.5, frames) + voice.melody * slow / slow.std() + 0.15 * fine
    return voice.pitch * 2 ** (semitones / 12)


def _glottis(voice: Voice, rng: np.random.Generator, f0: np.ndarray, over: int = 3) -> np.ndarray:
    """Derivative of the glottal flow plus breath, [T]; drawn at `over` times the rate, to keep aliases low."""
    pace = np.repeat(f0, BLOCK * over) / (SAMPLE_RATE * over)  # cycles per sample
    cycle = np.cumsum(pace).astype(int)
    phase = np.cumsum(pace * (1 + voice.jitter * rng.standard_normal(cycle[-1] + 1)[cycle]))
    swing = 1 + voice.shimmer * rng.standard_normal(int(phase[-1]) + 1)[phase.astype(int)]
    turn, close, phase = 0.65 * voice.open_quotient, voice.open_quotient, phase % 1
    rise = np.sin(np.pi * phase / turn) / turn
    fall = -np.sin(np.pi / 2 * (phase - turn) / (close - turn)) / (close - turn)
    pulses = swing * np.where(phase < turn, rise, np.where(phase < close, fall, 0))
    noise = voice.breath * rng.standard_normal(len(phase)) * (1 + (phase < close))
    return signal.resample_poly(pulses + over * noise, 1, over)  # [T]


def _resonate(wave: np.ndarray, centres: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """`wave` [T] through a cascade of resonators of unit gain at 0 Hz: centres [N, frames] and bandwidths [N] in Hz."""
    radius = np.exp(-np.pi * widths / SAMPLE_RATE)[:, None]
    a1, a2 = -2 * radius * np.cos(2 * np.pi * centres / SAMPLE_RATE), radius**2 + 0 * centres
    zero = np.zeros_like(a1)
    sections = np.stack([1 + a1 + a2, zero, zero, zero + 1, a1, a2], axis=-1)  # [N, frames, 6]
    state, out = np.zeros((len(centres), 2)), []
    for sos, block in zip(sections.swapaxes(0, 1).copy(), wave.reshape(-1, BLOCK), strict=True):
        filtered, state = signal.sosfilt(sos, block, zi=state)
        out.append(filtered)
    return np.concatenate(out)
