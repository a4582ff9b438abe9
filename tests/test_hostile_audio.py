"""Files that nobody asked for: every one is judged rightly, or refused with one sentence that names it and the cure."""

import io
import os
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss

from dfa_utils import audio
from dfa_utils.audio import AudioError, has_ffmpeg, load_audio
from dfa_utils.dataset import find_unusable
from dfa_utils.inference import Detector
from dfa_utils.models import build_model

SECONDS = 0.5
WAVE = 0.2 * np.sin(2 * np.pi * 440 * np.arange(int(SECONDS * RATE)) / RATE).astype("float32")
rng = np.random.default_rng(0)

FORMATS = [
    *(("WAV", subtype) for subtype in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")),
    *(("WAV", subtype) for subtype in ("IMA_ADPCM", "MS_ADPCM", "GSM610", "G721_32")),
    *(("WAVEX", subtype) for subtype in ("PCM_16", "FLOAT")),
    *(("RF64", subtype) for subtype in ("PCM_16", "DOUBLE")),
    *(("W64", subtype) for subtype in ("PCM_16", "IMA_ADPCM")),
    *(("AIFF", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24", "FLOAT", "ULAW")),
    *(("AU", subtype) for subtype in ("PCM_16", "ULAW", "G721_32")),
    *(("CAF", subtype) for subtype in ("PCM_16", "ALAC_16", "ALAC_24")),
    *(("FLAC", subtype) for subtype in ("PCM_S8", "PCM_16", "PCM_24")),
    *(("OGG", subtype) for subtype in ("VORBIS", "OPUS")),
    *(("NIST", "PCM_16"), ("VOC", "PCM_16"), ("IRCAM", "FLOAT"), ("AVR", "PCM_16"), ("PAF", "PCM_16")),
    *(("MAT5", "FLOAT"), ("SVX", "PCM_16"), ("MP3", "MPEG_LAYER_III")),
]


def riff(data=None, rate=RATE, channels=1, bits=16, kind=1, align=None, sizes=(None, None), chunks=b"", fmt=None):
    """A wav byte by byte; `sizes` are those of RIFF and of the data, where they shall lie."""
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
    """An ID3v2 tag with `size` bytes of nothing."""
    return b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0)) + bytes(size)


def broken(content, share):
    """The bytes with this share of those behind the header drawn anew."""
    content = bytearray(content)
    for place in rng.integers(200, len(content), int(share * len(content))):
        content[place] = rng.integers(256)
    return bytes(content)


PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sIIBBBBB", 13, b"IHDR", 8, 8, 8, 2, 0, 0, 0) + zlib.compress(bytes(500))
SPEECH = {  # name -> content, or (samples, rate); all are judged
    **{f"{rate} Hz.wav": (np.resize(WAVE, int(rate * SECONDS)), rate) for rate in (4_000, 11_025, 44_100, 192_000)},
    **{f"{rate} Hz.wav": (np.resize(WAVE, int(rate * SECONDS)), rate) for rate in (8_001, 384_000, 768_000)},
    **{f"{count} channels.wav": (np.tile(WAVE[:, None], count), RATE) for count in (2, 3, 6, 8, 16)},
    "upside down.wav": (np.stack([WAVE, -WAVE], axis=1), RATE),
    "square.wav": (np.sign(WAVE + 1e-6), RATE),
    "with an offset.wav": (WAVE + 0.5, RATE),
    "one sound in a pause.wav": (np.concatenate([np.zeros(RATE), WAVE, np.zeros(RATE)]), RATE),
    "RIFF of size 0.wav": riff(sizes=(0, None)),
    "RIFF too large.wav": riff(sizes=(0xFFFFFFFF, None)),
    "from a pipe.wav": riff(sizes=(0xFFFFFFFF, 0xFFFFFFFF)),
    "with a list.wav": riff(chunks=b"LIST" + struct.pack("<I", 26) + b"INFOISFT" + struct.pack("<I", 14) + b"x" * 14),
    "odd chunk.wav": riff(chunks=b"junk" + struct.pack("<I", 3) + b"abc\0"),
    "mp3 named.wav": encoded("mp3"),
    "flac named.mp3": encoded("flac"),
    "wav named.flac": riff(),
    "tag of 10 MB.mp3": id3(10_000_000) + encoded("mp3"),
    "variable rate.mp3": encoded("mp3", np.tile(WAVE, 4), bitrate_mode="VARIABLE", compression_level=0.5),
    "rubbish in front.mp3": bytes(rng.integers(1, 200, 700, dtype=np.uint8)) + encoded("mp3", np.tile(WAVE, 4)),
    " spaces .wav": riff(),
    "two\nlines.wav": riff(),
    "\N{PILE OF POO}\N{ZERO WIDTH JOINER}.wav": riff(),
    "100 %s %d {0}.wav": riff(),
    "-o.wav": riff(),
    "'quoted' \"twice\".wav": riff(),
    "u\N{COMBINING DIAERESIS}.WAV": riff(),
    "n" * 251 + ".wav": riff(),
    os.fsdecode(b"not \xff UTF-8.wav"): riff(),
}
REFUSED = {  # name -> (content or (samples, rate), the kind of error)
    "empty.wav": (b"", "empty"),
    "empty.mp3": (b"", "empty"),
    "only RIFF.wav": (b"RIFF", "unreadable"),
    "header only.wav": (riff(b""), "empty"),
    "data of size 0.wav": (riff(sizes=(None, 0)), "empty"),
    "cut off.wav": (riff()[:8_000], "truncated"),
    "promises too much.wav": (riff(sizes=(None, 1_000_000)), "truncated"),
    "no fmt.wav": (riff(fmt=b""), "unreadable"),
    "fmt of 4 GB.wav": (riff(fmt=b"fmt " + b"\xff" * 4 + bytes(16)), "unreadable"),
    "no channels.wav": (riff(channels=0), "unreadable"),
    "65535 channels.wav": (riff(channels=65_535, align=2), "unreadable"),
    "no bits.wav": (riff(bits=0), "unreadable"),
    "unknown codec.wav": (riff(kind=0x4242), "unreadable"),
    "1 Hz.wav": ((WAVE, 1), "rate"),
    "3999 Hz.wav": ((WAVE, 3_999), "rate"),
    "0 Hz.wav": (riff(rate=0), "unreadable"),
    "NaN.wav": ((np.where(np.arange(len(WAVE)) == 7, np.nan, WAVE), RATE), "samples"),
    "infinite.wav": ((np.where(np.arange(len(WAVE)) == 7, -np.inf, WAVE), RATE), "samples"),
    "1e30.wav": ((WAVE * 1e30, RATE), "samples"),
    "silent.wav": ((np.zeros(RATE), RATE), "silent"),
    "constant.wav": ((np.full(RATE, 0.25), RATE), "silent"),
    "cut off.flac": (encoded("flac", hiss(rng, 2))[:9_000], "unreadable"),
    "header only.flac": (encoded("flac")[:60], "unreadable"),
    "header only.ogg": (encoded("ogg")[:58], "unreadable"),
    "text.wav": (b"no audio\n" * 100, "unreadable"),
    "page.mp3": (b"<!DOCTYPE html><html><body>404 Not Found</body></html>" * 20, "unreadable"),
    "archive.flac": (b"PK\x03\x04" + bytes(rng.integers(0, 256, 600, dtype=np.uint8)), "unreadable"),
    "picture.wav": (b"\xff\xd8\xff\xe0\0\x10JFIF" + bytes(rng.integers(0, 256, 3_000, dtype=np.uint8)), "unreadable"),
    "picture.ogg": (PNG, "unreadable"),
    "paper.m4a": (b"%PDF-1.7\n" + b"1 0 obj << >> endobj\n" * 50, "unreadable"),
    "program.aac": (b"\x7fELF" + bytes(2_000), "unreadable"),
    "zeros.wav": (bytes(10_000), "unreadable"),
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


@pytest.mark.parametrize(("form", "subtype"), FORMATS)
def test_every_format_that_libsndfile_writes_is_read(tmp_path, form, subtype, detector):
    rate = 8_000 if subtype in ("GSM610", "G721_32") else RATE
    path, wave = tmp_path / f"a.{form.lower()}", np.tile(WAVE[: int(SECONDS * rate)], 2)
    soundfile.write(path, wave, rate, subtype=subtype, format=form)
    loaded = load_audio(path).numpy()
    spectrum = np.abs(np.fft.rfft(loaded[: len(WAVE)] * np.hanning(len(WAVE))))
    assert abs(len(loaded) / RATE - len(wave) / rate) < 0.15  # MP3 and GSM fill their last frame
    assert abs(spectrum.argmax() / SECONDS - 440 * rate / RATE) <= 2 / SECONDS  # at half the rate it sounds lower
    assert 0 <= detector.predict(path).score <= 1


@pytest.mark.parametrize("name", SPEECH, ids=shown)
def test_what_is_odd_but_sound_is_judged(tmp_path, name, detector):
    path = put(tmp_path / name, SPEECH[name])
    result = detector.predict(path)
    assert 0 <= result.score <= 1
    assert SECONDS - 0.02 < result.seconds < 6 * SECONDS
    assert find_unusable([path]).empty


@pytest.mark.parametrize("name", REFUSED, ids=shown)
def test_what_cannot_be_judged_is_named_with_the_cure(tmp_path, name, detector):
    content, kind = REFUSED[name]
    path = put(tmp_path / name, content)
    with pytest.raises(AudioError) as error:
        detector.predict(path)
    assert error.value.kind == kind, str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert find_unusable([path]).path.tolist() == [str(path)]


def is_judged_or_named(detector, path):
    """Whether a file gets a finite score, or one sentence that names it."""
    [(_, result)] = detector.predict_files([path])
    return str(path) in str(result) if isinstance(result, AudioError) else 0 <= result.score <= 1


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.ogg", "a.wav", "a.aiff", "a.w64", "a.caf", "a.au"])
def test_damaged_frames_give_a_finite_score_or_one_sentence(tmp_path, name, detector):
    whole = encoded(Path(name).suffix[1:], np.tile(WAVE, 4))
    for share in (0.001, 0.01, 0.1, 0.5):
        assert is_judged_or_named(detector, put(tmp_path / name, broken(whole, share)))


@pytest.mark.skipif(not has_ffmpeg(), reason="needs FFmpeg")
@pytest.mark.parametrize("name", ["tone.m4a", "tone.webm"])
def test_what_a_phone_recorded_may_be_cut_off_or_named_otherwise(tmp_path, name, detector):
    content = Path(__file__).with_name(name).read_bytes()
    assert 0 <= detector.predict(put(tmp_path / "renamed.wav", content)).score <= 1
    for size in (20, len(content) // 2, len(content) - 50):
        assert is_judged_or_named(detector, put(tmp_path / name, content[:size]))


def test_what_is_no_file_is_refused_without_waiting(tmp_path, detector):
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    (tmp_path / "nowhere.wav").symlink_to(tmp_path / "gone.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "folder.wav").mkdir()
    os.mkfifo(tmp_path / "pipe.wav")  # nobody will ever write into it
    kinds = {"loop": "missing", "nowhere": "missing", "zero": "empty", "folder": "folder", "pipe": "empty"}
    for name, kind in kinds.items():
        with pytest.raises(AudioError) as error:
            detector.predict(tmp_path / f"{name}.wav")
        assert error.value.kind == kind
        assert f"{name}.wav" in str(error.value)


def test_a_file_that_may_not_be_read_is_named_with_the_cure(tmp_path, detector, monkeypatch):
    path = put(tmp_path / "a.wav", riff())
    monkeypatch.setattr(os, "access", lambda *_: False)  # root, as which tests may run, may read all
    with pytest.raises(AudioError, match=r"a\.wav: may not be read; give yourself the permission \(chmod u\+r\)"):
        detector.predict(path)


def test_a_file_that_would_take_days_ends_with_a_sentence(tmp_path, detector, monkeypatch):
    path = put(tmp_path / "a.flac", encoded("flac", np.zeros(40 * RATE)))
    assert path.stat().st_size < 5_000
    monkeypatch.setattr(audio, "LONGEST_HOURS", 35 / 3600)
    with pytest.raises(AudioError, match=r"a\.flac: holds more than .* hours of sound; cut it into parts") as error:
        detector.predict(path)
    assert error.value.kind == "long"


def test_the_command_line_names_each_and_goes_on(tmp_path):
    clips, out = tmp_path / "clips", tmp_path / "scores.csv"
    clips.mkdir()
    for name, content in SPEECH.items():
        put(clips / name, content)
    for name, (content, _) in REFUSED.items():
        put(clips / name, content)
    call = [sys.executable, "-m", "dfa_utils", "predict", clips, "--out", out]
    run = subprocess.run(call, capture_output=True, text=True, errors="replace")
    assert run.returncode == 1
    assert "Traceback" not in run.stdout + run.stderr
    table = pd.read_csv(out, keep_default_na=False)
    assert len(table) == len(SPEECH) + len(REFUSED)
    assert (table.error != "").sum() == len(REFUSED)
    assert pd.to_numeric(table.score[table.error == ""]).between(0, 1).all()
