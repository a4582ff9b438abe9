"""What a clip gives away before anyone listens to the voice: one number a cue.

*Nuisance* cues come from the recording and the file, so a difference between the classes is a fault of the data set.
*Spectral* cues may also be the trace that a vocoder leaves, which is what a detector is meant to hear.
"""

import hashlib
from itertools import pairwise
from pathlib import Path

import numpy as np
import soundfile

from dfa_utils.audio import SILENCE, AudioError
from dfa_utils.config import Config
from dfa_utils.datasets.cache import open_clip

RATE = Config().sample_rate  # Hz
NUISANCE = {
    "rms_db": "RMS level (dBFS)",
    "peak_db": "peak level (dBFS)",
    "dc": "DC offset (full scale = 1)",
    "seconds": "duration (s)",
    "lead": "leading silence (s)",
    "trail": "trailing silence (s)",
    "edge": "band edge (Hz)",
    "floor_db": "noise floor (dB below RMS)",
}  # column: name with unit
SPECTRAL = {
    "tilt": "spectral tilt (dB an octave)",
    "mfcc0": "MFCC 0",
    **{f"contrast{band}": f"spectral contrast, band {band} (dB)" for band in range(7)},
}
MEL_BANDS, TIMES = 16, 16  # of a clip's fingerprint
LONGEST = 30.0  # s; no more of a clip is looked at


def measure_clip(path) -> dict:
    """File facts (sample_rate, channels, codec, hash), cues and fingerprint of one clip; `problem` says why not, or "".

    The samples are judged at 16 kHz, as the detector hears them. `clipped` is the share of samples at full scale,
    `fingerprint` [MEL_BANDS * TIMES] a coarse spectrogram of length 1, alike for clips that sound alike.
    """
    facts = {"sample_rate": np.nan, "channels": np.nan, "codec": Path(path).suffix[1:].lower(), "hash": ""}
    try:
        samples = open_clip(path, RATE)[: int(LONGEST * RATE)].numpy()
    except AudioError as error:
        return {**facts, "problem": str(error)}
    facts |= {**_header(path), "hash": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}
    if np.ptp(samples) < 2 * SILENCE:
        return {**facts, "seconds": len(samples) / RATE, "problem": f"{path}: silent; leave it out"}
    return {**facts, **_levels(samples), **_ends(samples), **_spectral(samples), "problem": ""}


def _header(path) -> dict:
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError:  # what FFmpeg alone reads
        from torchcodec.decoders import AudioDecoder

        info = AudioDecoder(path).metadata
        return {"sample_rate": info.sample_rate, "channels": info.num_channels, "codec": info.codec}
    return {"sample_rate": info.samplerate, "channels": info.channels, "codec": f"{info.format} {info.subtype}"}


def _levels(samples: np.ndarray) -> dict:
    peak = float(np.abs(samples).max())
    return {
        "rms_db": _decibels(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))),
        "peak_db": _decibels(peak),
        "dc": float(samples.mean(dtype=np.float64)),
        "seconds": len(samples) / RATE,
        "clipped": float(np.mean(np.abs(samples) >= 0.999)),
    }


def _ends(samples: np.ndarray) -> dict:
    """Seconds before the first and after the last 10 ms that lie less than 40 dB below the loudest."""
    step = RATE // 100
    blocks = samples[: len(samples) // step * step].reshape(-1, step) if len(samples) >= step else samples[None]
    level = np.ptp(blocks, axis=1)
    loud = np.flatnonzero(level > 0.01 * level.max())
    return {"lead": loud[0] / 100, "trail": (len(level) - 1 - loud[-1]) / 100}


def _spectral(samples: np.ndarray) -> dict:
    import librosa

    samples = samples - samples.mean()
    if len(samples) < 1024:
        samples = np.resize(samples, 1024)
    magnitude = np.abs(librosa.stft(samples, n_fft=512, hop_length=256))  # [257, frames]
    power = np.square(magnitude)
    mel = librosa.power_to_db(librosa.feature.melspectrogram(S=power, sr=RATE, n_mels=40), top_db=None)
    contrast = librosa.feature.spectral_contrast(S=magnitude, sr=RATE, fmin=100.0).mean(axis=1)  # [7]
    frames = power.mean(axis=0)
    spectrum = 10 * np.log10(power.mean(axis=1) + 1e-12)  # [257] dB
    return {
        "edge": _band_edge(spectrum),
        "floor_db": _decibels(np.sqrt(np.quantile(frames, 0.05) / frames.mean())),
        "tilt": _tilt(spectrum),
        "mfcc0": float(librosa.feature.mfcc(S=mel, n_mfcc=1).mean()),
        **{f"contrast{band}": float(value) for band, value in enumerate(contrast)},
        "fingerprint": _fingerprint(mel),
    }


def _band_edge(spectrum: np.ndarray, drop: float = 15.0) -> float:
    """The frequency (Hz) at which the level falls most within 600 Hz, if by over `drop` dB; else the highest one."""
    width = round(300 / (RATE / 512))  # bins
    means = np.convolve(spectrum, np.ones(2 * width) / (2 * width), mode="valid")  # means[i]: bins i to i + 2 width
    falls = means[: -2 * width] - means[2 * width :]
    falls[: round(1500 / (RATE / 512))] = 0  # what voices do themselves
    steepest = int(np.argmax(falls))
    return (steepest + 2 * width) * RATE / 512 if falls[steepest] > drop else RATE / 2


def _tilt(spectrum: np.ndarray) -> float:
    octaves = np.log2(np.arange(4, 225))  # 125 Hz to 7 kHz
    return float(np.polyfit(octaves, spectrum[4:225], 1)[0])


def _fingerprint(mel: np.ndarray) -> np.ndarray:
    """[bands, frames] in dB -> [MEL_BANDS * TIMES]: cells of the picture without their mean, scaled to length 1."""
    mel = np.maximum(mel, mel.max() - 60)
    rows = np.array_split(np.arange(mel.shape[0]), MEL_BANDS)
    bands = np.array([mel[part].mean(axis=0) for part in rows])  # [MEL_BANDS, frames]
    at = np.linspace(0, bands.shape[1] - 1, TIMES + 1).round().astype(int)
    cells = np.array([bands[:, a : max(b, a + 1)].mean(axis=1) for a, b in pairwise(at)]).T
    cells = cells - cells.mean(axis=1, keepdims=True)  # what a band has all the time says who speaks, not what
    return (cells / max(np.linalg.norm(cells), 1e-9)).ravel().astype(np.float32)


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6)))
