"""Which files are audio: folders walked in the order of their names, whatever their size."""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

SUFFIXES = {".wav", ".flac", ".mp3", ".ogg", ".opus", ".m4a", ".aac", ".webm", ".mp4", ".aif", ".aiff", ".au", ".wma"}


def find_audio(folder) -> list[Path]:
    """All audio files below a folder, by their suffix, in the order of their names."""
    return list(walk_audio(folder))


def walk_audio(folder) -> Iterator[Path]:
    """What `find_audio` finds, one after the other: no more than a folder's names is held in memory.

    A folder that cannot be read is yielded itself, so that whoever reads it reports it.
    """
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.is_dir(follow_symlinks=False), e.is_symlink()) for e in entries if _is_visible(e))
    except OSError:
        yield Path(folder)
        return
    for name, is_folder, is_link in found:
        path = Path(folder, name)
        if is_folder:
            yield from walk_audio(path)
        elif path.suffix.lower() in SUFFIXES and not (is_link and path.is_dir()):
            yield path


def expand(paths: Iterable) -> Iterator[Path]:
    """The files among `paths` and all audio files below the folders; a folder without any stands for itself."""
    for path in map(Path, paths):
        found = walk_audio(path) if path.is_dir() else iter(())
        yield next(found, path)
        yield from found


def _is_visible(entry: os.DirEntry) -> bool:
    return not entry.name.startswith(".")


def folders_in(folder: Path) -> list[Path]:
    """The visible folders in a folder, by name; none in one that cannot be read."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(e.name for e in entries if _is_visible(e) and e.name != "__MACOSX" and e.is_dir())
    except OSError:
        return []
    return [folder / name for name in names]
