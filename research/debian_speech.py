"""Free recordings of about 40 people from Debian's packages: python -m research.debian_speech --out FOLDER.

Words by volunteers in 26 languages, letters and syllables, telephone prompts, announcers and voice acting. They become
wav files at 16 kHz with a manifest.csv: split "training" for what a detector may be trained on, and "testing" for the
voices that are held out for good. All are real. It needs apt-get, dpkg-deb and a network.
"""

import argparse
import hashlib
import io
import sys
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import av
import librosa
import numpy as np
import pandas as pd
import soundfile

from dfa_utils.support import wav_bytes, write_atomically
from dfa_utils.voices import unpack

RATE, SHORTEST = 16_000, 0.25  # Hz; s
MOST = {"gcin-voice": 400, "asterisk-core-sounds-en-g722": 100, "asterisk-core-sounds-fr-g722": 100}
MOST |= {"asterisk-core-sounds-ru-g722": 100}  # files that are taken of a package, chosen by the hash of their name
HELD_PACKAGES = ("asterisk-core-sounds-en-g722", "asterisk-core-sounds-fr-g722", "asterisk-core-sounds-ru-g722")
HELD_PACKAGES += ("asterisk-prompt-fr-armelle", "asterisk-prompt-es-co", "warzone2100-data")
PACKAGES = ("ktuberling-data", "klettres-data", "gcin-voice", *HELD_PACKAGES)
HELD_LANGUAGES = ("de", "el", "en", "en_GB", "es", "fi", "ga", "gl", "he", "it", "ru", "sl", "sr", "wa")
SOUNDS = (".ogg", ".opus", ".wav", ".g722", ".gsm")
BARE = {".g722": "g722", ".gsm": "gsm"}  # streams without a header, and FFmpeg's names for them


def main(arguments=None) -> int:
    """Fetch the packages that are not there, and write every recording and the manifest."""
    top = argparse.ArgumentParser("python -m research.debian_speech", description="Fetch free speech from Debian.")
    top.add_argument("--out", required=True, metavar="FOLDER", help="for the packages, the wav files and manifest.csv")
    folder, rows = Path(top.parse_args(arguments).out), []
    for package in PACKAGES:
        unpack(package, folder / "packages")
        chosen = sorted(recordings(folder / "packages" / package), key=lambda each: _hash(each[0]))
        for name, content in chosen[: MOST.get(package)]:
            rows += write_recording(folder, package, name, content)
    table = pd.DataFrame(rows, columns=["path", "split", "label", "speaker", "source_repo", "seconds"])
    write_atomically(folder / "manifest.csv", table.to_csv(index=False).encode())
    print(table.groupby(["split", "source_repo"]).seconds.agg(["count", "mean", "sum"]).round(1).to_string())
    return 0


def recordings(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name below `folder` and content of every recording, those in Warzone's archive too, without other sounds."""
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "base.wz":
            with zipfile.ZipFile(path) as archive:
                speech = (each for each in archive.namelist() if "audio/memressp/" in each and each.endswith(".ogg"))
                yield from ((f"{name}/{each}", archive.read(each)) for each in sorted(speech))
        elif path.suffix in SOUNDS and path.is_file() and not path.is_symlink():
            yield name, path.read_bytes()


def write_recording(folder: Path, package: str, name: str, content: bytes) -> list[tuple]:
    """Write one recording as wav and return its row of the manifest; none for one that is too short or unreadable."""
    try:
        sound = decode(content, Path(name).suffix)
    except (soundfile.LibsndfileError, av.FFmpegError) as error:
        warnings.warn(f"left out {name}: {error}", stacklevel=2)
        return []
    seconds, language = len(sound) / RATE, language_of(package, name)
    if seconds < SHORTEST or not np.abs(sound).max() > 1e-3:
        return []
    held = package in HELD_PACKAGES or language.split("@")[0] in HELD_LANGUAGES
    split = "testing" if held else "training"
    path = Path(split) / "real" / f"{package}-{language}-{Path(name).stem}-{_hash(name)[:6]}.wav".replace("/", "-")
    write_atomically(folder / path, wav_bytes(sound, RATE))
    return [(str(path), split, "real", f"{package} {language}".strip(), f"debian/{package}", round(seconds, 2))]


def language_of(package: str, name: str) -> str:
    """The folder that tells the language of a recording, and with it the speaker; "" where there is only one."""
    if package in ("ktuberling-data", "klettres-data"):
        parts = Path(name).parts
        return parts[parts.index("sounds" if package == "ktuberling-data" else "klettres") + 1]
    return ""


def decode(content: bytes, ending: str) -> np.ndarray:
    """The samples [T] float32 at RATE of a recording, the mean of its channels."""
    if ending in BARE:
        with av.open(io.BytesIO(content), format=BARE[ending]) as reader:
            rate = reader.streams.audio[0].rate
            frames = [frame.to_ndarray().astype(np.float32) for frame in reader.decode(audio=0)]
        sound = np.concatenate(frames, axis=1).mean(axis=0) / 32_768
    else:
        sound, rate = soundfile.read(io.BytesIO(content), dtype="float32", always_2d=True)
        sound = sound.mean(axis=1)
    return librosa.resample(sound, orig_sr=rate, target_sr=RATE).clip(-1, 1)


def _hash(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
