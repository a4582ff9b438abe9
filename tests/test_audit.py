import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import ROOT, hiss, tone
from scipy.signal import butter, sosfiltfilt

from dfa_utils import metrics
from dfa_utils.audio import has_ffmpeg
from dfa_utils.dataset import scan
from dfa_utils.datasets import audit, cues

rng = np.random.default_rng(0)
TOY = ROOT / "data" / "toy"


@pytest.fixture
def toy(tmp_path):
    """A copy of the fixture without its CSV, to plant traps in."""
    return Path(shutil.copytree(TOY, tmp_path / "toy", ignore=shutil.ignore_patterns("*.csv")))


def change(files, function):
    """Pass the samples of each file through function(samples [T], number of the file)."""
    for i, path in enumerate(sorted(files)):
        soundfile.write(path, np.clip(function(soundfile.read(path)[0], i), -1, 32767 / 32768), 16_000)


def fakes(root):
    return list(root.glob("*/fake/*.wav"))


def reals(root):
    return list(root.glob("*/real/*.wav"))


def rename(root, name):
    for label in ("real", "fake"):
        for split in ("training", "validation", "testing"):
            for i, path in enumerate(sorted((root / split / label).glob("*.wav"))):
                path.rename(path.with_name(name(label, i)))


def reencode(root, path, **how):
    """Write a file again in another format."""
    samples, rate = soundfile.read(path)
    path.unlink()
    soundfile.write(path.with_suffix("." + how.pop("suffix", "wav")), samples, rate, **how)


def first(root):
    return sorted((root / "training" / "real").glob("*.wav"))[0]


def cut(path):
    path.write_bytes(path.read_bytes()[:20_000])


def clip_hard(samples, i):
    return samples * 3 / np.abs(samples).max()


def quiet_start(samples, i):
    return np.r_[samples[:4000] * 0.0005, samples[4000:]]


def low_pass(samples, i):
    return sosfiltfilt(butter(12, 4000, fs=16_000, output="sos"), samples)


def noise(samples, i):
    return samples + 0.1 * samples.std() * np.random.default_rng(i).standard_normal(len(samples))


def twice(root):
    shutil.copy(first(root), root / "testing" / "real" / "copy.wav")


def softer(root):
    samples, rate = soundfile.read(first(root))
    soundfile.write(root / "testing" / "real" / "softer.wav", 0.5 * samples, rate)


TRAPS = {
    "1 empty": lambda root: first(root).write_bytes(b""),
    "1 unreadable": lambda root: first(root).write_text("no audio at all"),
    "1 truncated": lambda root: cut(first(root)),
    "1 silent": lambda root: change([first(root)], lambda samples, _: 0 * samples),
    "1 clipped": lambda root: change([first(root)], clip_hard),
    "1 short": lambda root: change([first(root)], lambda samples, _: samples[:4000]),
    "1 pairs of exact duplicates across splits": twice,
    "1 pairs of near-duplicates across splits": softer,
    "the codec": lambda root: [reencode(root, path, suffix="mp3") for path in fakes(root)],
    "the sample rate": lambda root: [change_rate(path) for path in fakes(root)],
    "the number of channels": lambda root: [stereo(path) for path in fakes(root)],
    "file names betray": lambda root: rename(root, lambda label, i: f"{'tts' if label == 'fake' else 'rec'}{i:03}.wav"),
    "numbered names of training": lambda root: rename(root, lambda label, i: f"{i + 100 * (label == 'fake'):04}.wav"),
    "RMS level": lambda root: change(reals(root), lambda samples, _: 0.1 * samples),
    "DC offset": lambda root: change(fakes(root), lambda samples, _: samples + 0.02),
    "duration": lambda root: change(fakes(root), lambda samples, _: samples[:28_000]),
    "leading silence": lambda root: change(fakes(root), quiet_start),
    "trailing silence": lambda root: change(fakes(root), lambda samples, i: quiet_start(samples[::-1], i)[::-1]),
    "band edge": lambda root: change(fakes(root), low_pass),
    "noise floor": lambda root: change(fakes(root), noise),
}


def change_rate(path):
    samples, _ = soundfile.read(path)
    soundfile.write(path, samples, 16_001)


def stereo(path):
    samples, rate = soundfile.read(path)
    soundfile.write(path, np.stack([samples, samples], axis=1), rate)


@pytest.mark.parametrize("verdict", TRAPS)
def test_each_trap_is_the_first_verdict(toy, verdict):
    TRAPS[verdict](toy)
    assert audit.audit(toy).verdicts[0].startswith(verdict)


def test_the_clean_fixture_has_no_trap():
    found = audit.audit(TOY)
    assert found.verdicts == []
    assert "no trap found" in str(found)
    assert found.problems.clips.sum() == 88


def test_labels_that_mean_nothing_get_no_cue_verdict():
    clips = audit.measure(scan(TOY))
    false_alarms = 0
    for seed in range(40):
        labels = np.random.default_rng(seed).permutation(clips.label)
        false_alarms += bool(audit._probe_verdicts(audit.probe(clips.assign(label=labels))))
    assert false_alarms <= 4  # 2 are to be expected


@pytest.mark.parametrize("kept", [["testing"], ["training"], ["training", "testing"], ["validation", "testing"]])
def test_splits_may_be_missing(toy, kept):
    for split in {"training", "validation", "testing"} - set(kept):
        shutil.rmtree(toy / split)
    found = audit.audit(toy)
    assert found.verdicts == []
    assert found.probes.loc["rms_db"].drop(["low", "high"]).notna().sum() == len(kept)


def test_a_class_that_is_broken_throughout_is_still_reported(toy):
    for path in (toy / "training" / "fake").glob("*.wav"):
        path.write_bytes(b"")
    assert audit.audit(toy).verdicts[0].startswith("20 empty files")


def test_columns_of_the_source_do_not_disturb(toy):
    manifest = scan(TOY, check=False).assign(codec="-", hash="x", seconds=0)
    measured = audit.measure(manifest)
    assert set(measured.codec) == {"WAV PCM_16"}
    assert (measured.seconds == 2).all()


def test_many_copies_are_pairs_with_the_first(toy):
    for i in range(5):
        shutil.copy(first(toy), toy / "training" / "real" / f"copy{i}.wav")
    twins = audit.audit(toy).twins
    assert len(twins) == 5
    assert twins.a.nunique() == 1


def test_unusable_files_are_no_duplicates(toy):
    for path in sorted((toy / "training" / "real").glob("*.wav"))[:3]:
        path.write_bytes(b"")
    assert audit.duplicates(audit.audit(toy).clips).empty


def test_numbers_before_a_constant_one_tell_sessions():
    stems = pd.Series([f"file{i}.wav_16k_2sec" for i in range(200)])
    assert audit._class_runs(stems, pd.Series([0] * 100 + [1] * 100)) == (2, 101)


def test_verdicts_carry_figure_and_cure(toy):
    TRAPS["RMS level"](toy)
    found = audit.audit(toy)
    assert "AUC" in found.verdicts[0]
    assert "normalise it" in found.verdicts[0]
    assert found.probes.loc["rms_db", "testing"] > 0.7


def test_the_interval_of_an_auc_is_delongs():
    labels, values = np.repeat([0, 1], 60), np.round(rng.normal(0, 1, 120) + np.repeat([0, 0.7], 60), 1)
    auc, low, high = audit.auc_interval(labels, values)
    assert auc == pytest.approx(metrics.roc_auc(labels, values))
    drawn = metrics.bootstrap_interval(metrics.roc_auc, labels, values, n=2000)
    assert (low, high) == pytest.approx(drawn, abs=0.02)
    assert audit.auc_interval([0, 0, 1, 1], [0, 0, 1, 1]) == (1, 1, 1)
    assert audit.auc_interval([0, 0, 1, 1], [1, 1, 1, 1])[0] == 0.5


def measured_one(tmp_path, wave, rate=16_000):
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    return pd.Series(cues.measure_clip(tmp_path / "a.wav"))


def test_level_peak_and_offset_of_a_known_sine(tmp_path):
    row = measured_one(tmp_path, 0.5 * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000) + 0.1)
    assert row.rms_db == pytest.approx(20 * np.log10(np.sqrt(0.125 + 0.01)), abs=0.01)
    assert row.peak_db == pytest.approx(20 * np.log10(0.6), abs=0.01)
    assert row.dc == pytest.approx(0.1, abs=1e-5)


def test_silence_at_both_ends_is_measured(tmp_path):
    row = measured_one(tmp_path, np.concatenate([np.zeros(1600), hiss(rng, 1.0), np.zeros(3200)]))
    assert (row.lead, row.trail) == pytest.approx((0.1, 0.2), abs=0.011)


@pytest.mark.parametrize("edge", [3000, 5000])
def test_the_band_edge_is_found(tmp_path, edge):
    wave = sosfiltfilt(butter(12, edge, fs=16_000, output="sos"), hiss(rng, 2.0))
    assert measured_one(tmp_path, wave).edge == pytest.approx(edge, abs=250)
    assert measured_one(tmp_path, hiss(rng, 2.0)).edge == 8000


def test_the_tilt_is_in_decibels_an_octave(tmp_path):
    wave = np.cumsum(hiss(rng, 2.0).astype(float))  # integrated white noise falls by 6 dB an octave
    assert measured_one(tmp_path, 0.1 * wave / np.abs(wave).max()).tilt == pytest.approx(-6, abs=0.8)


def test_the_header_is_the_files_own(tmp_path):
    row = measured_one(tmp_path, np.stack([tone(rng)] * 2, axis=1), 44_100)
    assert (row.sample_rate, row.channels, row.codec) == (44_100, 2, "WAV FLOAT")


def test_fingerprints_of_one_recording_agree_and_of_two_do_not(tmp_path):
    clips = scan(TOY)
    one, other = (soundfile.read(path)[0] for path in clips.path[:2])
    prints = [measured_one(tmp_path, wave).fingerprint for wave in (one, 0.2 * one, other)]
    assert prints[0] @ prints[1] > 0.999
    assert prints[0] @ prints[2] < 0.9


def test_duplicates_are_shown_side_by_side(toy):
    twice(toy)
    measured = audit.measure(scan(toy))
    assert len(audit.duplicates(measured)) == 2
    assert audit.shared_between_splits(measured, "hash").loc["training", "testing"] == 1


def test_unknown_speakers_are_not_shared(tiny_manifest):
    assert (audit.shared_between_splits(tiny_manifest, "speaker") == 0).all(axis=None)


@pytest.mark.skipif(not has_ffmpeg(), reason="m4a needs FFmpeg")
def test_files_that_ffmpeg_alone_reads_have_a_header_too():
    row = cues.measure_clip(ROOT / "tests" / "tone.m4a")
    assert row["problem"] == ""
    assert row["sample_rate"] > 0
    assert row["channels"] in (1, 2)
    assert row["codec"] == "aac"
