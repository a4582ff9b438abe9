import io
import os
import re
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from conftest import hiss, tone

from dfa_utils import Detector, inference
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import save_checkpoint
from dfa_utils.inference import Prediction
from dfa_utils.layouts import expand
from dfa_utils.models import build_model
from dfa_utils.speech import SpeechCheck
from dfa_utils.train import fit

rng = np.random.default_rng(0)


@pytest.fixture(scope="module")
def detector(tiny_config, tiny_manifest, tmp_path_factory):
    run = fit(replace(tiny_config, epochs=8), tiny_manifest, tmp_path_factory.mktemp("run") / "a")
    loaded = Detector.load(run.folder)
    return Detector(loaded.model, loaded.info)  # what it learns to tell apart is no speech


def test_it_tells_the_two_classes_apart(detector):
    assert detector.predict(tone(rng)).label == "real"
    assert detector.predict(hiss(rng)).label == "fake"


def test_label_and_score_agree_with_the_threshold(detector):
    result = detector.predict(hiss(rng))
    assert (result.label == "fake") == (result.score >= result.threshold)
    assert 0 <= result.score <= 1


def test_a_recordings_score_is_that_of_its_mean_logit(tiny_config):
    wave = np.concatenate([tone(rng, 2), hiss(rng, 1)])
    detector = Detector(build_model(config=tiny_config), {"calibration": [3.0, -0.4]})
    result = detector.predict(wave)
    logits = np.log(result.scores / (1 - result.scores))
    assert len(logits) > 5
    assert result.score == pytest.approx(1 / (1 + np.exp(-logits.mean())), abs=1e-9)
    plain = Detector(detector.model, {}).predict(wave)
    assert plain.score == pytest.approx(1 / (1 + np.exp(-(logits.mean() + 0.4) / 3)), abs=1e-9)


def test_an_offset_changes_no_score_with_silence_around_the_speech(detector):
    wave = np.concatenate([np.zeros(4_321, "float32"), hiss(rng, 0.3), np.zeros(3_000, "float32")])
    plain, moved = detector.predict(wave), detector.predict(wave + np.float32(0.01))
    assert moved.times.tolist() == plain.times.tolist()
    assert moved.score == pytest.approx(plain.score, abs=1e-3)


def test_file_and_array_give_the_same(detector, tmp_path):
    wave = tone(rng, seconds=1.3)
    soundfile.write(tmp_path / "a.wav", wave, 16_000, subtype="FLOAT")
    from_file, from_array = detector.predict(tmp_path / "a.wav"), detector.predict(wave)
    assert from_file.score == pytest.approx(from_array.score, abs=1e-6)
    assert from_file.seconds == pytest.approx(1.3)
    assert str(tmp_path / "a.wav") in str(from_file)


def test_another_sample_rate_is_resampled(detector):
    t = np.arange(44_100) / 44_100
    result = detector.predict(0.3 * np.sin(2 * np.pi * 300 * t), sample_rate=44_100)
    assert result.seconds == pytest.approx(1, abs=1e-3)


def test_a_long_recording_is_judged_over_time(detector):
    wave = np.concatenate([tone(rng, 3), hiss(rng, 3), np.zeros(48_000, "float32")])
    result = detector.predict(wave)
    assert result.seconds == pytest.approx(9)
    assert result.times.max() < 6  # the silent end is not judged
    assert (
        result.scores[result.times < 2.5].mean() < 0.5 < result.scores[(result.times > 3) & (result.times < 5.5)].mean()
    )


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros(16_000, "float32"),
        np.zeros(0, "float32"),
        np.zeros((2, 16_000), "float32"),
        np.full(100, np.nan, "float32"),
        rng.normal(size=16_000) * 1e39,  # infinite as float32
        np.full(16_000, 1e25, "float32"),
        np.zeros(100, "int16"),
    ],
)
def test_samples_that_cannot_be_judged_are_refused(detector, bad):
    with pytest.raises(AudioError):
        detector.predict(bad)


@pytest.mark.parametrize("rate", [0, 1, 3_999, -16_000, 44_100.5])
def test_a_sample_rate_that_no_speech_has_is_refused(detector, rate):
    with pytest.raises(AudioError, match="sample rate must be a whole number from 4000 to 768000 Hz") as error:
        detector.predict(tone(rng), sample_rate=rate)
    assert error.value.kind == "rate"
    assert detector.predict(tone(rng), sample_rate=16_000.0).seconds == 0.5


def test_what_gives_no_finite_score_gets_no_verdict(detector):
    good = torch.from_numpy(tone(rng))
    results = dict(detector.predict_recordings([("bad", [good * float("nan")]), ("good", [good])]))
    assert isinstance(results["bad"], AudioError)
    assert results["good"].score == detector.predict(good).score


def test_a_bad_file_does_not_stop_the_others(detector, tmp_path):
    (tmp_path / "bad.wav").write_text("no audio")
    soundfile.write(tmp_path / "good.wav", tone(rng), 16_000)
    results = dict(detector.predict_files([tmp_path / "bad.wav", tmp_path / "good.wav"]))
    assert isinstance(results[str(tmp_path / "bad.wav")], AudioError)
    assert isinstance(results[str(tmp_path / "good.wav")], Prediction)


def test_memory_does_not_grow_with_the_length(detector, tmp_path):
    save_checkpoint(tmp_path / "d.safetensors", detector.model, detector.info)
    code = "import resource, sys; from dfa_utils import Detector, inference; inference.PIECE_SECONDS = 15; " \
           "Detector.load(sys.argv[1]).predict(sys.argv[2]); " \
           "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"  # fmt: skip

    def peak_kilobytes(seconds):
        soundfile.write(tmp_path / "a.wav", np.tile(hiss(rng, 10), seconds // 10), 16_000)
        command = [sys.executable, "-c", code, str(tmp_path / "d.safetensors"), str(tmp_path / "a.wav")]
        return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

    assert peak_kilobytes(900) < peak_kilobytes(60) + 25_000  # the samples alone would take 54,000


def test_a_tensor_is_as_good_as_an_array(detector):
    wave = tone(rng)
    assert detector.predict(torch.from_numpy(wave)).score == detector.predict(wave).score
    coarse = torch.from_numpy(wave).bfloat16()
    assert detector.predict(coarse).score == detector.predict(coarse.float()).score


WAVE = tone(np.random.default_rng(1), 1.0)
TWO = np.stack([WAVE, 0.5 * WAVE], axis=1)  # [T, 2]
INT16 = (WAVE * 32_767).astype("int16")
SAMPLES = {
    "a tensor [1, T] of torchaudio.load": ((torch.from_numpy(WAVE)[None], 16_000), WAVE),
    "an array [T, 1]": ((WAVE[:, None], np.int64(16_000)), WAVE),
    "a list": ((WAVE.tolist(),), WAVE),
    "float16": ((WAVE.astype("float16"),), WAVE.astype("float16").astype("float32")),
    "bfloat16": ((torch.from_numpy(WAVE).bfloat16(),), torch.from_numpy(WAVE).bfloat16().float()),
    "int16": ((INT16,), INT16 / 2**15),
    "a tensor of int16": ((torch.from_numpy(INT16)[None],), INT16 / 2**15),
    "int32": (((INT16.astype("int32") << 16),), INT16 / 2**15),
    "int8": (((INT16 >> 8).astype("int8"),), (INT16 >> 8) / 2**7),
    "uint8": ((((INT16 >> 8) + 128).astype("uint8"),), (INT16 >> 8) / 2**7),
    "Gradio's pair": (((16_000, INT16),), INT16 / 2**15),
    "Gradio's pair, stereo": (((16_000, TWO),), 0.75 * WAVE),
    "the dict of datasets": (({"array": WAVE, "sampling_rate": 16_000, "path": None},), WAVE),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_are_taken_as_other_packages_give_them(detector, name):
    arguments, truth = SAMPLES[name]
    with warnings.catch_warnings(action="error"):
        found = detector.predict(*arguments)
    expected = detector.predict(np.asarray(truth, "float32"))
    assert found.score == pytest.approx(expected.score, abs=1e-5)
    assert found.seconds == expected.seconds


def test_samples_that_bring_their_rate_are_resampled_from_it(detector):
    expected = detector.predict(WAVE, sample_rate=8_000)
    assert expected.seconds == pytest.approx(2)
    for source in ((8_000, WAVE), {"array": WAVE, "sampling_rate": 8_000}):
        assert detector.predict(source).scores.tolist() == expected.scores.tolist()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((None,), "got NoneType, expected a file"),
        ((0.5,), "got float, expected a file"),
        ((["a.wav", "b.wav"],), "predict_files takes several files"),
        (([[0.1, 0.2], [0.1]],), "expected a file"),
        (({"bytes": b"", "path": "a.wav"},), "expected a file"),
        ((INT16.astype("int64"),), r"ndarray of int64 \(16000,\), expected .* floats in \[-1, 1\]"),
        ((WAVE > 0,), "got ndarray of bool"),
        ((np.zeros(0, "float32"),), r"float32 \(0,\)"),
        ((TWO.T,), r"\(2, 16000\), expected one channel .*average the channels: samples\.mean\(0\)"),
        ((TWO,), r"average the channels: samples\.mean\(1\)"),
        (((16_000, TWO.T),), r"average the channels: samples\.mean\(0\)"),
        ((WAVE, "16000"), "must be a number of Hz such as 16000, got '16000'"),
        (({"array": WAVE, "sampling_rate": None},), "must be a number of Hz such as 16000, got None"),
    ],
)
def test_what_is_no_recording_is_refused_with_the_cure(detector, arguments, words):
    with pytest.raises(AudioError, match=words) as error:
        detector.predict(*arguments)
    assert len(str(error.value).splitlines()) == 1
    assert len(str(error.value)) < 250


def test_a_sample_rate_beside_a_source_that_has_its_own_is_refused(detector, clips):
    path = clips / "01.wav"
    sources = (path, path.read_bytes(), io.BytesIO(path.read_bytes()), (16_000, WAVE))
    for source in (*sources, {"array": WAVE, "sampling_rate": 16_000}):
        with pytest.raises(AudioError, match="has a sample rate of its own; leave out the 8000 Hz") as error:
            detector.predict(source, 8_000)
        assert error.value.kind == "rate"
        assert str(error.value).startswith(str(path) if source is path else "source")
    assert detector.predict({"array": WAVE}, 8_000).seconds == 2


def test_a_file_is_taken_open_or_as_its_bytes(detector, clips):
    path = clips / "01.wav"
    content, expected = path.read_bytes(), detector.predict(path).score
    named = io.BytesIO(content)
    named.name = "upload.wav"
    with path.open("rb") as file:
        sources = {str(path): file, "upload.wav": named}
        found = detector.predict_files(sources.values())
        assert {name: result.score for name, result in found} == dict.fromkeys(sources, expected)
    for source in (io.BytesIO(content), content, bytearray(content), memoryview(content)):
        for [(name, found)] in (detector.predict_files(source), detector.predict_files([source])):
            assert (name, found.score) == ("file", expected)
        assert detector.predict(content).score == expected


def test_what_is_no_binary_file_is_refused_with_the_cure(detector, clips):
    with (clips / "30 text.wav").open() as text:
        for bad, words in ((text, r"30 text\.wav: opened as text; .*'rb'"), (None, "NoneType is not a file")):
            with pytest.raises(AudioError, match=words):
                list(detector.predict_files([bad]))
    [(_, found)] = detector.predict_files([b"no audio"])
    assert str(found).startswith("file: ")


def test_a_folder_is_refused_as_a_folder(detector, clips):
    [(name, found)] = detector.predict_files(str(clips))
    assert (name, found.kind) == (str(clips), "folder")


def said(score, scores=None, band=(0.2, 0.6), **more):
    """A prediction whose windows of 2 s begin a second apart."""
    scores = np.array([score] if scores is None else scores)
    times = np.arange(len(scores), dtype=float)
    return Prediction("a.wav", score, 0.5, len(scores) + 1.0, len(scores) + 1.0, times, times + 2, scores, band, **more)


@pytest.mark.parametrize(
    ("score", "band", "words"),
    [
        (0.1, (0.2, 0.6), "real (score 0.1000 < 0.2000, 2.00 s)"),
        (0.2, (0.2, 0.6), "uncertain (score 0.2000 is between 0.2000 and 0.6000, where errors are frequent, 2.00 s)"),
        (0.3, (0.2, 0.6), "uncertain (score 0.3000 is between 0.2000 and 0.6000, where errors are frequent, 2.00 s)"),
        (0.6, (0.2, 0.6), "fake (score 0.6000 >= 0.6000, 2.00 s)"),
        (0.1, None, "real (score 0.1000 < threshold 0.5000, 2.00 s)"),
        (0.5, None, "fake (score 0.5000 >= threshold 0.5000, 2.00 s)"),
    ],
)
def test_an_answer_names_the_bound_that_decided(score, band, words):
    assert str(said(score, band=band)) == f"a.wav: {words}"


def test_batches_across_files_change_nothing(detector, clips):
    paths = list(expand([clips]))
    together = list(detector.predict_files(paths, batch_size=7))
    assert [path for path, _ in together] == [str(path) for path in paths]
    for path, result in together:
        if isinstance(result, AudioError):
            with pytest.raises(AudioError, match=re.escape(str(result))):
                detector.predict(path)
        else:
            alone = detector.predict(path)
            assert result.scores == pytest.approx(alone.scores, abs=1e-6)
            assert (result.seconds, result.times.tolist()) == (alone.seconds, alone.times.tolist())


def test_a_file_that_breaks_off_late_does_not_disturb_its_neighbours(detector, clips, tmp_path, monkeypatch):
    original = inference.stream_audio

    def stream(path, rate):
        yield from original(path, rate)
        if str(path).endswith("02.wav"):
            raise AudioError("damaged at the end")

    monkeypatch.setattr(inference, "stream_audio", stream)
    results = dict(detector.predict_files(sorted(clips.glob("0?.wav"))))
    assert [isinstance(result, AudioError) for result in results.values()] == [i == 2 for i in range(10)]


def test_results_come_before_all_files_are_read(detector, clips):
    read = []
    paths = (read.append(path) or path for path in clips.glob("0?.wav"))
    next(iter(detector.predict_files(paths, batch_size=2)))
    assert len(read) < 6


def test_many_bad_files_do_not_pile_up(detector, clips, tmp_path):
    read, bad = [], [tmp_path / f"{i}.wav" for i in range(100)]
    paths = (read.append(path) or path for path in [clips / "01.wav", *bad])
    results = detector.predict_files(paths, batch_size=4)
    assert next(results)[0] == str(clips / "01.wav")
    assert len(read) < 10
    assert [isinstance(result, AudioError) for _, result in results] == [True] * 100


def test_a_model_that_was_not_loaded_is_scored_as_it_is_now(tiny_config, clips):
    detector = Detector(build_model(config=tiny_config), {})
    before = detector.predict(clips / "01.wav").score
    with torch.no_grad():
        detector.model.back_end.head.bias += torch.tensor([0.0, 1.0])
    assert detector.predict(clips / "01.wav").score > before + 0.01


def test_a_loaded_model_is_fused_once_and_gives_the_same(detector, clips, tmp_path, monkeypatch):
    save_checkpoint(tmp_path / "a.safetensors", detector.model, detector.info)
    calls, original = [], inference.fuse_for_scoring
    monkeypatch.setattr(inference, "fuse_for_scoring", lambda model: calls.append(1) or original(model))
    loaded = Detector.load(tmp_path / "a.safetensors")
    for path in sorted(clips.glob("0?.wav")):
        assert loaded.predict(path).score == pytest.approx(detector.predict(path).score, abs=1e-5)
    assert len(calls) == 1


class Pathlike:
    """A path as other packages make them."""

    def __init__(self, path):
        self.path = str(path)

    def __fspath__(self):
        return self.path


def test_one_path_is_enough_and_any_kind_of_path_will_do(detector, clips):
    path = clips / "01.wav"
    expected = detector.predict(path).score
    for one in (path, str(path), Pathlike(path)):
        for given in (one, [one], iter([one])):
            [(name, result)] = detector.predict_files(given)
            assert (name, result.score) == (str(path), expected)
        assert detector.predict(one).score == expected


def test_predictions_can_be_compared_and_collected(detector):
    wave = tone(rng, 1)
    first, again, other = (detector.predict(each) for each in (wave, wave, hiss(rng, 1)))
    assert again in [first, again]
    assert first != other
    assert {first: "a", other: "b"}[other] == "b"


def change(model, **settings):
    model.config = replace(model.config, **settings)


CHANGES = {
    "a weight": lambda model, info: model.back_end.head.weight.data.add_(1e-3),
    "a running mean": lambda model, info: model.back_end.stem[1].running_mean.add_(1e-3),
    "how it is cut": lambda model, info: change(model, hop_seconds=0.3),
    "the front end": lambda model, info: change(model, mean_subtraction="band"),
    "the calibration": lambda model, info: info.update(calibration=[1.0, 0.1]),
    "the half of the calibration": lambda model, info: info.update(calibration=[0.9, 0.1, 0.5]),
    "the clips behind it": lambda model, info: info.update(evidence=[100, 100]),
    "the threshold": lambda model, info: info.update(threshold=0.4),
    "a bound": lambda model, info: info.update(uncertain=[0.2, 0.7]),
}


def parts(tiny_config):
    """A model and its info."""
    info = {"calibration": [0.9, 0.1], "threshold": 0.5, "uncertain": [0.2, 0.6]}
    return build_model(config=replace(tiny_config, seed=1)), info


def test_the_fingerprint_changes_with_all_that_a_verdict_depends_on(tiny_config):
    prints = {"nothing": Detector(*parts(tiny_config)).fingerprint}
    for name, make in CHANGES.items():
        model, info = parts(tiny_config)
        make(model, info)
        prints[name] = Detector(model, info).fingerprint
    assert len(set(prints.values())) == len(prints), prints
    assert Detector(*parts(tiny_config)).fingerprint == prints["nothing"]


def test_the_fingerprint_does_not_follow_the_processor(tiny_config):
    model, info = parts(tiny_config)
    before = Detector(model, info).fingerprint
    model.front_end.mel.mel_scale.fb.mul_(1 + 1e-6)  # what other kernels make of the same settings
    model.front_end.mel.spectrogram.window.mul_(1 - 1e-6)
    assert Detector(model, info).fingerprint == before
    code = "from dfa_utils import Detector; print(Detector.load().fingerprint)"
    plain = os.environ | {"ATEN_CPU_CAPABILITY": "default"}
    done = subprocess.run([sys.executable, "-c", code], env=plain, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == Detector.load().fingerprint


def test_threads_share_one_detector(detector, clips):
    paths = sorted(clips.glob("*.wav"))[:24]
    alone = [detector.predict(path).score for path in paths if path.stat().st_size]
    fresh = Detector(detector.model, detector.info, SpeechCheck.load())
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            found = pool.map(fresh.predict, [path for path in paths if path.stat().st_size])
            assert [result.score for result in found] == alone


@pytest.mark.parametrize(
    ("score", "ratio", "words"),
    [
        (0.5, 1, "about as likely if synthetic as if genuine: no support for either"),
        (0.75, 3, "about 3 times more likely if synthetic: weak support"),
        (0.25, 1 / 3, "about 3 times more likely if genuine: weak support"),
        (0.98, 49, "about 49 times more likely if synthetic: moderate support"),
        (0.999, 400, "about 400 times more likely if synthetic: moderately strong support"),
        (1.0, 400, "about 400 times more likely if synthetic: moderately strong support"),
        (0.0, 1 / 5_000, "about 5,000 times more likely if genuine: strong support"),
    ],
)
def test_evidence_is_weighed_by_the_odds_as_far_as_the_clips_allow(score, ratio, words):
    found = said(score, evidence=(399, 4_999))
    assert found.likelihood_ratio == pytest.approx(ratio)
    assert found.support == words
    assert f"; {words})" in str(found)


def test_without_clips_or_with_a_reason_there_is_no_ratio():
    for found in (said(0.9), said(0.9, evidence=(9, 9), reason="no clear speech in it")):
        assert (found.likelihood_ratio, found.support) == (None, "")
        assert "likely" not in str(found)


def test_the_longest_row_of_windows_called_fake_is_named():
    scores = [0.9, 0.1, 0.6, 0.7, 0.9, 0.5, 0.8, 0.9]
    assert said(0.3, scores).suspicious == (2.0, 6.0)
    assert "; suspicious from 2.0 to 6.0 s)" in str(said(0.3, scores))
    assert said(0.3, scores, band=None).suspicious == (2.0, 9.0)  # from the threshold on
    assert said(0.3, [0.1, 0.5]).suspicious is None
    assert said(0.9, scores, reason="no clear speech in it").suspicious is None
    assert "suspicious" not in str(said(0.9))  # one window is the whole


def test_a_forged_part_of_a_recording_is_found(detector):
    """A hiss, the class that it was trained to call fake, within tones."""
    wave = np.concatenate([tone(rng, 3), hiss(rng, 1.4), tone(rng, 2), hiss(rng, 0.4), tone(rng, 1)])
    start, end = detector.predict(wave).suspicious
    assert (start, end) == pytest.approx((3, 4.4), abs=0.4)


def test_a_short_sound_counts_for_less(tiny_config):
    """Half of the weight of a long recording's logit, after `half` seconds of sound; windows by their own sound."""
    info = {"calibration": [2.0, 0.3, 0.5]}
    model = build_model(config=tiny_config)  # windows of 0.4 s
    wave = np.concatenate([hiss(rng, 0.25), np.zeros(9_000, "float32"), hiss(rng, 1.0)])
    found, plain = (Detector(model, each).predict(wave) for each in (info, {}))
    assert found.sound == pytest.approx(1.25, abs=1e-3)
    assert (found.ends - found.times)[[0, 1]] == pytest.approx([0.25, 0.4], abs=1e-3)
    logits = np.log(plain.scores / (1 - plain.scores))
    weights = (found.ends - found.times) / (found.ends - found.times + 0.5)
    assert found.scores == pytest.approx(1 / (1 + np.exp(-0.3 - 2 * logits * weights)), abs=1e-6)
    assert found.score == pytest.approx(1 / (1 + np.exp(-0.3 - 2 * logits.mean() * 1.25 / 1.75)), abs=1e-4)
    assert Detector(model, {"calibration": [2.0, 0.3]}).predict(wave).score == pytest.approx(
        1 / (1 + np.exp(-0.3 - 2 * logits.mean())), abs=1e-6
    )
