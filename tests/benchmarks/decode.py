"""(a) Milliseconds to get a 2 s wav into memory: soundfile, torchaudio.load, our loader, the cache."""

import soundfile
import torchaudio
from common import make_clips, scratch, time_in_turns, write

from dfa_utils.audio import load_audio
from dfa_utils.datasets.cache import open_clip

COUNT = 200

with scratch() as folder:
    paths = make_clips(folder, COUNT).path[:COUNT].tolist()
    ways = {
        "torchaudio.load": lambda path: torchaudio.load(path),
        "soundfile.read": lambda path: soundfile.read(path, dtype="float32"),
        "load_audio": lambda path: load_audio(path),
        "cache": lambda path: open_clip(path, 16_000)[:32_000],
    }
    seconds = time_in_turns({name: lambda way=way: [way(path) for path in paths] for name, way in ways.items()})
    write("decode", {f"{name} (ms a clip)": round(1e3 * s / COUNT, 3) for name, s in seconds.items()})
