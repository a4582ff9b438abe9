"""Sounds without speech: noises, tones, machines and simple music, made by formula.

`python -m research.speech_check` trains the speech check on them.
"""

from collections.abc import Callable

import numpy as np
from scipy import signal

SAMPLE_RATE = 16_000
SAMPLES = 2 * SAMPLE_RATE  # of each sound
TIMES = np.arange(SAMPLES) / SAMPLE_RATE  # s
SEMITONE = 2 ** (1 / 12)
LEVELS = (-30, -1)  # dB; range of a sound's peak


def make(kind: str, rng: np.random.Generator, varied: bool = False) -> np.ndarray:
    """One sound of a kind in SOUNDS: [SAMPLES] float32 below full scale.

    With `varied` another sound, a low-pass, a room and noise may be added, each with a certain probability.
    """
    sound = _to_peak(SOUNDS[kind](rng))
    if varied:
        sound = _vary(sound, rng)
    return (_to_peak(sound) * 10 ** (rng.uniform(*LEVELS) / 20)).astype(np.float32)


def _vary(sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.3:
        other = list(SOUNDS.values())[rng.integers(len(SOUNDS))]
        sound = sound + rng.uniform(0.05, 1) * _to_peak(other(rng))
    if rng.random() < 0.3:
        sound = signal.sosfilt(signal.butter(4, rng.uniform(800, 7_000), fs=SAMPLE_RATE, output="sos"), sound)
    if rng.random() < 0.3:
        echoes = rng.standard_normal(SAMPLE_RATE // 2) * np.exp(-TIMES[: SAMPLE_RATE // 2] * rng.uniform(5, 30))
        sound = signal.fftconvolve(sound, np.append(3.0, echoes))[:SAMPLES]
    if rng.random() < 0.5:
        noise = _noise(rng, rng.choice([0, 1, 2]))
        sound = sound + sound.std() / noise.std() * 10 ** (-rng.uniform(5, 50) / 20) * noise
    return sound


def _to_peak(sound: np.ndarray) -> np.ndarray:
    return sound / np.abs(sound).max()


def _between(rng: np.random.Generator, low: float, high: float) -> float:
    """A frequency in Hz, drawn evenly in pitch."""
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _noise(rng: np.random.Generator, slope: float) -> np.ndarray:
    """Noise whose power falls with f^slope above 20 Hz: 0 is white, 1 pink, 2 brown."""
    hz = np.maximum(np.fft.rfftfreq(SAMPLES, 1 / SAMPLE_RATE), 20)
    return np.fft.irfft(np.fft.rfft(rng.standard_normal(SAMPLES)) * hz ** (-slope / 2), SAMPLES)


def _sine(hz: float | np.ndarray, times: np.ndarray = TIMES) -> np.ndarray:
    """A tone whose frequency may change from sample to sample."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hz, times.shape)) / SAMPLE_RATE)


def _place(sound: np.ndarray, start: int, part: np.ndarray) -> None:
    """Add `part` to `sound` from sample `start` on, as far as it fits."""
    sound[start : start + len(part)] += part[: max(0, SAMPLES - start)]


def _note(rng: np.random.Generator, hz: float, samples: int) -> np.ndarray:
    """A struck string: up to nine harmonics that die away."""
    times, roll_off = TIMES[:samples], rng.uniform(0.6, 2)
    harmonics = sum(
        rng.uniform(0.2, 1) / k**roll_off * np.sin(2 * np.pi * hz * k * times) for k in range(1, 10) if hz * k < 7_800
    )
    return harmonics * np.exp(-times * rng.uniform(1, 8)) * np.minimum(1, times / 0.005)


def _hum(rng: np.random.Generator) -> np.ndarray:
    mains = rng.choice([50, 60])
    tones = [
        rng.uniform(0.1, 1) / k * np.sin(2 * np.pi * mains * k * TIMES + rng.uniform(0, 2 * np.pi))
        for k in range(1, 20)
    ]
    return sum(tones) + 0.003 * _noise(rng, 1)


def _chirp(rng: np.random.Generator) -> np.ndarray:
    way = rng.choice(["linear", "logarithmic"])
    return signal.chirp(TIMES, rng.uniform(50, 500), TIMES[-1], rng.uniform(1_000, 7_500), method=way)


def _siren(rng: np.random.Generator) -> np.ndarray:
    swing = rng.uniform(100, 400) * np.sin(2 * np.pi * rng.uniform(0.3, 6) * TIMES)
    return _sine(rng.uniform(500, 900) + swing)


def _dialling(rng: np.random.Generator) -> np.ndarray:
    sound, start = np.zeros(SAMPLES), 0
    while start < SAMPLES:
        times = TIMES[: rng.integers(1_200, 3_000)]
        pair = rng.choice([697, 770, 852, 941]), rng.choice([1_209, 1_336, 1_477])
        _place(sound, start, sum(np.sin(2 * np.pi * hz * times) for hz in pair))
        start += len(times) + rng.integers(600, 3_000)
    return sound


def _beeps(rng: np.random.Generator) -> np.ndarray:
    gate = signal.square(2 * np.pi * rng.uniform(0.5, 8) * TIMES, rng.uniform(0.2, 0.8)) > 0
    return _sine(rng.uniform(300, 3_000)) * gate


def _clicks(rng: np.random.Generator) -> np.ndarray:
    sound = np.zeros(SAMPLES)
    places = rng.integers(0, SAMPLES, rng.integers(5, 200))
    sound[places] = rng.uniform(-1, 1, len(places))
    return signal.lfilter([1], [1, -rng.uniform(0, 0.9)], sound)


def _melody(rng: np.random.Generator) -> np.ndarray:
    sound, start = np.zeros(SAMPLES), 0
    while start < SAMPLES:
        samples = int(SAMPLE_RATE * rng.choice([0.125, 0.25, 0.5]))
        _place(sound, start, _note(rng, 110 * SEMITONE ** rng.integers(0, 36), samples))
        start += samples
    return sound


def _chords(rng: np.random.Generator) -> np.ndarray:
    sound, samples = np.zeros(SAMPLES), int(SAMPLE_RATE * rng.choice([0.25, 0.5, 1.0]))
    for start in range(0, SAMPLES, samples):
        root, third = rng.integers(0, 18), rng.choice([3, 4])
        for step in (0, third, 7, 12):
            _place(sound, start, _note(rng, 110 * SEMITONE ** (root + step), samples))
    return sound


def _drums(rng: np.random.Generator) -> np.ndarray:
    sound, times = np.zeros(SAMPLES), TIMES[:4_000]
    for beat, start in enumerate(range(0, SAMPLES, int(SAMPLE_RATE * 30 / rng.uniform(80, 180)))):
        if beat % 2 == 0:
            _place(sound, start, _sine(120 * np.exp(-30 * times) + 45, times) * np.exp(-15 * times))
        if beat % 4 == 2:
            _place(sound, start, 0.6 * rng.standard_normal(4_000) * np.exp(-20 * times))
        _place(sound, start, 0.2 * np.diff(rng.standard_normal(4_001)) * np.exp(-60 * times))
    return sound


def _band(rng: np.random.Generator) -> np.ndarray:
    return _melody(rng) + 0.5 * _chords(rng) + 0.7 * _drums(rng)


def _gusts(rng: np.random.Generator) -> np.ndarray:
    return _noise(rng, 2) * (1 + 0.9 * np.sin(2 * np.pi * rng.uniform(0.2, 3) * TIMES + rng.uniform(0, 2 * np.pi)))


def _bursts(rng: np.random.Generator) -> np.ndarray:
    swell = np.maximum(0, np.sin(2 * np.pi * rng.uniform(1.5, 8) * TIMES))
    return _noise(rng, 0) * swell ** rng.uniform(0.5, 3)


def _engine(rng: np.random.Generator) -> np.ndarray:
    turns = np.cumsum(rng.uniform(20, 80) * (1 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.1, 1) * TIMES))) / SAMPLE_RATE
    strokes = np.diff(np.floor(turns), prepend=0)
    return signal.lfilter([1], [1, -0.95], strokes) + 0.05 * _noise(rng, 1)


def _rain(rng: np.random.Generator) -> np.ndarray:
    sound, times = 0.1 * _noise(rng, 0), TIMES[:400]
    for start in rng.integers(0, SAMPLES, 150):
        _place(sound, start, rng.uniform(0, 1) * _sine(rng.uniform(1_000, 5_000), times) * np.exp(-300 * times))
    return sound


def _birds(rng: np.random.Generator) -> np.ndarray:
    sound, start = 0.003 * _noise(rng, 1), rng.integers(0, 2_000)
    while start < SAMPLES:
        times = TIMES[: rng.integers(800, 3_500)]
        glide = np.linspace(0, rng.uniform(-1_500, 1_500), len(times))
        trill = 200 * np.sin(2 * np.pi * rng.uniform(10, 40) * times)
        _place(sound, start, _sine(rng.uniform(2_000, 5_000) + glide + trill, times) * np.hanning(len(times)))
        start += len(times) + rng.integers(400, 4_000)
    return sound


SOUNDS: dict[str, Callable[[np.random.Generator], np.ndarray]] = {
    "white noise": lambda rng: _noise(rng, 0),
    "pink noise": lambda rng: _noise(rng, 1),
    "brown noise": lambda rng: _noise(rng, 2),
    "wind": _gusts,
    "noise bursts": _bursts,
    "rain": _rain,
    "clicks": _clicks,
    "engine": _engine,
    "mains hum": _hum,
    "sine": lambda rng: _sine(_between(rng, 60, 7_000)),
    "square wave": lambda rng: signal.square(2 * np.pi * _between(rng, 60, 1_500) * TIMES),
    "sawtooth": lambda rng: signal.sawtooth(2 * np.pi * _between(rng, 60, 500) * TIMES),
    "sweep": _chirp,
    "siren": _siren,
    "beeps": _beeps,
    "dialling tones": _dialling,
    "birds": _birds,
    "melody": _melody,
    "chords": _chords,
    "drums": _drums,
    "band": _band,
}
