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
from dfa_utils.cache import open_clip
from dfa_utils.dataset import find_unusable

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


def entries(folder):
    return sorted(folder.glob("??/*.npy"))


def test_what_takes_long_to_decode_is_decoded_once_and_comes_back_exactly(folder, tmp_path, decoded):
    slow = (("a.mp3", 0.5, 44_100), ("b.wav", 0.5, 44_100), ("c.ogg", 0.5, RATE), ("d.wav", 11, RATE))
    for name, seconds, rate in slow:
        soundfile.write(tmp_path / name, tone(rng, seconds), rate)
        whole = load_audio(tmp_path / name)
        for _ in range(3):
            assert torch.equal(open_clip(tmp_path / name, RATE), whole)
        assert torch.equal(open_clip(tmp_path / name, RATE)[100:5_000:3], whole[100:5_000:3])
        assert decoded == [tmp_path / name]
        decoded.clear()
    assert len(entries(folder)) == 4


def test_what_is_read_as_fast_as_an_entry_gets_none(folder, tmp_path):
    for name in ("a.wav", "b.flac"):
        soundfile.write(tmp_path / name, tone(rng), RATE)
        assert torch.equal(open_clip(tmp_path / name, RATE), load_audio(tmp_path / name))
    assert not folder.exists()


def test_what_is_done_to_a_clip_does_not_reach_its_entry(folder, clip):
    whole = open_clip(clip, RATE).clone()
    open_clip(clip, RATE).mul_(0)
    assert torch.equal(open_clip(clip, RATE), whole)


def test_off_means_off(folder, clip, monkeypatch):
    monkeypatch.setenv("DFA_CACHE", "off")
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert not folder.exists()


def test_a_changed_file_and_another_rate_are_decoded_anew(folder, clip, decoded):
    open_clip(clip, RATE)
    soundfile.write(clip, hiss(rng, 1.0), 44_100)
    os.utime(clip, ns=(1, 1))
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert len(open_clip(clip, 8_000)) < len(open_clip(clip, RATE))
    assert len(decoded) == len(entries(folder)) == 3


@pytest.mark.parametrize("size", [0, 10, 100, 1000, -1])
def test_a_cut_off_entry_is_found_and_mended(folder, clip, size):
    open_clip(clip, RATE)
    entry = entries(folder)[0]
    good = entry.read_bytes()
    entry.write_bytes(good[:size])
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert entry.read_bytes() == good


def test_an_entry_of_something_else_is_found_and_mended(folder, clip):
    open_clip(clip, RATE)
    entry = entries(folder)[0]
    good = entry.read_bytes()
    np.save(entry, np.zeros((3, 2), np.float32))
    for content in (entry.read_bytes(), b"PK\x03\x04" + bytes(100)):
        entry.write_bytes(content)
        assert torch.equal(open_clip(clip, RATE), load_audio(clip))
        assert entry.read_bytes() == good


def test_what_cannot_be_decoded_leaves_nothing_behind(folder, tmp_path):
    (tmp_path / "text.mp3").write_text("no audio")
    for name in ("text.mp3", "nowhere.mp3"):
        with pytest.raises(AudioError, match=name):
            open_clip(tmp_path / name, RATE)
    soundfile.write(tmp_path / "nan.wav", np.r_[tone(rng), np.nan], 44_100, subtype="FLOAT")
    assert "NaN" in find_unusable([tmp_path / "nan.wav"]).reason[0]
    assert not folder.exists()


def test_a_cache_that_cannot_be_written_is_passed_by_with_a_warning(tmp_path, clip, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="DFA_CACHE"):
        assert torch.equal(open_clip(clip, RATE), load_audio(clip))


def test_by_default_it_is_a_folder_of_the_users_own(monkeypatch, tmp_path):
    monkeypatch.delenv("DFA_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.cache_folder() == tmp_path / "dfa_utils"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache.cache_folder() == Path.home() / ".cache" / "dfa_utils"


def test_its_size_is_told_and_clearing_it_leaves_other_files_alone(folder, clip):
    samples = open_clip(clip, RATE)
    left = entries(folder)[0].parent / f".{entries(folder)[0].name}.1-2.part"
    left.touch()
    (folder / "en").mkdir()
    (folder / "en" / "thesis.txt").touch()
    count, size = cache.usage(folder)
    assert count == 1
    assert 4 * len(samples) < size < 4 * len(samples) + 200
    cache.clear(folder)
    assert cache.usage(folder) == (0, 0)
    assert list(folder.rglob("*")) == [folder / "en", folder / "en" / "thesis.txt"]


FILL = "import sys; from dfa_utils.dataset import find_unusable; from dfa_utils.layouts import find_audio; " \
       "assert find_unusable(find_audio(sys.argv[1])).empty"  # fmt: skip


def many(tmp_path, count):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "0000.mp3", hiss(rng, 0.1), 44_100)
    for i in range(1, count):
        shutil.copy(tmp_path / "clips" / "0000.mp3", tmp_path / "clips" / f"{i:04}.mp3")
    return tmp_path / "clips"


def test_neither_a_kill_nor_company_loses_anything(folder, tmp_path, decoded):
    clips = many(tmp_path, 400)
    command = [sys.executable, "-c", FILL, str(clips)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(entries(folder)) < 50 and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    before = {path: path.stat().st_mtime_ns for path in entries(folder)}
    assert 50 <= len(before) < 400
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # what was done is not done again
    assert len(entries(folder)) == 400
    assert all(torch.equal(open_clip(path, RATE), load_audio(path)) for path in list(clips.iterdir())[::40])
    assert decoded == []
