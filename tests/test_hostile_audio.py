"""Odd, damaged and hostile files: each gets a score, or an error of one sentence that names it and the cure."""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss

from dfa_utils import audio
from dfa_utils.__main__ import main
from dfa_utils.audio import AudioError, load_audio
from dfa_utils.dataset import find_unusable
from dfa_utils.inference import Detector
from dfa_utils.models import build_model

SECONDS = 0.5
WAVE = 0.2 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * RATE)) / RATE).astype("float32")
rng = np.random.default_rng(0)


def riff(data=None, rate=RATE, channels=1, bits=16, kind=1, align=None, sizes=(None, None), chunks=b"", fmt=None):
    """A wav byte by byte; `sizes` are those in the headers of RIFF and of the data, None for the true ones."""
    data = (WAVE * 32767).astype("<i2").tobytes() if data is None else data
    align = channels * bits // 8 if align is None else align
    head = struct.pack("<HHIIHH", kind, channels, rate, (rate * align) & 0xFFFFFFFF, align, bits)
    fmt = b"fmt " + struct.pack("<I", len(head)) + head if fmt is None else fmt
    body = b"WAVE" + fmt + chunks + b"data" + struct.pack("<I", len(data) if sizes[1] is None else sizes[1]) + data
    return b"RIFF" + struct.pack("<I", len(body) if sizes[0] is None else sizes[0]) + body


def encoded(suffix, wave=WAVE, rate=RATE, **options):
    """The bytes of a file that soundfile writes."""
    buffer = io.BytesIO()
    soundfile.write(buffer, wave, rate, format=suffix.upper(), **options)
    return buffer.getvalue()


def id3(size):
    """An ID3v2 tag with `size` zero bytes."""
    return b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


def broken(content, share):
    """The bytes, with this share of those after the header replaced by random ones."""
    content = bytearray(content)
    for place in rng.integers(200, len(content), int(share * len(content))):
        content[place] = rng.integers(256)
    return bytes(content)


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 8, 8, 8, 2, 0, 0, 0) + zlib.compress(bytes(500))
ODD = {  # name -> content, or (samples, rate); all get a score
    **{f"{rate} Hz.wav": (np.resize(WAVE, int(rate * SECONDS)), rate) for rate in (4_000, 8_001, 44_100, 768_000)},
    **{f"{count} channels.wav": (np.tile(WAVE[:, None], count), RATE) for count in (2, 16)},
    "inverted.wav": (np.stack([WAVE, -WAVE], axis=1), RATE),
    "square.wav": (np.sign(WAVE + 1e-6), RATE),
    "with an offset.wav": (WAVE + 0.5, RATE),
    "one sound in a pause.wav": (np.concatenate([np.zeros(RATE), WAVE, np.zeros(RATE)]), RATE),
    "RIFF too large.wav": riff(sizes=(0xFFFFFFFF, None)),
    "data of size 0.wav": riff(sizes=(None, 0)),
    "with a list.wav": riff(chunks=b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"x" * 14),
    "odd chunk.wav": riff(chunks=b"junk" + struct.pack("<I", 3) + b"abc\0"),
    "tag of 10 MB.mp3": id3(10_000_000) + encoded("mp3"),
    "variable rate.mp3": encoded("mp3", np.tile(WAVE, 4), bitrate_mode="VARIABLE", compression_level=0.5),
    "rubbish in front.mp3": bytes(rng.integers(1, 200, 700, dtype=np.uint8)) + encoded("mp3", np.tile(WAVE, 4)),
    " spaces .wav": riff(),
    "two\nlines.wav": riff(),
    "\N{PILE OF POO}\N{ZERO WIDTH JOINER}.wav": riff(),
    "100 %s %d {0}.wav": riff(),
    "'quoted' \"twice\".wav": riff(),
    "u\N{COMBINING DIAERESIS}.WAV": riff(),
    "n" * 251 + ".wav": riff(),
    os.fsdecode(b"not \xff UTF-8.wav"): riff(),
}
REFUSED = {  # name -> (content or (samples, rate), the kind of error)
    "header only.wav": (riff(b""), "empty"),
    "promises too much.wav": (riff(sizes=(None, 1_000_000)), "truncated"),
    "no fmt.wav": (riff(fmt=b""), "unreadable"),
    "fmt of 4 GB.wav": (riff(fmt=b"fmt " + b"\xff" * 4 + bytes(16)), "unreadable"),
    "no channels.wav": (riff(channels=0), "unreadable"),
    "65535 channels.wav": (riff(channels=65_535, align=2), "unreadable"),
    "unknown codec.wav": (riff(kind=0x4242), "unreadable"),
    "0 Hz.wav": (riff(rate=0), "unreadable"),
    "infinite.wav": ((np.where(np.arange(len(WAVE)) == 7, -np.inf, WAVE), RATE), "samples"),
    "1e30.wav": ((WAVE * 1e30, RATE), "samples"),
    "constant.wav": ((np.full(RATE, 0.25), RATE), "silent"),
    "cut off.flac": (encoded("flac", hiss(rng, 2))[:9_000], "truncated"),
    **{
        f"cut off.{form}": (encoded(form, hiss(rng, 2))[:40_000], "truncated") for form in ("aiff", "au", "w64", "rf64")
    },
    "header only.flac": (encoded("flac")[:60], "unreadable"),
    "page.mp3": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20, "unreadable"),
    "picture.ogg": (PNG, "unreadable"),
    "zeros.mp3": (bytes(10_000), "unreadable"),
    "tag alone.mp3": (id3(2_000), "unreadable"),
}


def put(path: Path, content) -> Path:
    """The file with these bytes, or with these (samples, rate) as float wav."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        soundfile.write(os.fsencode(path), content[0], content[1], format="WAV", subtype="FLOAT")
    return path


@pytest.fixture(scope="module")
def detector(tiny_config):
    return Detector(build_model(config=tiny_config), {})


def shown(name):
    """A name that pytest can print."""
    return name[:40].encode("ascii", "backslashreplace").decode()


@pytest.mark.parametrize(
    ("form", "subtype"),
    [
        *(("WAV", "PCM_U8"), ("WAV", "GSM610"), ("WAVEX", "FLOAT"), ("W64", "IMA_ADPCM")),
        *(("AIFF", "PCM_24"), ("CAF", "ALAC_16"), ("OGG", "OPUS"), ("MP3", "MPEG_LAYER_III")),
    ],
)
def test_formats_of_libsndfile_are_read(tmp_path, form, subtype, detector):
    rate = 8_000 if subtype == "GSM610" else RATE
    path, wave = tmp_path / f"a.{form.lower()}", np.tile(WAVE[: int(SECONDS * rate)], 2)
    soundfile.write(path, wave, rate, subtype=subtype, format=form)
    loaded = load_audio(path).numpy()
    spectrum = np.abs(np.fft.rfft(loaded[: len(WAVE)] * np.hanning(len(WAVE))))
    assert abs(len(loaded) / RATE - len(wave) / rate) < 0.15  # MP3 and GSM fill their last frame
    assert abs(spectrum.argmax() / SECONDS - 440 * rate / RATE) <= 2 / SECONDS  # at half the rate it sounds lower
    assert 0 <= detector.predict(path).score <= 1


@pytest.mark.parametrize("name", ODD, ids=shown)
def test_an_odd_file_gets_a_score(tmp_path, name, detector):
    path = put(tmp_path / name, ODD[name])
    result = detector.predict(path)
    assert 0 <= result.score <= 1
    assert SECONDS - 0.02 < result.seconds < 6 * SECONDS
    assert find_unusable([path]).empty


@pytest.mark.parametrize("name", REFUSED, ids=shown)
def test_an_unusable_file_is_named_with_the_cure(tmp_path, name, detector):
    content, kind = REFUSED[name]
    path = put(tmp_path / name, content)
    with pytest.raises(AudioError) as error:
        detector.predict(path)
    assert error.value.kind == kind, str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert find_unusable([path]).path.tolist() == [str(path)]


def is_judged_or_named(detector, path):
    """Whether a file gets a finite score, or an error that names it."""
    [(_, result)] = detector.predict_files([path])
    return str(path) in str(result) if isinstance(result, AudioError) else 0 <= result.score <= 1


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.ogg", "a.wav"])
def test_damaged_frames_give_a_finite_score_or_an_error(tmp_path, name, detector):
    whole = encoded(Path(name).suffix[1:], np.tile(WAVE, 4))
    for share in (0.001, 0.01, 0.1, 0.5):
        assert is_judged_or_named(detector, put(tmp_path / name, broken(whole, share)))


@pytest.mark.parametrize("name", ["tone.m4a", "tone.webm"])
def test_a_recording_of_a_phone_may_be_cut_off_or_renamed(tmp_path, name, detector):
    content = Path(__file__).with_name(name).read_bytes()
    assert 0 <= detector.predict(put(tmp_path / "renamed.wav", content)).score <= 1
    for size in (20, len(content) // 2, len(content) - 50):
        assert is_judged_or_named(detector, put(tmp_path / name, content[:size]))


def test_links_folders_and_pipes_are_refused_without_waiting(tmp_path, detector):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")  # nothing will ever be written into it
    kinds = {"loop": "missing", "nowhere": "missing", "zero": "empty", "folder": "folder", "pipe": "empty"}
    for name, kind in kinds.items():
        with pytest.raises(AudioError) as error:
            detector.predict(tmp_path / f"{name}.wav")
        assert error.value.kind == kind
        assert f"{name}.wav" in str(error.value)


def test_a_file_that_may_not_be_read_is_named_with_the_cure(tmp_path, detector, monkeypatch):
    path = put(tmp_path / "a.wav", riff())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, who may run the tests, can read every file
    with pytest.raises(AudioError, match=r"a\.wav: you may not read it; change its permissions \(chmod u\+r\)"):
        detector.predict(path)


def test_a_file_that_would_take_days_is_refused(tmp_path, detector, monkeypatch):
    path = put(tmp_path / "a.flac", encoded("flac", np.zeros(40 * RATE)))
    assert path.stat().st_size < 5_000
    monkeypatch.setattr(audio, "LONGEST_HOURS", 35 / 3600)
    with pytest.raises(AudioError, match=r"a\.flac: holds more than .* hours of sound; cut it into parts") as error:
        detector.predict(path)
    assert error.value.kind == "long"


def test_the_command_line_names_each_and_continues(tmp_path, capsys):
    (tmp_path / "clips").mkdir()
    for name, content in (ODD | {name: content for name, (content, _) in REFUSED.items()}).items():
        put(tmp_path / "clips" / name, content)
    assert main(["predict", str(tmp_path / "clips"), "--out", str(tmp_path / "scores.csv")]) == 1
    assert "Traceback" not in "".join(capsys.readouterr())
    table = pd.read_csv(tmp_path / "scores.csv", keep_default_na=False)
    assert len(table) == len(ODD) + len(REFUSED)
    assert (table.error != "").sum() == len(REFUSED)
    assert pd.to_numeric(table.score[table.error == ""]).between(0, 1).all()
