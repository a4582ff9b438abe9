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

from dfa_utils.audio import AudioError, load_audio
from dfa_utils.dataset import ClipDataset, find_unusable, scan
from dfa_utils.datasets import cache
from dfa_utils.datasets.cache import CachedClip, blocks_of, open_clip

rng = np.random.default_rng(0)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def clip(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(rng, 1.0), RATE)
    return tmp_path / "a.wav"


@pytest.fixture
def decoded(monkeypatch):
    """The files that were really decoded."""
    paths, original = [], cache.stream_audio
    monkeypatch.setattr(cache, "stream_audio", lambda path, *more: paths.append(path) or original(path, *more))
    return paths


def entries(folder):
    return sorted(folder.glob("??/*.pcm"))


def test_sixteen_bits_come_back_exactly(folder, tmp_path):
    for name, samples in {
        "usual": tone(rng),
        "quiet": tone(rng) * 0.001,
        "full": np.r_[-1.0, 32767 / 32768, tone(rng)],
        "constant": np.full(100, 0.25),
        "one": np.array([0.5]),
    }.items():
        soundfile.write(tmp_path / f"{name}.wav", samples, RATE, subtype="PCM_16")
        assert torch.equal(open_clip(tmp_path / f"{name}.wav", RATE)[:], load_audio(tmp_path / f"{name}.wav")), name
    assert len(entries(folder)) == 5


@pytest.mark.parametrize("gain", [1e-6, 0.9, 3.0])
def test_other_audio_keeps_fifteen_bits_below_its_loudest_sample(folder, tmp_path, gain):
    soundfile.write(tmp_path / "a.wav", gain * np.stack([tone(rng)] * 2, axis=1), 44_100, subtype="FLOAT")
    exact = load_audio(tmp_path / "a.wav")
    assert torch.allclose(open_clip(tmp_path / "a.wav", RATE)[:], exact, rtol=0, atol=float(exact.abs().max()) / 2**15)


def test_a_clip_can_be_sliced_like_a_tensor(folder, clip, monkeypatch):
    monkeypatch.setattr(cache, "stream_audio", lambda path, rate: iter(load_audio(path, rate).split(3000)))
    whole, cached = load_audio(clip), open_clip(clip, RATE)
    assert isinstance(cached, CachedClip)
    assert len(cached) == len(whole) == 16_000
    for part in (slice(None), slice(10, 20), slice(2990, 9010), slice(15_000, 99_999), slice(5, 5), slice(20, 10)):
        assert torch.equal(cached[part], whole[part]), part
    assert torch.equal(torch.cat(list(blocks_of(cached, RATE, 0.3))), whole)
    assert torch.equal(torch.cat(list(blocks_of(whole, RATE, 0.3))), whole)


def test_each_file_is_decoded_once(folder, tiny_root, tiny_config, decoded, monkeypatch):
    manifest = scan(tiny_root)
    assert sorted(decoded) == sorted(manifest.path)
    first = [clip for clip, _ in ClipDataset(manifest, tiny_config)]
    scan(tiny_root)
    assert len(decoded) == len(manifest)
    monkeypatch.setenv("DFA_CACHE", "off")
    assert all(torch.equal(a, b) for a, (b, _) in zip(first, ClipDataset(manifest, tiny_config), strict=True))


def test_off_means_off(folder, clip, decoded, monkeypatch):
    monkeypatch.setenv("DFA_CACHE", "off")
    assert torch.equal(open_clip(clip, RATE), load_audio(clip))
    assert not decoded
    assert not folder.exists()


def test_a_changed_file_is_decoded_again(folder, clip, decoded):
    open_clip(clip, RATE)
    soundfile.write(clip, hiss(rng, 1.0), RATE)
    os.utime(clip, ns=(1, 1))
    assert torch.equal(open_clip(clip, RATE)[:], load_audio(clip))
    assert len(decoded) == 2
    assert len(entries(folder)) == 1


def test_rate_and_decoding_are_part_of_the_key(folder, clip, monkeypatch):
    assert len(open_clip(clip, 8_000)) == 8_000
    assert len(open_clip(clip, RATE)) == 16_000
    monkeypatch.setattr(cache, "DECODING", 0)
    open_clip(clip, RATE)
    assert len(entries(folder)) == 3


@pytest.mark.parametrize("position", [0, 2, 10, 24, 30, 33, 40, 10_000, -1, -6, -10])
def test_any_wrong_byte_is_found_and_mended(folder, clip, decoded, position):
    open_clip(clip, RATE)
    entry = entries(folder)[0]
    good = entry.read_bytes()
    bad = bytearray(good)
    bad[position] ^= 0x10
    entry.write_bytes(bad)
    assert torch.equal(open_clip(clip, RATE)[:], load_audio(clip))
    assert len(decoded) == 2
    assert entry.read_bytes() == good


@pytest.mark.parametrize("size", [0, 10, 31, 32, 33, 1000, -1])
def test_a_cut_off_entry_is_found_and_mended(folder, clip, decoded, size):
    open_clip(clip, RATE)
    entry = entries(folder)[0]
    good = entry.read_bytes()
    entry.write_bytes(good[:size])
    assert torch.equal(open_clip(clip, RATE)[:], load_audio(clip))
    assert entry.read_bytes() == good


def test_what_cannot_be_decoded_leaves_nothing_behind(folder, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("text.wav", "nowhere.wav"):
        with pytest.raises(AudioError, match=name):
            open_clip(tmp_path / name, RATE)
    soundfile.write(tmp_path / "nan.wav", np.r_[tone(rng), np.nan], RATE, subtype="FLOAT")
    assert "NaN" in find_unusable([tmp_path / "nan.wav"]).reason[0]
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_a_cache_that_cannot_be_written_is_passed_by_with_a_warning(tmp_path, clip, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DFA_CACHE", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="DFA_CACHE"):
        assert torch.equal(open_clip(clip, RATE), load_audio(clip))


def test_by_default_it_is_the_users_cache_folder(monkeypatch):
    monkeypatch.delenv("DFA_CACHE")
    monkeypatch.setattr(cache.platformdirs, "user_cache_dir", lambda name, **_: f"/where/caches/are/{name}")
    cache._folder.cache_clear()
    assert cache.cache_folder() == Path("/where/caches/are/dfa_utils")
    cache._folder.cache_clear()


def test_its_size_is_told_and_clearing_it_leaves_other_files_alone(folder, clip):
    open_clip(clip, RATE)
    left = entries(folder)[0].parent / f".{entries(folder)[0].name}.1-2.part"
    left.touch()
    (folder / "en").mkdir()
    (folder / "en" / "thesis.txt").touch()
    count, size = cache.usage(folder)
    assert count == 1
    assert 32_000 < size < 32_100
    cache.clear(folder)
    assert cache.usage(folder) == (0, 0)
    assert list(folder.rglob("*")) == [folder / "en", folder / "en" / "thesis.txt"]


def test_a_damaged_entry_that_cannot_be_mended_is_passed_by(folder, clip, monkeypatch):
    cached = open_clip(clip, RATE)
    entries(folder)[0].write_bytes(entries(folder)[0].read_bytes()[:1000])

    def refuse(path):
        raise PermissionError

    monkeypatch.setattr(cache, "atomic_file", refuse)
    assert torch.equal(cached[:], load_audio(clip))


FILL = "import sys; from dfa_utils.dataset import find_audio, find_unusable; " \
       "assert find_unusable(find_audio(sys.argv[1])).empty"  # fmt: skip


def many(tmp_path, count):
    (tmp_path / "clips").mkdir()
    soundfile.write(tmp_path / "clips" / "0000.wav", hiss(rng, 0.1), RATE)
    for i in range(1, count):
        shutil.copy(tmp_path / "clips" / "0000.wav", tmp_path / "clips" / f"{i:04}.wav")
    return tmp_path / "clips"


def whole(folder, clips):
    """Whether the cache holds every clip, undamaged, without a decoder's help."""
    assert len(entries(folder)) == len(clips)
    return all(torch.equal(open_clip(path, RATE)[:], load_audio(path)) for path in clips)


def test_a_kill_while_it_is_filled_loses_nothing(folder, tmp_path, decoded):
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
    subprocess.run(command, check=True)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())  # what was done is not done again
    assert whole(folder, sorted(clips.iterdir()))
    assert decoded == []


def test_two_processes_fill_it_at_once(folder, tmp_path, decoded):
    clips = many(tmp_path, 300)
    processes = [subprocess.Popen([sys.executable, "-c", FILL, str(clips)]) for _ in range(2)]
    assert [process.wait() for process in processes] == [0, 0]
    assert whole(folder, sorted(clips.iterdir()))
    assert decoded == []
    assert not list(folder.rglob("*.part"))
