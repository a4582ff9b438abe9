"""The scorer of one file: it needs three packages, says what the package says, and refuses what is not a detector."""

import json
import math
import re
import shutil
import subprocess
import sys
from importlib.metadata import packages_distributions

import numpy as np
import onnx
import pytest
import soundfile
from conftest import RATE, ROOT, broken_by_silence, hiss, tone

from dfa_utils import inference
from dfa_utils.audio import resample_blocks
from dfa_utils.windows import cut_windows, find_sounds, in_pieces
from web import without_torch

TOY = sorted((ROOT / "data" / "toy").rglob("*.wav"))
NEEDED = {"numpy", "onnxruntime", "soundfile", "_soundfile", "_soundfile_data"}
NEEDED |= {"cffi", "_cffi_backend", "pycparser", "typing_extensions"}  # which soundfile requires
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def detector(exported):
    return without_torch.Detector(exported)


def voices(seconds):
    """Toy voices, one after the other: [T] float32 at 16 kHz."""
    return np.concatenate([soundfile.read(path, dtype="float32")[0] for path in TOY])[: int(seconds * RATE)]


@pytest.fixture(scope="module")
def recordings(tmp_path_factory):
    """Recordings of many rates and formats, with pauses, several channels, and without speech."""
    folder, rng = tmp_path_factory.mktemp("recordings"), np.random.default_rng(0)
    pauses = np.concatenate([np.zeros(9_000), voices(2.5), np.zeros(40_000), voices(0.7), np.zeros(500)])
    two = np.stack([voices(3), 0.3 * voices(6)[-3 * RATE :]], axis=1)
    sounds = {f"{rate}.wav": (voices(3), rate) for rate in (8_000, 11_025, 15_999, 22_050, 44_100, 48_000, 96_000)}
    sounds |= {"pauses.flac": (pauses, RATE), "two.mp3": (two, 44_100), "vorbis.ogg": (two, 24_000)}
    sounds |= {"against.wav": (np.stack([voices(3), -voices(3)], axis=1), 44_100)}
    sounds |= {"short.wav": (voices(0.2), RATE), "noise.wav": (hiss(rng, 2), RATE), "tone.wav": (tone(rng, 2), 44_100)}
    for name, (samples, rate) in sounds.items():
        soundfile.write(folder / name, samples, rate)
    return [folder / name for name in sounds]


def assert_equal(ours, theirs):
    assert ours.score == pytest.approx(theirs.score, abs=TOLERANCE)
    assert ours.scores == pytest.approx(theirs.scores, abs=5 * TOLERANCE)
    assert (ours.label, ours.reason, ours.seconds) == (theirs.label, theirs.reason, theirs.seconds)
    if theirs.reason:
        assert (ours.likelihood_ratio, ours.support) == (theirs.likelihood_ratio, theirs.support) == (None, "")
    else:
        assert ours.likelihood_ratio == pytest.approx(theirs.likelihood_ratio, rel=0.01)
        assert without_torch.in_words(theirs.likelihood_ratio) == theirs.support
    assert ours.times.tolist() == theirs.times.tolist()
    assert ours.ends == pytest.approx(theirs.ends)
    assert ours.suspicious == (theirs.suspicious and pytest.approx(theirs.suspicious))


def test_it_says_what_the_package_says(detector, python, recordings):
    for path in [*recordings, *TOY[::8]]:
        assert_equal(detector.predict(path), python.predict(path))


def test_long_recordings_are_cut_in_the_same_way(detector, python, tmp_path, monkeypatch):
    soundfile.write(tmp_path / "long.wav", np.concatenate([voices(7), np.zeros(3 * RATE), voices(6.5)]), RATE)
    in_one_piece = detector.predict(tmp_path / "long.wav")
    for module in (without_torch, inference):  # so that the recording has five pieces
        monkeypatch.setattr(module, "PIECE_SECONDS", 3)
    ours = detector.predict(tmp_path / "long.wav")
    assert_equal(ours, python.predict(tmp_path / "long.wav"))
    assert len(ours.times) < len(in_one_piece.times)


def test_windows_are_those_of_the_package():
    size, hop, piece = 300, 170, 1_000
    for samples in broken_by_silence(np.random.default_rng(1), 150):
        ours = without_torch.cut_windows(samples, without_torch.find_sounds(samples, size, piece), size, hop)
        theirs, before = [], 0
        for part in in_pieces([samples], piece):
            cut = cut_windows(part, find_sounds(part, size), size, hop)
            theirs += [(before + start, window.tolist()) for start, window in cut]
            before += len(part)
        ours = list(ours)
        assert [(start, window.tolist()) for start, _, window in ours] == theirs
        assert all(start < end <= min(start + size, len(samples)) for start, end, _ in ours)


@pytest.mark.parametrize("rate", [4_000, 11_025, 44_100, 44_101, 192_000])
def test_resampling_is_that_of_the_package(rate):
    samples = hiss(np.random.default_rng(0), 0.4)
    theirs = np.concatenate(list(resample_blocks([(samples, rate)], RATE)))
    np.testing.assert_allclose(without_torch.resample(samples, rate, RATE), theirs, atol=1e-6)


def test_it_needs_three_packages_and_one_file(exported, python, recordings, tmp_path):
    copy = shutil.copy(ROOT / "web" / "without_torch.py", tmp_path / "copied.py")
    forbidden = sorted({"torch", "dfa_utils", *packages_distributions()} - NEEDED)
    code = f"import sys, runpy; sys.modules.update(dict.fromkeys({forbidden})); runpy.run_path({str(copy)!r}, run_name="
    (tmp_path / "text.wav").write_text("no audio")
    command = [sys.executable, "-I", "-c", f"{code}'__main__')", exported, *recordings[:3], tmp_path / "text.wav"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "")
    *lines, last = done.stdout.splitlines()
    for line, path in zip(lines, recordings[:3], strict=True):
        theirs = python.predict(path)
        score = re.search(r"score ([\d.]+)", line)
        assert line.startswith(f"{path}: {theirs.label} ({theirs.reason or 'score '}")
        assert theirs.reason or float(score[1]) == pytest.approx(theirs.score, abs=2 * TOLERANCE)
    assert last.startswith(f"{tmp_path / 'text.wav'}: error: ")


def test_it_says_how_it_is_used_and_stops_at_a_bad_detector(tmp_path):
    for arguments, words in ([], "DETECTOR.onnx FILE"), (["gone.onnx", "a.wav"], "error: gone.onnx: cannot be read"):
        command = [sys.executable, ROOT / "web" / "without_torch.py", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert words in done.stderr
        assert done.stderr.count("\n") == 1


def test_a_file_that_cannot_be_judged_gets_one_sentence(detector, tmp_path, capsys, exported):
    (tmp_path / "text.wav").write_text("no audio")
    (tmp_path / "empty.wav").touch()
    soundfile.write(tmp_path / "whole.wav", voices(1), RATE)
    (tmp_path / "cut.wav").write_bytes((tmp_path / "whole.wav").read_bytes()[:-5_000])
    soundfile.write(tmp_path / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(tmp_path / "nothing.wav", np.zeros(0), RATE)
    soundfile.write(tmp_path / "absurd.wav", np.full(RATE, np.nan), RATE, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", voices(1), 3_000)
    soundfile.write(tmp_path / "hours.flac", np.zeros(121 * 60 * 4_000, "int16"), 4_000)
    words = {
        "text": "convert it to wav",
        "empty": "convert it",
        "cut": "cut off",
        "silent": "silent",
        "gone": "missing",
    }
    words |= {"nothing": "no samples", "absurd": "NaN", "slow": "3000 Hz", "hours": "too long"}
    paths = [next(tmp_path.glob(f"{name}.*"), tmp_path / f"{name}.wav") for name in words]
    assert without_torch.main(str(exported), *map(str, [*paths, tmp_path, tmp_path / "whole.wav"])) == 1
    *lines, folder, last = capsys.readouterr().out.splitlines()
    for line, path, word in zip(lines, paths, words.values(), strict=True):
        assert line.startswith(f"{path}: error: ")
        assert word in line
    assert folder.startswith(f"{tmp_path}: error: ")
    assert last.startswith(f"{tmp_path / 'whole.wav'}: ")
    assert "error" not in last


@pytest.mark.parametrize("end", ["mp3", "ogg", "flac"])
def test_what_libsndfile_reads_in_part_is_refused_and_tags_are_no_part(detector, tmp_path, end):
    soundfile.write(tmp_path / f"one.{end}", voices(2), RATE)
    one, tags = (tmp_path / f"one.{end}").read_bytes(), b"APETAGEX" + bytes(range(256)) * 9 + b"TAG" + bytes(125)
    (tmp_path / f"two.{end}").write_bytes(2 * one)
    with pytest.raises(ValueError, match=r"only its first part; convert it to wav: ffmpeg -i FILE OUT\.wav"):
        detector.predict(tmp_path / f"two.{end}")
    if end != "ogg":  # which ends with its last page
        (tmp_path / f"tagged.{end}").write_bytes(one + tags)
        tagged, plain = (detector.predict(tmp_path / f"{name}.{end}") for name in ("tagged", "one"))
        assert (tagged.score, tagged.seconds) == (plain.score, plain.seconds)


def test_a_wav_may_lack_a_byte_and_not_a_second(detector, tmp_path):
    soundfile.write(tmp_path / "a.wav", voices(3), RATE)
    whole = (tmp_path / "a.wav").read_bytes()
    for missing, held in ((1, 3), (2 * RATE // 11, 3 - 1 / 11)):
        (tmp_path / "a.wav").write_bytes(whole[:-missing])
        assert detector.predict(tmp_path / "a.wav").seconds == pytest.approx(held, abs=1e-3)
    (tmp_path / "a.wav").write_bytes(whole[: -2 * RATE // 9])
    with pytest.raises(ValueError, match="cut off"):
        detector.predict(tmp_path / "a.wav")


def test_a_wav_from_a_pipe_is_read_to_its_end_and_what_is_read_in_part_is_refused(detector, python, tmp_path):
    path = tmp_path / "a.wav"
    soundfile.write(path, voices(3), RATE)
    content = bytearray(path.read_bytes())
    for size in (0, 0xFFFFFFFF, RATE):
        content[40:44] = size.to_bytes(4, "little")
        path.write_bytes(content)
        if size == RATE:  # half a second
            with pytest.raises(ValueError, match="its header tells of less sound than it holds; open it in an editor"):
                detector.predict(path)
        else:
            assert_equal(detector.predict(path), python.predict(path))


def test_a_hole_in_an_ogg_and_a_cut_off_aiff_are_refused(detector, tmp_path):
    for name in ("a.ogg", "a.aiff"):
        soundfile.write(tmp_path / name, np.tile(voices(20), 2), RATE)
    content = (tmp_path / "a.ogg").read_bytes()
    third = len(content) // 3
    (tmp_path / "a.ogg").write_bytes(content[:third] + bytes(third) + content[2 * third :])
    (tmp_path / "a.aiff").write_bytes((tmp_path / "a.aiff").read_bytes()[:-10_000])
    for name, words in (("a.ogg", "damaged: a part of it cannot be read"), ("a.aiff", "cut off")):
        with pytest.raises(ValueError, match=words):
            detector.predict(tmp_path / name)


def graph(path, outputs, metadata):
    """A valid graph that gives its input [B, T] by other names, with these metadata."""
    helper = onnx.helper
    values = [
        helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["B", "T"]) for name in ("waveform", *outputs)
    ]
    nodes = [helper.make_node("Identity", ["waveform"], [name]) for name in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "g", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(model, metadata)
    path.write_bytes(model.SerializeToString())


GOOD = {"format": 2, "sample_rate": 16_000, "clip_samples": 100, "hop_samples": 50, "limit": 0.0}
GOOD |= {"threshold": 0.5, "uncertain": None, "fingerprint": "a", "calibration": [1, 0, 0.5], "evidence": [9, 9]}


@pytest.mark.parametrize(
    "text",
    [
        None,
        "no JSON",
        "[" * 100_000,
        *map(json.dumps, ([], {}, GOOD, GOOD | {"format": 1}, GOOD | {"format": 3}, GOOD | {"format": "2"})),
        *(json.dumps(GOOD | {"calibration": value}) for value in (None, [1, 0], [1, 0, -1], [1, math.nan, 0], "abc")),
        *(json.dumps(GOOD | {"evidence": value}) for value in ([9], [0, 9], [9, "x"], 9)),
        *(json.dumps(GOOD | {"sample_rate": value}) for value in (0, 1e300, True, "16000")),
        *(json.dumps(GOOD | {"clip_samples": value}) for value in (0, 10**7, 10**400, 99.5)),
        *(json.dumps(GOOD | {"hop_samples": value}) for value in (-1, "50", None, 10**7)),
        *(json.dumps(GOOD | {"threshold": value}) for value in ("high", None, math.inf, 10**400)),
        *(json.dumps(GOOD | {"uncertain": value}) for value in ([0.5, 0.2], [0.5], [math.nan, 0.5], "ab", 1)),
        *(json.dumps(GOOD | {"limit": value}) for value in (None, math.nan, [])),
    ],
)
def test_a_graph_that_is_no_detector_is_refused(tmp_path, text):
    for outputs in (["score"], ["score", "logit", "measures"]):  # the second lacks nothing but the shapes
        graph(tmp_path / "a.onnx", outputs, {} if text is None else {"dfa_utils": text})
        with pytest.raises(
            ValueError, match=r"a\.onnx: damaged, or not a detector .*; export it again \(.*\)$"
        ) as error:
            without_torch.Detector(tmp_path / "a.onnx")
        assert len(str(error.value).splitlines()) == 1
        assert len(str(error.value)) < 400


def test_a_damaged_or_missing_file_is_refused(exported, tmp_path):
    content = exported.read_bytes()
    for damaged in (b"", b"no graph", content[: len(content) // 2], bytes(1_000)):
        (tmp_path / "a.onnx").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"a\.onnx: .*export it again"):
            without_torch.Detector(tmp_path / "a.onnx")
    for missing in (tmp_path / "gone.onnx", tmp_path):
        with pytest.raises(ValueError, match=r"cannot be read .*check the path"):
            without_torch.Detector(missing)
