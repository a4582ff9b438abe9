from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import hiss, tone

from dfa_utils.audio import SILENCE, AudioError, fit_length, has_ffmpeg, is_silent, load_audio, stream_audio, windows

M4A = Path(__file__).parent / "tone.m4a"
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("suffix", "subtype", "tolerance"),
    [
        ("wav", "PCM_16", 1e-4),
        ("wav", "PCM_U8", 1e-2),
        ("wav", "PCM_24", 1e-6),
        ("wav", "PCM_32", 1e-6),
        ("wav", "FLOAT", 1e-7),
        ("wav", "ULAW", 2e-2),
        ("flac", "PCM_16", 1e-4),
        ("ogg", "VORBIS", 5e-2),
        ("mp3", "MPEG_LAYER_III", 5e-2),
    ],
)
def test_what_is_written_is_read(tmp_path, suffix, subtype, tolerance):
    wave, path = tone(rng, hz=300), tmp_path / f"a.{suffix}"
    soundfile.write(path, wave, 16_000, subtype=subtype)
    loaded = load_audio(path)
    assert loaded.dtype == torch.float32
    assert np.abs(loaded.numpy()[: len(wave)] - wave).max() < tolerance


@pytest.mark.parametrize("rate", [8_000, 11_025, 22_050, 44_100, 48_000, 96_000, 192_000, 44_101])
def test_resampling_keeps_a_tone_and_its_length(tmp_path, rate):
    t = np.arange(rate) / rate
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 440 * t), rate, subtype="FLOAT")
    loaded = load_audio(tmp_path / "a.wav").numpy()
    expected = 0.5 * np.sin(2 * np.pi * 440 * np.arange(len(loaded)) / 16_000)
    assert abs(len(loaded) - 16_000) <= 1
    assert np.abs(loaded - expected)[200:-200].max() < (1e-2 if rate == 44_101 else 2e-3)


def test_channels_are_averaged(tmp_path):
    left, right = tone(rng), hiss(rng)
    soundfile.write(tmp_path / "a.wav", np.stack([left, right], axis=1), 16_000, subtype="FLOAT")
    assert np.allclose(load_audio(tmp_path / "a.wav"), (left + right) / 2, atol=1e-7)


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("block_seconds", [0.01, 0.1, 0.37])
def test_blocks_join_to_the_whole(tmp_path, rate, block_seconds):
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((rate, 2)), rate, subtype="FLOAT")
    blocks = list(stream_audio(tmp_path / "a.wav", block_seconds=block_seconds))
    samples = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0].mean(axis=1))
    whole = torchaudio.functional.resample(samples, rate, 16_000)
    assert len(blocks) > 1
    assert torch.cat(blocks).shape == whole.shape
    assert torch.allclose(torch.cat(blocks), whole, atol=1e-6)


def test_m4a_is_read_with_ffmpeg_and_else_says_how_to_get_it():
    if has_ffmpeg():
        wave = load_audio(M4A)
        assert 0.45 < len(wave) / 16_000 < 0.7
        assert torch.fft.rfft(wave[2000:6000]).abs().argmax() == 110  # 440 Hz in steps of 4 Hz
        assert torch.allclose(torch.cat(list(stream_audio(M4A, block_seconds=0.1))), wave, atol=1e-3)
    else:
        with pytest.raises(AudioError, match="apt-get install ffmpeg"):
            load_audio(M4A)


def test_m4a_without_ffmpeg(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchcodec.decoders", None)
    with pytest.raises(AudioError, match=r"tone\.m4a.*apt-get install ffmpeg"):
        load_audio(M4A)


def bad_file(folder, kind):
    path = folder / f"{kind}.wav"
    if kind == "empty":
        path.touch()
    elif kind == "text":
        path.write_text("this is no audio\n" * 50)
    elif kind == "no samples":
        soundfile.write(path, np.zeros(0, "float32"), 16_000)
    elif kind == "nan":
        soundfile.write(path, np.array([0.1, np.nan, 0.2], "float32"), 16_000, subtype="FLOAT")
    elif kind == "huge":
        soundfile.write(path, np.array([[0.1, 0.1], [3e38, 3e38]], "float32"), 16_000, subtype="FLOAT")
    elif kind == "truncated":
        soundfile.write(path, tone(rng), 16_000)
        path.write_bytes(path.read_bytes()[:8_000])
    elif kind == "folder":
        path.mkdir()
    elif kind == "raw":
        path = path.with_suffix(".raw")
        path.write_bytes(bytes(1000))
    elif kind == "long name":
        path = folder / ("n" * 300 + ".wav")
    return path


@pytest.mark.parametrize(
    "kind", ["missing", "empty", "text", "no samples", "nan", "huge", "truncated", "folder", "raw", "long name"]
)
def test_an_unusable_file_is_named_with_the_cure(tmp_path, kind):
    path = bad_file(tmp_path, kind)
    with pytest.raises(AudioError) as error:
        load_audio(path)
    assert str(path) in str(error.value)
    assert ";" in str(error.value) or ":" in str(error.value).removeprefix(str(path))


@pytest.mark.parametrize("extra", [1, 50, 200, 400])
def test_no_block_is_empty(tmp_path, extra):
    soundfile.write(tmp_path / "a.wav", hiss(rng, 2)[:22_050].repeat(2)[: 44_100 + extra - 22_050], 22_050)
    blocks = list(stream_audio(tmp_path / "a.wav", 16_000, block_seconds=0.5))
    assert min(map(len, blocks)) > 0
    assert torch.allclose(torch.cat(blocks), load_audio(tmp_path / "a.wav"), atol=1e-5)


def test_a_truncated_flac_is_named(tmp_path):
    soundfile.write(tmp_path / "a.flac", hiss(rng, 2), 16_000)
    content = (tmp_path / "a.flac").read_bytes()
    (tmp_path / "a.flac").write_bytes(content[: len(content) // 2])
    with pytest.raises(AudioError, match=r"a\.flac.*cut off"):
        load_audio(tmp_path / "a.flac")


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x80000000, 0x7FFFF000])
def test_a_wav_of_unknown_length_from_a_pipe_is_read(tmp_path, size):
    soundfile.write(tmp_path / "a.wav", tone(rng), 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    assert len(load_audio(tmp_path / "a.wav")) == 8_000


def test_an_mp3_named_wav_is_read(tmp_path):
    soundfile.write(tmp_path / "a.mp3", tone(rng), 16_000)
    (tmp_path / "a.mp3").rename(tmp_path / "a.wav")
    assert len(load_audio(tmp_path / "a.wav")) >= 8_000


@pytest.mark.parametrize("length", [5, 10, 11, 14, 15, 16, 33, 100])
@pytest.mark.parametrize("block", [3, 7, 1000])
@pytest.mark.parametrize("hop", [4, 10, 13])
def test_windows_cover_everything_in_any_blocks(length, block, hop):
    wave = 1 + torch.arange(length).float()
    cut = list(windows(wave.split(block), 10, hop))
    assert all(len(w) == 10 for _, w in cut)
    if length < 10:
        assert [start for start, _ in cut] == [0]
        assert cut[0][1].tolist() == (wave.tolist() * 10)[:10]
        return
    assert all(torch.equal(w, wave[start : start + 10]) for start, w in cut)
    assert [start for start, _ in cut][: 1 + (length - 10) // hop] == list(range(0, length - 9, hop))
    assert cut[-1][0] == length - 10


@pytest.mark.parametrize("length", [5, 10, 16, 33])
@pytest.mark.parametrize("block", [3, 7, 1000])
@pytest.mark.parametrize("silence", [1, 4, 25])
def test_digital_silence_around_a_sound_moves_its_windows_and_changes_none(length, block, silence):
    wave, nothing = 1 + torch.arange(length).float(), torch.full((silence,), SILENCE / 2)
    cut = list(windows([wave], 10, 4))
    padded = list(windows(torch.cat([nothing, wave, nothing]).split(block), 10, 4))
    assert [start for start, _ in padded] == [silence + start for start, _ in cut]
    assert all(torch.equal(w, v) for (_, w), (_, v) in zip(padded, cut, strict=True))


@pytest.mark.parametrize("block", [3, 7, 1000])
def test_a_pause_as_long_as_a_window_parts_two_sounds_and_a_shorter_one_does_not(block):
    wave = torch.ones(12)
    for pause, starts in ((9, [0, 4, 8, 12, 16, 20, 23]), (10, [0, 2, 22, 24]), (50, [0, 2, 62, 64])):
        blocks = torch.cat([wave, torch.zeros(pause), wave]).split(block)
        assert [start for start, _ in windows(blocks, 10, 4)] == starts
    assert list(windows(torch.zeros(100).split(block), 10, 4)) == []


def test_fit_length_cuts_in_the_middle_and_repeats():
    assert fit_length(torch.arange(10), 4).tolist() == [3, 4, 5, 6]
    assert fit_length(torch.arange(10), 4, start=1).tolist() == [1, 2, 3, 4]
    assert fit_length(torch.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]


def test_silence_is_what_16_bits_cannot_tell_from_a_constant():
    assert is_silent(torch.full((100,), 0.3))
    assert not is_silent(torch.tensor([0.0, 0.001] * 50))
