import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from conftest import RATE, hiss, tone

from dfa_utils import cache
from dfa_utils.audio import AudioError, load_audio
from dfa_utils.cache import find_entries, open_clip

rng = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clip(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(rng, 1.0), 44_100)
    return tmp_path / "a.mp3"


@pytest.fixture
def decoded(monkeypatch):
    """The files that were really decoded."""
    paths, original = [], cache.load_audio
    monkeypatch.setattr(cache, "load_audio", lambda path, rate: paths.append(path) or original(path, rate))
    return paths


@pytest.mark.parametrize(
    ("name", "seconds", "rate"),
    [("a.mp3", 0.5, 44_100), ("b.wav", 0.5, 44_100), ("c.ogg", 0.5, RATE), ("d.wav", 11, RATE)],
)
def test_a_slow_file_is_decoded_once_and_comes_back_exactly(folder, tmp_path, decoded, name, seconds, rate):
    soundfile.write(tmp_path / name, tone(rng, seconds), rate)
    whole = load_audio(tmp_path / name)
    open_clip(tmp_path / name, RATE).mul_(0)  # what is done to a clip does not reach its entry
    assert torch.equal(open_clip(tmp_path / name, RATE), whole)
    assert torch.equal(open_clip(tmp_path / name, RATE)[100:5_000:3], whole[100:5_000:3])
    assert decoded == [tmp_path / name]
    assert len(find_entries(folder)) == 1


def test_a_file_that_is_read_as_fast_as_an_entry_gets_none_and_off_means_off(folder, tmp_path, clip, monkeypatch):
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, tone(rng), RATE)
        assert torch.equal(open_clip(tmp_path / name, RATE), load_audio(tmp_path / name))
    monkeypatch.setenv("DFA_CACHE", "off")
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert not folder.exists()


def test_a_changed_file_and_another_rate_are_decoded_again(folder, clip, decoded):
    open_clip(clip, RATE)
    soundfile.write(clip, hiss(rng, 1.0), 44_100)
    os.utime(clip, ns=(1, 1))
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert len(open_clip(clip, 8_000)) < len(open_clip(clip, RATE))
    assert len(decoded) == len(find_entries(folder)) == 3


@pytest.mark.parametrize("damage", [lambda good: b"", lambda good: good[:100], lambda good: good[:-1], None])
def test_a_damaged_entry_is_found_and_replaced(folder, clip, damage):
    open_clip(clip, RATE)
    (entry,) = find_entries(folder)
    good = entry.read_bytes()
    if damage:
        entry.write_bytes(damage(good))
    else:
        np.save(entry, np.zeros((3, 2), np.float32))
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert entry.read_bytes() == good


def test_a_file_that_cannot_be_decoded_leaves_no_entry(folder, tmp_path):
    (tmp_path / "text.mp3").write_text("no audio")
    for name in ("text.mp3", "nowhere.mp3"):
        with pytest.raises(AudioError, match=name):
            open_clip(tmp_path / name, RATE)
    assert not folder.exists()


def test_without_a_cache_that_can_be_written_files_are_decoded_and_a_warning_tells(tmp_path, clip, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match=r"file: the cache cannot be written .*DFA_CACHE") as caught:
        assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert caught[0].filename == __file__


def test_by_default_it_is_a_folder_of_the_user(monkeypatch, tmp_path):
    monkeypatch.delenv("DFA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "dfa_utils"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "dfa_utils"


FILL = "import sys; from dfa_utils.dataset import find_unusable; from dfa_utils.layouts import find_audio; " \
       "assert find_unusable(find_audio(sys.argv[1])).empty"  # fmt: skip


def test_a_kill_and_two_processes_at_once_lose_nothing(folder, tmp_path, clip, decoded):
    (tmp_path / "clips").mkdir()
    for i in range(200):
        shutil.copy(clip, tmp_path / "clips" / f"{i:03}.mp3")
    command = [sys.executable, "-c", FILL, str(tmp_path / "clips")]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("??/*.npy"))) < 20 and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in folder.glob("??/*.npy")}
    assert 20 <= len(before) < 200
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # nothing is decoded twice
    assert len(list(folder.glob("??/*.npy"))) == 200
    whole = load_audio(clip)
    assert all(torch.equal(open_clip(path, RATE), whole) for path in (tmp_path / "clips").iterdir())
    assert decoded == []
