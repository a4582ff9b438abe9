"""The toy data: clips of simulated voices (real), and of the same voices through small vocoders (fake).

No recording is involved. A clip is voice -> utterance -> (vocoder, fakes only) -> room, noise, limiter, level, DC. The
k-th real and the k-th fake clip of a split have the same voice and recording session but different utterances, so no
recording condition tells the classes apart. A trap is a recording condition that does, for lessons about them.
`python -m dfa_utils toy ROOT` writes wavs and `manifest.csv`.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import signal

from dfa_utils.cache import cache_folder
from dfa_utils.support import look_up, progress_bar, wav_bytes, write_atomically
from dfa_utils.toy import vocoders as toy_vocoders
from dfa_utils.toy import voice as toy_voice
from dfa_utils.toy.vocoders import VOCODERS
from dfa_utils.toy.voice import SAMPLE_RATE, make_voice, speak

SECONDS = 2.0  # length of a clip
REAL_SYSTEM = "simulated voice"
UNSEEN = "channel-vocoder"  # the vocoder that occurs only in `testing`
COLUMNS = ["path", "split", "label", "system", "speaker"]
SIZES = {
    "fixture": (2021, {"training": 10, "validation": 5, "testing": 7}),  # 88 clips: what the tests run on
    "lesson": (2024, {"training": 80, "validation": 30, "testing": 40}),  # 600 clips: what the notebooks show
}  # seed, and voices in each split, each with 2 real and 2 fake clips
TRAPS = {
    "level": "fake clips are louder than real ones",
    "silence": "fake speech fills the clip, real speech has pauses around it",
    "speakers": "each class has its own voices, the same ones in every split",
}
LEVELS = (-28, -10)  # dB; the level of a clip is drawn from them
POOL = 10  # voices of each class with the trap "speakers"


def plan(size: str = "fixture", trap: str | None = None, seed: int | None = None) -> pd.DataFrame:
    """One row per clip: the manifest's columns, and `voice`, `session`, `index`, `seed`, `trap` for `render`.

    `size` is a name in SIZES, `trap` one in TRAPS or None. Another `seed` than that of the size gives other voices.
    Raises ValueError for an unknown name.
    """
    usual_seed, counts = look_up(SIZES, size, "size")
    seed = usual_seed if seed is None else seed
    if trap is not None:
        look_up(TRAPS, trap, "trap")
    ends = np.cumsum(list(counts.values()))
    voices = {split: range(end - count, end) for (split, count), end in zip(counts.items(), ends, strict=True)}
    rows = [row for split, numbers in voices.items() for row in _split_rows(split, numbers, trap)]
    table = pd.DataFrame(rows, columns=["split", "label", "system", "voice", "session"])
    speakers = table["voice"].map("voice{:02d}".format)
    table = table.assign(index=range(len(rows)), seed=seed, trap=trap, speaker=speakers)
    numbers = np.random.default_rng([seed, 3]).permutation(len(rows))  # in order, they would reveal the class
    table["path"] = [
        f"{r.split}/{r.label}/{r.speaker}-{k:03d}.wav" for k, r in zip(numbers, table.itertuples(), strict=True)
    ]
    return table[[*COLUMNS, "voice", "session", "index", "seed", "trap"]]


def render(row: Mapping) -> np.ndarray:
    """The clip of one row of `plan`: [SECONDS * SAMPLE_RATE] float32. It depends on no other clip."""
    voice, is_fake = make_voice(row["voice"], row["seed"]), row["system"] != REAL_SYSTEM
    rng = np.random.default_rng([row["seed"], 1, row["index"]])
    session = np.random.default_rng([row["seed"], 2, row["session"]])
    seconds, levels, (low, high) = session.uniform(1.5, 1.85), LEVELS, LEVELS
    if row["trap"] == "silence" and is_fake:
        seconds = SECONDS
    if row["trap"] == "level":
        levels = (high - 6, high) if is_fake else (low, low + 6)
    speech = speak(voice, rng, seconds)
    if is_fake:
        speech = VOCODERS[row["system"]](speech, rng)
    return record(speech, session, levels)


def record(speech: np.ndarray, rng: np.random.Generator, levels: tuple[float, float] = LEVELS) -> np.ndarray:
    """`speech` [T] between pauses, with room, noise, limiter, level, DC: [SECONDS * SAMPLE_RATE] float32, -1 to 1."""
    samples = int(SECONDS * SAMPLE_RATE)
    lead = int(rng.uniform(0.2, 0.8) * (samples - len(speech)))
    wave = _room(np.pad(speech, (lead, samples - len(speech) - lead)), rng)
    wave = signal.sosfilt(signal.butter(2, 50, "high", fs=SAMPLE_RATE, output="sos"), wave)
    wave = wave / wave.std() + _noise(samples, rng)
    limit = rng.uniform(1.8, 4)  # the limiter removes most of the difference in crest factor
    wave = np.tanh(wave / limit)
    loudness = np.sqrt(wave.std() * np.abs(wave).max())  # between RMS and peak, so that neither tells the classes apart
    wave = wave * 10 ** (rng.uniform(*levels) / 20) / loudness
    return np.clip(wave - wave.mean() + rng.normal(0, 0.002), -1, 1).astype(np.float32)


def write(root: str | Path, size: str = "fixture", trap: str | None = None) -> Path:
    """Write the clips of `plan` (PCM16), then `manifest.csv`, under `root`, each file in one step; returns `root`."""
    root, table = Path(root), plan(size, trap)
    made = Parallel(n_jobs=-1, return_as="generator")(delayed(_write)(root, r) for r in table.to_dict("records"))
    for _ in progress_bar(made, total=len(table), desc="making the toy data"):
        pass
    write_atomically(root / "manifest.csv", table[COLUMNS].to_csv(index=False).encode())
    return root


def cached_root(size: str = "lesson", trap: str | None = None) -> Path:
    """The root of toy data in the cache folder, made by the first call with this version of the generator.

    If the cache is off, they are in the system's folder for temporary files.
    """
    files = (toy_voice.__file__, toy_vocoders.__file__, __file__)
    version = hashlib.sha256(b"".join(Path(file).read_bytes() for file in files)).hexdigest()[:8]
    folder = cache_folder() or Path(tempfile.gettempdir()) / "dfa_utils"
    root = folder / "-".join(filter(None, ["toy", size, trap, version]))
    return root if (root / "manifest.csv").is_file() else write(root, size, trap)


def _split_rows(split: str, voices: range, trap: str | None) -> list[tuple]:
    """(split, label, system, voice, session) of all clips of a split, reals first; both classes share sessions."""
    numbers = [voice for voice in voices for _ in range(2)]
    sessions = range(2 * voices.start, 2 * voices.stop)
    systems = {"real": [REAL_SYSTEM] * len(numbers), "fake": _systems(split, len(numbers))}
    speakers = {"real": numbers, "fake": numbers}
    if trap == "speakers":
        speakers = {label: [n % POOL + first for n in numbers] for label, first in (("real", 0), ("fake", POOL))}
    return [
        (split, label, *row) for label in systems for row in zip(systems[label], speakers[label], sessions, strict=True)
    ]


def _systems(split: str, count: int) -> list[str]:
    """The vocoder of each fake clip: the known ones in turn; in `testing`, every second clip gets the unseen one."""
    known = [name for name in VOCODERS if name != UNSEEN]
    if split != "testing":
        return [known[k % len(known)] for k in range(count)]
    return [UNSEEN if k % 2 else known[k // 2 % len(known)] for k in range(count)]


def _room(wave: np.ndarray, rng: np.random.Generator, taps: int = 3200) -> np.ndarray:
    """`wave` [T] plus the echoes of a small room: 0.08 to 0.25 s long, 10 to 20 dB below the direct sound."""
    decay = np.exp(-6.9 * np.arange(taps) / (SAMPLE_RATE * rng.uniform(0.08, 0.25)))
    tail = decay * rng.standard_normal(taps)
    return wave + signal.fftconvolve(wave, tail * rng.uniform(0.1, 0.3) / np.linalg.norm(tail))[: len(wave)]


def _noise(samples: int, rng: np.random.Generator) -> np.ndarray:
    """Background noise [samples] of random colour, 34 to 50 dB below unit power."""
    noise = signal.lfilter([1], [1, -rng.uniform(0, 0.9)], rng.standard_normal(samples))
    return 10 ** (-rng.uniform(34, 50) / 20) * noise / noise.std()


def _write(root: Path, row: Mapping) -> None:
    samples = np.round(render(row) * 32767).astype(np.int16)
    write_atomically(root / row["path"], wav_bytes(samples, SAMPLE_RATE))
