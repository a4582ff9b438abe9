"""Milliseconds to get 2 s of a clip into memory, by kind of file: plain readers, our loader, the cache.

The last line of each kind is what training reads: a crop of 2 s. It decides which files are cached.
"""

import numpy as np
import soundfile
import torchaudio
from common import ROOT, scratch, time_in_turns, write

from dfa_utils.audio import load_audio
from dfa_utils.cache import open_clip

KINDS = {  # seconds, Hz, suffix, reads a turn
    "2 s wav, 16 kHz": (2, 16_000, "wav", 100),
    "60 s wav, 16 kHz": (60, 16_000, "wav", 20),
    "2 s wav, 44.1 kHz": (2, 44_100, "wav", 50),
    "2 s mp3, 44.1 kHz": (2, 44_100, "mp3", 50),
    "60 s mp3, 44.1 kHz": (60, 44_100, "mp3", 5),
}

with scratch() as folder:
    figures, toy = {}, load_audio(sorted((ROOT / "data" / "toy").rglob("*.wav"))[0]).numpy()
    for kind, (seconds, rate, suffix, count) in KINDS.items():
        path = folder / f"{seconds} s, {rate} Hz.{suffix}"
        soundfile.write(path, np.resize(toy, seconds * rate), rate)
        ways = {
            "torchaudio.load": lambda path=path: torchaudio.load(path),
            "soundfile.read": lambda path=path: soundfile.read(path, dtype="float32"),
            "load_audio": lambda path=path: load_audio(path),
            "cache, 2 s of it": lambda path=path: open_clip(path, 16_000)[-32_000:].clone(),
        }
        turns = {name: lambda way=way, count=count: [way() for _ in range(count)] for name, way in ways.items()}
        taken = time_in_turns(turns)
        figures[kind] = {f"{name} (ms)": round(1e3 * s / count, 3) for name, s in taken.items()}
    write("decode", figures)
