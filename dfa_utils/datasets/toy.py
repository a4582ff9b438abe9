"""The fixture: 88 two-second clips of simulated voices (real) and of the same voices through small vocoders (fake).

No recording is involved.  A clip is voice -> utterance -> (vocoder, fakes only) -> room, noise, limiter, level, DC.
The k-th real and the k-th fake clip of a split share voice and recording session but not the utterance, so that no
recording condition tells the classes apart.  `python -m dfa_utils.datasets.toy ROOT` writes wavs and `manifest.csv`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile
from scipy import signal
from scipy.linalg import solve_toeplitz

SAMPLE_RATE = 16_000  # Hz
SECONDS = 2.0  # length of a clip
SEED = 2023
REAL_SYSTEM = "simulated voice"
UNSEEN = "channel"  # the vocoder that only `testing` holds
COLUMNS = ["path", "split", "label", "system", "speaker"]
SPLITS = {
    "training": range(0, 10),
    "validation": range(10, 15),
    "testing": range(15, 22),
}  # voices, each with 2 real and 2 fake clips
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


def make_voice(number: int, seed: int = SEED) -> Voice:
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


# ---- the voice


def _smooth(tracks: np.ndarray, frames: int) -> np.ndarray:
    """`tracks` [N, frames] averaged over a Hann window of `frames` frames; the edges are held."""
    kernel = signal.windows.hann(frames + 2)[1:-1]
    padded = np.pad(tracks, ((0, 0), (frames, frames)), mode="edge")
    return np.stack([np.convolve(row, kernel / kernel.sum(), mode="same") for row in padded])[:, frames:-frames]


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


def speak(voice: Voice, rng: np.random.Generator, seconds: float = SECONDS) -> np.ndarray:
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


# ---- the vocoders: waveform [T] in, waveform [T] out


def _grid(window: int = 512, hop: int = 128) -> signal.ShortTimeFFT:
    """A short-time Fourier transform with a Hann window; lengths in samples."""
    return signal.ShortTimeFFT(signal.windows.hann(window, sym=False), hop, SAMPLE_RATE)


def _mel_bank(bands: int, bins: int) -> np.ndarray:
    """Triangular filters [bands, bins], equally spaced on the mel scale from 0 Hz to the Nyquist frequency."""
    top = np.log1p(SAMPLE_RATE / 2 / 700)
    edges = 700 * np.expm1(np.linspace(0, top, bands + 2))
    hertz = np.linspace(0, SAMPLE_RATE / 2, bins)
    return np.stack([np.interp(hertz, edges[k : k + 3], [0, 1, 0]) for k in range(bands)])


def griffin_lim(wave: np.ndarray, rng: np.random.Generator, bands: int = 48, rounds: int = 4) -> np.ndarray:
    """Mel spectrogram, back by pseudo-inverse and `rounds` of Griffin-Lim from random phase."""
    grid = _grid()
    magnitude = np.abs(grid.stft(wave))  # [bins, frames]
    bank = _mel_bank(bands, len(magnitude))
    magnitude = np.maximum(np.linalg.pinv(bank) @ (bank @ magnitude), 0)
    phase = rng.uniform(-np.pi, np.pi, magnitude.shape)
    for _ in range(rounds):
        phase = np.angle(grid.stft(grid.istft(magnitude * np.exp(1j * phase), k1=len(wave))))
    return grid.istft(magnitude * np.exp(1j * phase), k1=len(wave))


def phase_blind(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The magnitude spectrogram with random phase."""
    grid = _grid()
    magnitude = np.abs(grid.stft(wave))
    return grid.istft(magnitude * np.exp(1j * rng.uniform(-np.pi, np.pi, magnitude.shape)), k1=len(wave))


def minimum_phase(wave: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Every frame of the spectrogram made minimum-phase by its cepstrum: one pulse per frame, whatever the pitch."""
    grid = _grid()
    log = np.log(np.abs(grid.stft(wave)) + 1e-6)  # [bins, frames]
    cepstrum = np.fft.irfft(log, axis=0)
    fold = np.zeros((len(cepstrum), 1))
    fold[0] = fold[len(fold) // 2] = 1
    fold[1 : len(fold) // 2] = 2
    return grid.istft(np.exp(np.fft.rfft(cepstrum * fold, axis=0)), k1=len(wave))


def _pitch(frames: np.ndarray) -> np.ndarray:
    """f0 [N] in Hz of frames [N, L] by autocorrelation, 0 where unvoiced."""
    spectrum = np.abs(np.fft.rfft(frames * np.hanning(frames.shape[1]), 2 * frames.shape[1])) ** 2
    correlation = np.fft.irfft(spectrum)[:, : SAMPLE_RATE // 70] / (spectrum.mean(axis=1, keepdims=True) + 1e-9)
    low = SAMPLE_RATE // 320
    lag = low + correlation[:, low:].argmax(axis=1)
    voiced = correlation[np.arange(len(lag)), lag] > 0.35
    return signal.medfilt(np.where(voiced, SAMPLE_RATE / lag, 0), 5)


def _buzz(f0: np.ndarray, hop: int, rng: np.random.Generator) -> np.ndarray:
    """Excitation [N * hop] of unit power: an over-regular pulse train where f0 [N] > 0, else noise."""
    pace = np.repeat(f0, hop) / SAMPLE_RATE
    pulses = np.diff(np.floor(np.cumsum(pace)), prepend=0) / np.sqrt(np.maximum(pace, 1e-3))
    return np.where(pace > 0, pulses, rng.standard_normal(len(pace)))


def _frames(wave: np.ndarray, length: int, hop: int) -> np.ndarray:
    """Overlapping frames [ceil(T / hop), length], centred on the hops."""
    padded = np.pad(wave, ((length - hop) // 2, length))
    return np.lib.stride_tricks.sliding_window_view(padded, length)[: len(wave) : hop]


def lpc(wave: np.ndarray, rng: np.random.Generator, order: int = 12, hop: int = 160) -> np.ndarray:
    """Linear prediction with a pulse train or noise as the excitation."""
    frames = _frames(wave, 640, hop)
    excitation = _buzz(_pitch(frames), hop, rng).reshape(-1, hop)
    power = np.abs(np.fft.rfft(frames * np.hanning(640), 1280)) ** 2
    state, out = np.zeros(order), []
    for r, block in zip(np.fft.irfft(power)[:, : order + 1] / 240, excitation, strict=True):
        r = r + np.eye(order + 1)[0] * (1e-4 * r[0] + 1e-9)
        a = solve_toeplitz(r[:-1], r[1:])
        filtered, state = signal.lfilter([np.sqrt(r[0] - a @ r[1:])], [1, *-a], block, zi=state)
        out.append(filtered)
    return np.concatenate(out)[: len(wave)]


def channel(wave: np.ndarray, rng: np.random.Generator, bands: int = 32) -> np.ndarray:
    """Channel vocoder: the energies of a few mel bands shape a carrier of pulses and noise."""
    grid, hop = _grid(), 160
    carrier = _buzz(_pitch(_frames(wave, 640, hop)), hop, rng)[: len(wave)]
    shape, colour = (np.abs(grid.stft(x)) for x in (wave, carrier))  # [bins, frames]
    bank = _mel_bank(bands, len(shape))
    gain = np.sqrt((bank @ shape**2) / (bank @ colour**2 + 1e-9))  # [bands, frames]
    return grid.istft(grid.stft(carrier) * (bank.T @ gain), k1=len(wave))


VOCODERS = {
    "griffin-lim": griffin_lim,
    "lpc": lpc,
    "phase-blind": phase_blind,
    "minimum-phase": minimum_phase,
    "channel": channel,
}


# ---- the recording, the plan and the files


def _room(wave: np.ndarray, rng: np.random.Generator, taps: int = 3200) -> np.ndarray:
    """`wave` [T] plus the echoes of a small room: 0.08 to 0.25 s long, 10 to 20 dB below the direct sound."""
    decay = np.exp(-6.9 * np.arange(taps) / (SAMPLE_RATE * rng.uniform(0.08, 0.25)))
    tail = decay * rng.standard_normal(taps)
    return wave + signal.fftconvolve(wave, tail * rng.uniform(0.1, 0.3) / np.linalg.norm(tail))[: len(wave)]


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Background noise [samples] of random colour, 28 to 45 dB below unit power."""
    noise = signal.lfilter([1], [1, -rng.uniform(0, 0.9)], rng.standard_normal(samples))
    return 10 ** (-rng.uniform(34, 50) / 20) * noise / noise.std()


def record(speech: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`speech` [T] between pauses, with room, noise, limiter, level, DC: [SECONDS * SAMPLE_RATE] float32, -1 to 1."""
    samples = int(SECONDS * SAMPLE_RATE)
    lead = int(rng.uniform(0.2, 0.8) * (samples - len(speech)))
    wave = _room(np.pad(speech, (lead, samples - len(speech) - lead)), rng)
    wave = signal.sosfilt(signal.butter(2, 50, "high", fs=SAMPLE_RATE, output="sos"), wave)
    wave = wave / wave.std() + _noise(samples, rng)
    limit = rng.uniform(1.8, 4)  # the limiter takes most of the difference in crest factor
    wave = np.tanh(wave / limit)
    loudness = np.sqrt(wave.std() * np.abs(wave).max())  # between RMS and peak: the rest of it shifts neither much
    wave = wave * 10 ** (rng.uniform(-28, -10) / 20) / loudness
    return np.clip(wave - wave.mean() + rng.normal(0, 0.002), -1, 1).astype(np.float32)


def _systems(split: str, count: int) -> list[str]:
    """The vocoder of each fake clip: the known ones in turn; in `testing`, every second clip gets the unseen one."""
    known = [name for name in VOCODERS if name != UNSEEN]
    if split != "testing":
        return [known[k % len(known)] for k in range(count)]
    return [UNSEEN if k % 2 else known[k // 2 % len(known)] for k in range(count)]


def _split_rows(split: str, voices: range) -> list[tuple]:
    """(split, label, system, voice, session) of all clips of a split, reals first; both classes share sessions."""
    numbers = [voice for voice in voices for _ in range(2)]
    sessions = range(2 * voices.start, 2 * voices.stop)
    systems = {"real": [REAL_SYSTEM] * len(numbers), "fake": _systems(split, len(numbers))}
    return [(split, label, *row) for label in systems for row in zip(systems[label], numbers, sessions, strict=True)]


def plan(seed: int = SEED) -> pd.DataFrame:
    """One row per clip: the manifest's columns and `voice`, `session`, `index`, `seed`, which fix the waveform."""
    rows = [row for split, voices in SPLITS.items() for row in _split_rows(split, voices)]
    table = pd.DataFrame(rows, columns=["split", "label", "system", "voice", "session"])
    table = table.assign(index=range(len(rows)), seed=seed, speaker=table["voice"].map("voice{:02d}".format))
    numbers = np.random.default_rng([seed, 3]).permutation(len(rows))  # in order they would tell the class
    table["path"] = [
        f"{r.split}/{r.label}/{r.speaker}-{k:03d}.wav" for k, r in zip(numbers, table.itertuples(), strict=True)
    ]
    return table[[*COLUMNS, "voice", "session", "index", "seed"]]


def render(row: Mapping) -> np.ndarray:
    """The clip of one row of `plan`: [SECONDS * SAMPLE_RATE] float32; needs no other clip."""
    voice = make_voice(row["voice"], row["seed"])
    rng = np.random.default_rng([row["seed"], 1, row["index"]])
    session = np.random.default_rng([row["seed"], 2, row["session"]])
    speech = speak(voice, rng, session.uniform(1.5, 1.85))
    if row["system"] != REAL_SYSTEM:
        speech = VOCODERS[row["system"]](speech, rng)
    return record(speech, session)


def write(root: str | Path, seed: int = SEED) -> Path:
    """Write all clips (PCM16) and `manifest.csv` under `root`, each file atomically; returns `root`."""
    root, table = Path(root), plan(seed)
    for _, row in table.iterrows():
        path = root / row["path"]
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = np.round(render(row) * 32767).astype(np.int16)
        soundfile.write(path.with_suffix(".tmp"), samples, SAMPLE_RATE, format="WAV")
        os.replace(path.with_suffix(".tmp"), path)
    table[COLUMNS].to_csv(root / "manifest.tmp", index=False)
    os.replace(root / "manifest.tmp", root / "manifest.csv")
    return root


if __name__ == "__main__":
    write(sys.argv[1])
