import io
import subprocess
import sys
import warnings
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
import torch
import torchaudio
from conftest import hiss, tone

from dfa_utils import audio
from dfa_utils.audio import AudioError, fit_length, load_audio, stream_audio
from dfa_utils.support import wav_bytes

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
def test_each_format_is_read_as_it_was_written(tmp_path, suffix, subtype, tolerance):
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


def test_of_channels_that_cancel_each_other_the_loudest_is_taken(tmp_path):
    wave = tone(rng)
    for name, right, expected in (
        ("inverted", -wave, wave),
        ("nearly", -0.95 * wave, wave),
        ("mute", 0 * wave, wave / 2),
    ):
        soundfile.write(tmp_path / "a.wav", np.stack([wave, right], axis=1), 16_000, subtype="FLOAT")
        assert np.allclose(load_audio(tmp_path / "a.wav"), expected, atol=1e-7), name


@pytest.mark.parametrize("rate", [1, 3_999, 768_001, 2_147_483_647])
def test_a_sample_rate_that_no_recording_of_speech_has_is_refused(tmp_path, rate):
    soundfile.write(tmp_path / "a.wav", tone(rng), rate)
    with pytest.raises(AudioError, match=rf"a\.wav: its sample rate .* {rate} Hz; export it again") as error:
        load_audio(tmp_path / "a.wav")
    assert error.value.kind == "rate"


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100, 48_000])
@pytest.mark.parametrize("block_seconds", [0.01, 0.1, 0.37])
def test_blocks_join_to_the_whole(tmp_path, rate, block_seconds, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", block_seconds)
    soundfile.write(tmp_path / "a.wav", 0.1 * rng.standard_normal((rate, 2)), rate, subtype="FLOAT")
    blocks = list(stream_audio(tmp_path / "a.wav"))
    samples = torch.from_numpy(soundfile.read(tmp_path / "a.wav", dtype="float32")[0].mean(axis=1))
    whole = torchaudio.functional.resample(samples, rate, 16_000)
    assert len(blocks) > 1
    assert torch.from_numpy(np.concatenate(blocks)).shape == whole.shape
    # torchaudio computes its weights in single precision
    assert torch.allclose(torch.from_numpy(np.concatenate(blocks)), whole, atol=1e-5)


@pytest.mark.parametrize("name", ["tone.m4a", "tone.webm"])  # what phones and browsers record
def test_m4a_and_webm_are_read(monkeypatch, name):
    path = M4A.with_name(name)
    wave = load_audio(path)
    assert 0.45 < len(wave) / 16_000 < 0.7
    assert torch.fft.rfft(wave[2000:6000]).abs().argmax() == 110  # 440 Hz in steps of 4 Hz
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 0.1)
    blocks = list(stream_audio(path))
    assert len(blocks) >= 2
    assert torch.allclose(torch.from_numpy(np.concatenate(blocks)), wave, atol=1e-3)


CODECS = {"mp3": ("libmp3lame", "mp3"), "flac": ("flac", "flac"), "aac": ("aac", "adts")}  # encoder, container
CODECS |= {"mkv": ("libopus", "matroska"), "mp4": ("aac", "mp4"), "alac": ("alac", "mp4")}
CODECS |= {"ogg": ("libopus", "ogg"), "avi": ("libmp3lame", "avi"), "flv": ("libmp3lame", "flv"), "tta": ("tta", "tta")}
CODECS["wma"] = ("wmav2", "asf")
MP3 = {  # options of the encoder, and of the container
    "CBR": ({"b": "64000"}, {}),
    "CBR without header": ({"b": "64000"}, {"write_xing": "0", "id3v2_version": "0"}),
    "VBR": ({"q": "4", "flags": "+qscale", "global_quality": "472"}, {}),
    "VBR without header": ({"q": "4", "flags": "+qscale", "global_quality": "472"}, {"write_xing": "0"}),
    "ABR": ({"b": "64000", "abr": "1"}, {}),
}


def encoded(seconds, rate, channels, codec, options=(), container_options=(), tracks=1, left_out=range(0)):
    """A recording as the bytes of a file: noise that is quiet at first, so that its bit rate changes.

    All `tracks` hold it, without its packets of the seconds `left_out`.
    """
    file, samples = io.BytesIO(), 0.3 * np.random.default_rng(1).standard_normal((channels, int(seconds * rate)))
    samples[:, : samples.shape[1] // 2] *= 0.01
    if codec not in CODECS:
        soundfile.write(file, samples.T, rate, format="OGG", subtype=codec)
        return file.getvalue()
    encoder, name = CODECS[codec]
    with av.open(file, "w", format=name, options=dict(container_options)) as container:
        layout = {1: "mono", 2: "stereo", 8: "7.1(wide)" if codec == "alac" else "7.1"}[channels]
        streams = [
            container.add_stream(encoder, rate=rate, layout=layout, options=dict(options)) for _ in range(tracks)
        ]
        formats = [each.name for each in streams[0].codec_context.codec.audio_formats]
        resampler = av.AudioResampler("s16" if "s16" in formats else formats[0], layout, rate)
        frame = av.AudioFrame.from_ndarray(samples.T.reshape(1, -1).astype(np.float32), "flt", layout)
        frame.sample_rate, frame.pts = rate, 0
        for piece in [*resampler.resample(frame), None]:
            for packet in (packet for stream in streams for packet in stream.encode(piece)):
                if packet.pts is None or packet.pts * packet.time_base // 1 not in left_out:
                    container.mux(packet)
    return file.getvalue()


@pytest.mark.parametrize("parts", ["one", "joined", "joined with another rate and channels"])
@pytest.mark.parametrize("kind", [*MP3, "VORBIS", "OPUS", "flac", "aac"])
def test_all_that_a_file_holds_is_read(tmp_path, kind, parts):
    codec, options = ("mp3", MP3[kind]) if kind in MP3 else (kind, ())
    rates = (48_000, 16_000) if codec == "OPUS" else (44_100, 48_000)
    first, other = encoded(3, rates[0], 1, codec, *options), encoded(2, rates[1], 2, codec, *options)
    files = {"one": [first], "joined": [first, first]}.get(parts, [first, other])
    (tmp_path / "a.bin").write_bytes(b"".join(files))
    expected = sum({first: 3, other: 2}[file] for file in files)
    # without a header nothing says how much of the first and last frame of a part is padding
    padding = 0.08 * len(files) if kind == "aac" or "without" in kind else 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing is left out
        assert -0.05 <= len(load_audio(tmp_path / "a.bin")) / 16_000 - expected <= 0.05 + padding


def stale(seconds):
    """Two seconds of noise as a wav whose header was written when it held `seconds`."""
    file = io.BytesIO()
    soundfile.write(file, hiss(rng, 2), 16_000, format="WAV")
    content = bytearray(file.getvalue())
    content[4:8], content[40:44] = ((32_000 * seconds + more).to_bytes(4, "little") for more in (36, 0))
    return bytes(content)


def first_half(content):
    return content[: len(content) // 2]


def with_hole(content):
    third = len(content) // 3
    return content[:third] + bytes(third) + content[2 * third :]


PARTLY_READ = {  # name -> content, seconds that are read, what is said
    "header of a second": (lambda: stale(1), 1, "32000 bytes after the sound its header tells of are left out"),
    "mp3 whose end is text": (
        lambda: encoded(2, 16_000, 1, "mp3") + b"no sound" * 999,
        2,
        r"\d+ bytes at its end cannot be decoded",
    ),
    "half of an ogg": (
        lambda: first_half(encoded(4, 48_000, 1, "OPUS")),
        None,
        "it may be cut off: no page says that it is the last",
    ),
    "half of a video without pictures": (
        lambda: first_half(encoded(4, 48_000, 1, "mkv")),
        None,
        r"\d\.\d s in it are lost or were not recorded",
    ),
    "gap": (
        lambda: encoded(5, 48_000, 1, "mkv", left_out=range(1, 3)),
        3,
        r"(2\.0|1\.9) s in it are lost or were not recorded",
    ),
    "hole in an avi": (
        lambda: with_hole(encoded(4, 44_100, 1, "avi")),
        None,
        r"\d\.\d s in it are lost or were not recorded",
    ),
    "two tracks of an ogg": (
        lambda: encoded(2, 48_000, 1, "ogg", tracks=2),
        2,
        "it has 2 sound tracks, and the first is judged",
    ),
    "two tracks": (lambda: encoded(2, 48_000, 1, "mp4", tracks=2), 2, "it has 2 sound tracks, and the first is judged"),
}


@pytest.mark.parametrize("name", PARTLY_READ)
def test_what_is_left_out_of_a_recording_is_said_in_one_line(tmp_path, name):
    make, seconds, said = PARTLY_READ[name]
    (tmp_path / "a.bin").write_bytes(make())
    with pytest.warns(UserWarning, match=rf"^{tmp_path}/a\.bin: {said}$") as caught:
        read = len(load_audio(tmp_path / "a.bin")) / 16_000
    assert len(caught) == 1
    assert abs(read - seconds) < 0.1 if seconds else 0.5 < read < 3


@pytest.mark.parametrize("kind", ["AU", "CAF", "RF64", "W64", "alac", "mp4", "flv", "tta", "wma"])
def test_recordings_of_any_container_are_read_when_they_are_joined(tmp_path, kind):
    file = io.BytesIO()
    if kind in CODECS:
        file.write(encoded(2, 44_100, 1, kind, {"b": "64000"}))
    else:
        soundfile.write(file, hiss(rng, 2), 16_000, format=kind, subtype="PCM_16")
    (tmp_path / "a.bin").write_bytes(file.getvalue() * 2)
    assert abs(len(load_audio(tmp_path / "a.bin")) / 16_000 - 4) < 0.2


def test_a_wav_behind_a_large_tag_is_read(tmp_path):
    soundfile.write(tmp_path / "a.wav", hiss(rng, 2), 16_000)
    size = 2**21  # 7 bits in each byte of its header
    tag = b"ID3\3\0\0" + bytes(size >> shift & 127 for shift in (21, 14, 7, 0)) + bytes(size)
    (tmp_path / "a.wav").write_bytes(tag + (tmp_path / "a.wav").read_bytes())
    assert len(load_audio(tmp_path / "a.wav")) == 32_000


def test_a_file_of_which_nothing_can_be_decoded_is_damaged_not_empty(tmp_path):
    content = encoded(2, 44_100, 1, "mp4")
    start, end = content.index(b"mdat") + 4, content.index(b"moov") - 4
    (tmp_path / "a.m4a").write_bytes(content[:start] + np.random.default_rng(0).bytes(end - start) + content[end:])
    with pytest.raises(AudioError, match=r"a\.m4a: damaged: no part of it can be decoded \(.*\); fetch or export it"):
        load_audio(tmp_path / "a.m4a")


@pytest.mark.parametrize("codec", ["alac", "mp4", "mkv"])
def test_eight_channels_are_read_and_averaged(tmp_path, codec):
    (tmp_path / "a.bin").write_bytes(encoded(2, 48_000, 8, codec))
    code = "import sys; from dfa_utils import load_audio; sys.stdout.buffer.write(load_audio(sys.argv[1]).numpy().data)"
    command = [sys.executable, "-c", code, str(tmp_path / "a.bin")]  # a process of its own, since PyAV may crash
    found = np.frombuffer(subprocess.run(command, check=True, capture_output=True).stdout, "float32")
    if codec == "alac":  # without loss
        noise = 0.3 * np.random.default_rng(1).standard_normal((8, 96_000))
        noise[:, :48_000] *= 0.01
        expected = np.concatenate(
            [*audio.resample_blocks([(noise.clip(-1, 1).mean(0).astype("float32"), 48_000)], 16_000)]
        )
        assert np.abs(found - expected).max() < 1e-5
    assert abs(len(found) / 16_000 - 2) < 0.1


def test_a_cut_off_mp3_is_read_without_notes_of_other_libraries(tmp_path, capfd):
    (tmp_path / "a.mp3").write_bytes(first_half(encoded(4, 44_100, 1, "mp3")))
    assert 1 < len(load_audio(tmp_path / "a.mp3")) / 16_000 < 3
    assert "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("kinds", [("flac", "WAV"), ("WAV", "flac"), ("OPUS", "WAV"), ("flac", "OPUS")])
def test_a_recording_of_another_kind_behind_the_first_is_named(tmp_path, kinds):
    wav = wav_bytes(hiss(np.random.default_rng(0), 2), 16_000)
    parts = [wav if kind == "WAV" else encoded(2, 48_000, 1, kind) for kind in kinds]
    (tmp_path / "a.bin").write_bytes(b"".join(parts))
    with pytest.warns(UserWarning, match=r"a\.bin: another kind of recording begins in it, and is left out"):
        assert len(load_audio(tmp_path / "a.bin")) / 16_000 == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("codec", ["VORBIS", "OPUS"])
@pytest.mark.parametrize("end", [1 / 2, 2 / 3])
def test_a_hole_in_an_ogg_is_an_error(tmp_path, codec, end):
    content = encoded(20, 16_000, 1, codec)
    first, last = len(content) // 3, int(end * len(content))
    (tmp_path / "a.ogg").write_bytes(content[:first] + bytes(last - first) + content[last:])
    with pytest.raises(AudioError, match=r"a\.ogg: damaged: \d\.\d s of it cannot be read; fetch it again"):
        load_audio(tmp_path / "a.ogg")


def test_a_flac_from_a_pipe_and_joined_wavs_and_aiffs_are_read(tmp_path):
    content = bytearray(encoded(2, 16_000, 1, "flac"))
    content[21] &= 0xF0  # of the number of samples, 36 bits
    content[22:26] = bytes(4)
    (tmp_path / "a.flac").write_bytes(content)
    assert len(load_audio(tmp_path / "a.flac")) == 32_000
    for name in ("a.wav", "a.aiff"):
        soundfile.write(tmp_path / name, hiss(rng, 2), 16_000)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() * 3)
        assert len(load_audio(tmp_path / name)) == 96_000


@pytest.mark.parametrize(("size", "cut"), [(0, 0), (16_001, 0), (16_044, 0), (17_000, 0), (16_000, 1)])
def test_a_wav_whose_header_has_a_wrong_size_is_read_to_its_end(tmp_path, size, cut):
    soundfile.write(tmp_path / "a.wav", tone(rng), 16_000)
    content = bytearray((tmp_path / "a.wav").read_bytes())
    content[40:44] = size.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content[: len(content) - cut])
    assert len(load_audio(tmp_path / "a.wav")) == 8_000 - cut


def test_an_open_file_is_read_like_its_path(tmp_path):
    for name in ("a.wav", "a.mp3"):
        soundfile.write(tmp_path / name, tone(rng), 16_000)
        expected = load_audio(tmp_path / name)
        with open(tmp_path / name, "rb") as file:
            assert torch.equal(load_audio(file), expected)
        assert torch.equal(load_audio(io.BytesIO((tmp_path / name).read_bytes())), expected)
    with pytest.raises(AudioError, match="file: neither libsndfile nor FFmpeg"):
        load_audio(io.BytesIO(b"this is no audio" * 99))


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


KINDS = {
    "missing": "missing",
    "empty": "empty",
    "text": "unreadable",
    "no samples": "empty",
    "nan": "samples",
    "huge": "samples",
    "truncated": "truncated",
    "folder": "folder",
    "raw": "unreadable",
    "long name": "missing",
}


@pytest.mark.parametrize("kind", KINDS)
def test_an_unusable_file_is_named_with_the_cure(tmp_path, kind):
    path = bad_file(tmp_path, kind)
    with pytest.raises(AudioError) as error:
        load_audio(path)
    assert error.value.kind == KINDS[kind]
    assert str(path) in str(error.value)
    assert ";" in str(error.value) or ":" in str(error.value).removeprefix(str(path))


@pytest.mark.parametrize("extra", [1, 50, 200, 400])
def test_no_block_is_empty(tmp_path, extra, monkeypatch):
    monkeypatch.setattr(audio, "BLOCK_SECONDS", 0.5)
    soundfile.write(tmp_path / "a.wav", hiss(rng, 2)[:22_050].repeat(2)[: 44_100 + extra - 22_050], 22_050)
    blocks = list(stream_audio(tmp_path / "a.wav", 16_000))
    assert min(map(len, blocks)) > 0
    assert torch.allclose(torch.from_numpy(np.concatenate(blocks)), load_audio(tmp_path / "a.wav"), atol=1e-5)


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


def test_fit_length_cuts_in_the_middle_and_repeats():
    assert fit_length(torch.arange(10), 4).tolist() == [3, 4, 5, 6]
    assert fit_length(torch.arange(3), 7).tolist() == [0, 1, 2, 0, 1, 2, 0]
