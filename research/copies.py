"""Copy-synthesis: a training set of real recordings and of copies of them that vocoders made.

A detector that learns to tell a recording from its own copy learns the vocoder's trace, for all else is the same:
words, voice, room, noise and level (Wang and Yamagishi, "Spoofed training data for speech spoofing countermeasure can
be efficiently created using neural vocoders", ICASSP 2023).
"""

import hashlib
import os
import warnings
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dfa_utils.audio import AudioError, load_audio
from dfa_utils.config import Config
from dfa_utils.layouts import CLASSES, DataError, find_audio, find_sets, read, read_table
from dfa_utils.support import find_entry, map_in_threads, wav_bytes, write_atomically
from dfa_utils.windows import is_silent
from research.vocoders import VOCODERS, vocode

LONGEST = 300.0  # s; a longer clip would take gigabytes of memory
COLUMNS = ["path", "split", "label", "system", "speaker", "source"]


def copy_synthesise(
    manifest: pd.DataFrame, folder, names: Iterable[str] | None = None, versions: int = 1, seed: int = 0
) -> pd.DataFrame:
    """Write each real clip of `manifest` and `versions` copies of it: a training split with both classes.

    `folder` gets training/real/*.wav and training/fake/*.wav, both at `Config().sample_rate` Hz in 16 bits, and
    manifest.csv, which `scan(folder, splits=("training",))` reads; returned is its table, with the system of a copy,
    "copy:NAME", the speaker, and `source`, the original's path. A copy has its original's RMS, as far as full scale
    allows. Each vocoder of `names` (None: VOCODERS) is as likely as the others, and no two copies of a clip share one
    while there are more; which, and its settings, follow from (seed, the clip's content, version). Files that are there
    already stay. A clip that is damaged, silent or above five minutes is left out with a warning. Raises ValueError for
    unknown names or none, fewer versions than 1, or a folder that holds the originals or another data set; DataError
    where no clip is left.
    """
    names, folder = list(dict.fromkeys(VOCODERS if names is None else names)), Path(folder).expanduser()
    for name in names:
        find_entry(VOCODERS, name, "vocoder")
    if not names:
        raise ValueError(f"no vocoder named; known: {', '.join(VOCODERS)}")
    if versions < 1:
        raise ValueError(f"versions must be at least 1, got {versions}")
    reals = manifest[manifest.label == 0]
    _refuse_overwriting(folder, reals.path)
    copy = partial(_copy_clip, folder=folder, names=names, versions=versions, seed=seed)
    made = list(map_in_threads(copy, reals.path.tolist(), "copy-synthesis"))
    _warn_of([result for result in made if isinstance(result, AudioError)], len(reals))
    rows = _rows(reals, made)
    write_atomically(folder / "manifest.csv", rows.to_csv(index=False).encode(errors="backslashreplace"))
    return read_table(folder)


def describe(made: pd.DataFrame) -> str:
    """How many clips `copy_synthesise` gave, real ones and copies by vocoder, in a sentence."""
    systems = made.system[made.label == 1].value_counts().sort_index()
    named = ", ".join(f"{count} {system.removeprefix('copy:')}" for system, count in systems.items())
    return f"{(made.label == 0).sum()} real clips and {systems.sum()} copies of them ({named})"


def real_clips(root, folder=None) -> pd.DataFrame:
    """The training split's real clips of a data set, or all recordings in a folder that is none (speakers unknown).

    Columns path, split, label (0 = real), system, speaker. Raises DataError as `layouts.read` does, and for a `folder`
    for copies that lies in `root`: the next call would take them for real.
    """
    root = Path(root).expanduser()
    if folder is not None and Path(folder).expanduser().resolve().is_relative_to(root.resolve()):
        raise DataError(f"{folder}: lies in {root}, where copies would be taken for real; name a folder outside it")
    known = read(root) if find_sets(root) or not root.exists() else pd.DataFrame()
    if len(known):
        return known[(known.split == "training") & (known.label == 0)].reset_index(drop=True)
    paths = [str(path) for path in find_audio(root)]
    return pd.DataFrame({"path": paths, "split": "training", "label": 0, "system": "", "speaker": ""})


def _refuse_overwriting(folder: Path, paths: Iterable[str]) -> None:
    home = f"{os.path.realpath(folder)}{os.sep}"
    if any(os.path.realpath(path).startswith(home) for path in paths):
        raise ValueError(f"{folder}: the originals lie in it; name another folder for the copies")
    table = folder / "manifest.csv"
    if table.exists() and list(pd.read_csv(table, nrows=0)) != COLUMNS:
        raise ValueError(f"{folder}: holds another data set; name another folder for the copies")


def _copy_clip(
    path: str, folder: Path, names: list[str], versions: int, seed: int
) -> list[tuple[str, str]] | AudioError:
    """Write what is missing of a clip: (file, vocoder) of the real one ("") and its copies; or why it is of no use."""
    try:
        clip = _digest(path)
        plan = _plan(clip, names, versions, seed)
        missing = [row for row in plan if not (folder / row[0]).exists()]
        real = _usable(path) if missing else None
    except AudioError as error:
        return error
    for file, name, version in missing:
        generator = np.random.default_rng((seed, clip, version))
        write_atomically(folder / file, _wav(_copy(real, name, generator) if name else real))
    return [(file, name) for file, name, _ in plan]


def _plan(clip: int, names: list[str], versions: int, seed: int) -> list[tuple[str, str, int]]:
    """(file, vocoder, version) of the real clip, whose vocoder is "", and of its copies."""
    order = np.random.default_rng((seed, clip)).permutation(names).tolist()
    used = [(order[version % len(names)], version) for version in range(versions)]
    fakes = [(f"training/fake/{clip:016x}-{name}-s{seed}v{version}.wav", name, version) for name, version in used]
    return [(f"training/real/{clip:016x}.wav", "", 0), *fakes]


def _digest(path: str) -> int:
    """64 bits that stand for the file's content."""
    try:
        return int(hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16], 16)
    except OSError as error:
        raise AudioError(f"{path}: cannot be opened ({error.strerror}); check the path", "missing") from error


def _usable(path: str) -> torch.Tensor:
    """The clip [T] within full scale; AudioError for one of which no copy can be made."""
    rate = Config().sample_rate
    waveform = load_audio(path, rate)
    if len(waveform) > LONGEST * rate:
        raise AudioError(f"{path}: longer than {LONGEST / 60:g} minutes; cut it into shorter clips")
    if is_silent(waveform):
        raise AudioError(f"{path}: silent; leave it out", "silent")
    return _limit_peak(waveform)


def _copy(real: torch.Tensor, name: str, generator: np.random.Generator) -> torch.Tensor:
    """A copy [T] with the mean and the RMS of `real` [T], as far as full scale allows."""
    copy = vocode(real, name, Config().sample_rate, generator)
    copy = (copy - copy.mean()) * (real.std(correction=0) / copy.std(correction=0).clamp_min(1e-9))
    return _limit_peak(copy + real.mean())


def _limit_peak(waveform: torch.Tensor) -> torch.Tensor:
    return waveform / waveform.abs().max().clamp_min(1)


def _wav(waveform: torch.Tensor) -> bytes:
    """[T] as a 16-bit wav file."""
    pcm = (waveform * 32_768).round().clamp(-32_768, 32_767).to(torch.int16)
    return wav_bytes(pcm.numpy(), Config().sample_rate)


def _rows(reals: pd.DataFrame, made: list) -> pd.DataFrame:
    """The manifest of what was made, each file once; DataError where nothing was."""
    rows = [
        (file, "training", CLASSES[bool(name)], f"copy:{name}" if name else "", speaker, path)
        for path, speaker, files in zip(reals.path, reals.speaker, made, strict=True)
        if not isinstance(files, AudioError)
        for file, name in files
    ]
    if not rows:
        raise DataError(f"none of {len(made)} real clips can be used; copies are made of real recordings, so name some")
    return pd.DataFrame(rows, columns=COLUMNS).drop_duplicates("path")


def _warn_of(errors: list[AudioError], total: int) -> None:
    if errors:
        named = "; ".join(map(str, errors[:5])) + ("; ..." if len(errors) > 5 else "")
        warnings.warn(f"left out {len(errors)} of {total} clips: {named}", stacklevel=3)
