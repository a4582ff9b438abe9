"""Data-set health and shortcut cues: what a clip gives away before anyone listens to the voice."""

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from dfa_utils import metrics
from dfa_utils.cache import open_clip
from dfa_utils.config import Config
from dfa_utils.data import SPLITS
from dfa_utils.progress import map_in_threads

SAMPLE_RATE = Config().sample_rate  # Hz
CUES = {
    "rms_db": "RMS level (dBFS)",
    "peak_db": "peak level (dBFS)",
    "dc": "DC offset (full scale = 1)",
    "seconds": "duration (s)",
    "silence": "silence at both ends (s)",
}  # column: name with unit


def measure(manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with each file's sample_rate (Hz), channels, hash of its content, and the columns of CUES.

    Silence is what lies more than 40 dB below the clip's peak before the first and after the last louder sample.
    Sample rate and channels are missing for files that only FFmpeg reads. Raises AudioError for an unreadable clip.
    """
    rows = list(map_in_threads(_measure_one, manifest.path, "measuring"))
    return pd.concat([manifest.reset_index(drop=True), pd.DataFrame(rows)], axis=1)


def cue_table(measured: pd.DataFrame, n: int = 500) -> pd.DataFrame:
    """One row a cue: AUC of fake against real by this number alone, with its 95 % interval; 0.5 = says nothing."""
    rows = {}
    for cue in CUES:
        interval = metrics.bootstrap_interval(metrics.roc_auc, measured.label, measured[cue], n=n)
        rows[CUES[cue]] = (metrics.roc_auc(measured.label, measured[cue]), *interval)
    return pd.DataFrame(rows, index=["auc", "low", "high"]).T


def duplicates(measured: pd.DataFrame) -> pd.DataFrame:
    """The clips whose file content occurs more than once, twins side by side."""
    return measured[measured.duplicated("hash", keep=False)].sort_values("hash")


def shared_between_splits(manifest: pd.DataFrame, column: str) -> pd.DataFrame:
    """How many values of `column` (speaker, system, hash) each pair of splits has in common; the diagonal counts all.

    Empty values stand for "not known" and are left out.
    """
    values = {split: set(manifest.loc[manifest.split == split, column]) - {""} for split in SPLITS}
    return pd.DataFrame({a: {b: len(values[a] & values[b]) for b in SPLITS} for a in SPLITS})


def _measure_one(path: str) -> dict:
    waveform = open_clip(path, SAMPLE_RATE)[:].numpy()
    peak = np.abs(waveform).max()
    loud = np.flatnonzero(np.abs(waveform) > 0.01 * peak)
    ends = len(waveform) - (loud[-1] - loud[0] + 1) if len(loud) else len(waveform)
    return {
        **_header(path),
        "hash": hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16],
        "rms_db": _decibels(np.sqrt(np.mean(np.square(waveform, dtype=np.float64)))),
        "peak_db": _decibels(peak),
        "dc": float(waveform.mean(dtype=np.float64)),
        "seconds": len(waveform) / SAMPLE_RATE,
        "silence": ends / SAMPLE_RATE,
    }


def _header(path: str) -> dict:
    try:
        info = soundfile.info(path)
    except soundfile.LibsndfileError:
        return {"sample_rate": np.nan, "channels": np.nan}
    return {"sample_rate": info.samplerate, "channels": info.channels}


def _decibels(amplitude: float) -> float:
    return float(20 * np.log10(max(amplitude, 1e-6)))
