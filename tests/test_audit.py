"""The audit names each planted trap first, and finds none in the clean fixture."""

import os
import shutil
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, ROOT, hiss, tone
from scipy.signal import butter, lfilter, sosfiltfilt
from scipy.stats import norm

from dfa_utils.auditing import _cue_verdicts, _format_verdicts, audit, find_duplicates, measure
from dfa_utils.cues import NUISANCE, SPECTRAL, auc_interval, measure_clip, probe
from dfa_utils.dataset import find_unusable, scan
from dfa_utils.layouts import DataError

rng = np.random.default_rng(0)
TOY = ROOT / "data" / "toy"
LSB = 1 / 32768  # the least step of 16 bits


@pytest.fixture
def toy(tmp_path):
    """A copy of the fixture without its CSV, to plant traps in."""
    return Path(shutil.copytree(TOY, tmp_path / "toy", ignore=shutil.ignore_patterns("*.csv")))


@pytest.fixture(scope="module")
def measured():
    return measure(scan(TOY, check=False))


def change(files, function, **how):
    """Pass the samples of each file through function(samples [T], number of the file)."""
    for i, path in enumerate(sorted(files)):
        changed = np.clip(function(soundfile.read(path)[0], i), -1, 32767 / 32768)
        soundfile.write(path, changed, how.get("rate", 16_000), subtype=how.get("subtype"))


def fakes(root):
    return list(root.glob("*/fake/*.wav"))


def reals(root):
    return sorted(root.glob("*/real/*.wav"))


def rename(root, name):
    for label in ("real", "fake"):
        for split in ("training", "validation", "testing"):
            for i, path in enumerate(sorted((root / split / label).glob("*.wav"))):
                path.rename(path.with_name(name(label, i)))


def quiet_start(samples, i):
    return np.r_[samples[:4000] * 0.0005, samples[4000:]]


def low_pass(samples, i):
    return sosfiltfilt(butter(12, 4000, fs=16_000, output="sos"), samples)


def noise(samples, i):
    return samples + 0.1 * samples.std() * np.random.default_rng(i).standard_normal(len(samples))


TRAPS = {
    "the pattern of the file names": lambda root: rename(root, lambda label, i: f"{'tr'[label == 'fake']}{i:03}.wav"),
    "RMS level": lambda root: change(reals(root), lambda samples, _: 0.1 * samples),
    "DC offset": lambda root: change(fakes(root), lambda samples, _: samples + 0.02),
    "duration": lambda root: change(fakes(root), lambda samples, _: samples[:28_000]),
    "leading silence": lambda root: change(fakes(root), quiet_start),
    "trailing silence": lambda root: change(fakes(root), lambda samples, i: quiet_start(samples[::-1], i)[::-1]),
    "band edge": lambda root: change(fakes(root), low_pass),
    "noise floor": lambda root: change(fakes(root), noise),
}


@pytest.mark.parametrize("verdict", TRAPS)
def test_each_trap_is_the_first_verdict(toy, verdict):
    for split in ("validation", "testing"):
        shutil.rmtree(toy / split)
    TRAPS[verdict](toy)
    assert audit(toy).verdicts[0].startswith(verdict)


def test_each_unusable_or_doubtful_file_is_named_first_with_its_kind(toy):
    paths = dict(
        zip(("empty", "unreadable", "truncated", "silent", "samples", "clipped", "short"), reals(toy), strict=False)
    )
    paths["empty"].write_bytes(b"")
    paths["unreadable"].write_text("no audio at all")
    paths["truncated"].write_bytes(paths["truncated"].read_bytes()[:20_000])
    change([paths["silent"]], lambda samples, _: 0 * samples)
    soundfile.write(paths["samples"], [0.1, np.nan] * 100, 16_000, subtype="FLOAT")
    change([paths["clipped"]], lambda samples, _: samples * 3 / np.abs(samples).max())
    change([paths["short"]], lambda samples, _: samples[:4000])
    found = audit(toy)
    for kind, path in paths.items():
        assert any(line.startswith(f"{kind}: 1 file, such as {path}: ") for line in found.verdicts[:7])
    assert found.problems.clips.sum() == 88
    assert (found.problems.drop(columns="clips").sum() == 1).all()
    assert set(found.problems) == {"clips", *paths}
    assert found.duplicates.empty  # unreadable files are not duplicates of each other


def test_formats_that_tell_the_classes_apart_come_first(toy):
    for path in fakes(toy):
        samples, _ = soundfile.read(path)
        path.unlink()
        soundfile.write(path.with_suffix(".flac"), np.stack([samples, samples], axis=1), 16_001)
    starts = [line.split(" alone")[0] for line in audit(toy).verdicts[:3]]
    assert starts == ["the codec", "the sample rate", "the number of channels"]


def test_duplicates_come_first_exact_before_near(toy):
    one, other = sorted((toy / "training" / "real").glob("*.wav"))[:2]
    for i in range(3):
        shutil.copy(one, toy / "validation" / "real" / f"copy{i}.wav")
    change([Path(shutil.copy(other, other.with_name("softer.wav")))], lambda samples, _: 0.5 * samples)
    found = audit(toy)
    assert found.verdicts[0].startswith("3 pairs of exact duplicates across splits")
    assert found.verdicts[1].startswith("1 pair of near duplicates within a split")
    assert found.duplicates.match.tolist() == ["exact"] * 3 + ["near"]
    assert found.duplicates.a.tolist()[:3] == [str(one)] * 3  # each copy is paired with the first, not with another
    assert {found.duplicates.a[3], found.duplicates.b[3]} == {str(other), str(other.with_name("softer.wav"))}


def test_copies_with_different_labels_come_first(toy):
    one, other = sorted((toy / "training" / "real").glob("*.wav"))[:2]
    shutil.copy(one, toy / "training" / "fake" / "copy.wav")
    shutil.copy(other, toy / "training" / "real" / "copy.wav")
    (toy / "training" / "real" / "empty.wav").touch()
    verdicts = audit(toy).verdicts
    first, second = sorted([str(one), str(toy / "training" / "fake" / "copy.wav")])
    assert verdicts[0].startswith(
        f"1 clip labelled both real and fake, such as {first} and {second}; keep the correct one"
    )
    assert verdicts[1].startswith("empty: 1 file")
    assert verdicts[2].startswith("1 pair of exact duplicates within a split")


def test_one_file_with_both_labels_is_refused(tmp_path):
    rows = [f"{TOY}/testing/real/voice15-005.wav,{label}" for label in ("real", "fake")]
    (tmp_path / "manifest.csv").write_text("\n".join(["path,label", *rows]))
    with pytest.raises(
        DataError, match=r"1 file labelled both real and fake, such as .*voice15-005\.wav; keep one label"
    ):
        audit(tmp_path)


def test_the_clean_fixture_has_no_trap():
    found = audit(TOY)
    assert found.verdicts == []
    assert "No trap found." in str(found)
    assert found.problems.clips.sum() == found.formats.to_numpy().sum() == 88


def test_random_labels_get_no_cue_verdict(measured):
    false_positives = 0
    for seed in range(40):
        labels = np.random.default_rng(seed).permutation(measured.label)
        false_positives += bool(_cue_verdicts(probe(measured.assign(label=labels))))
    assert false_positives <= 4  # 2 are to be expected


@pytest.mark.parametrize("kept", [["testing"], ["training", "testing"]])
def test_splits_may_be_missing(toy, kept):
    for split in {"training", "validation", "testing"} - set(kept):
        shutil.rmtree(toy / split)
    found = audit(toy)
    assert found.verdicts == []
    assert found.probes.loc["rms_db"].drop(["low", "high"]).notna().sum() == len(kept)


def test_a_set_without_both_classes_in_any_split_is_refused(toy):
    for gone in ("training/fake", "validation/real", "testing/fake"):
        shutil.rmtree(toy / gone)
    with pytest.raises(DataError, match="no split with usable clips of both classes"):
        audit(toy)


@pytest.mark.parametrize(("broken", "count"), [("training/fake/*.wav", 20), ("*/*/*.wav", 88)])
def test_a_class_or_a_set_that_is_broken_throughout_is_still_reported(toy, broken, count):
    for path in toy.glob(broken):
        path.write_bytes(b"")
    assert audit(toy).verdicts[0].startswith(f"empty: {count} files")


def test_measured_columns_replace_those_of_the_source():
    manifest = scan(TOY, check=False).head(3).assign(codec="-", hash="x", seconds=0, gender="f")
    clips = measure(manifest)
    assert set(clips.codec) == {"WAV PCM_16"}
    assert (clips.seconds == 2).all()
    assert set(clips.gender) == {"f"}
    assert not clips.columns.duplicated().any()


def test_names_without_a_pattern_give_nothing_away():
    words = ["".join(letters) for letters in product("abcdef", repeat=3)][:200]
    training = pd.DataFrame(
        {"path": words, "label": np.repeat([0, 1], 100), "codec": "", "sample_rate": 1, "channels": 1}
    )
    assert not _format_verdicts(training)


@pytest.mark.parametrize(("validation", "count"), [(0.8, 1), (np.nan, 1), (0.4, 0)])
def test_a_cue_that_validation_contradicts_gets_no_verdict(validation, count):
    probes = pd.DataFrame(0.5, [*NUISANCE, "all nuisance cues"], ["training", "validation", "testing", "low", "high"])
    probes.loc["rms_db"] = [0.9, validation, 0.9, 0.8, 1.0]
    assert len(_cue_verdicts(probes)) == count


def test_few_training_clips_get_no_cue_verdict(toy):
    TRAPS["RMS level"](toy)
    for path in sorted((toy / "training" / "fake").glob("*.wav"))[9:]:
        path.unlink()
    found = audit(toy)
    assert found.verdicts == []
    assert "their sound was not judged: 20 real and 9 fake training clips are too few (10 of each" in str(found)
    found.probes.loc["rms_db", "validation"] = np.nan  # as where a class has fewer than two clips there
    assert not any("NaN" in shown for shown in (str(found), found._repr_html_()))


def test_verdicts_carry_figure_and_cure(toy):
    TRAPS["RMS level"](toy)
    found = audit(toy)
    assert f"AUC {found.probes.training['rms_db']:.2f} [{found.probes.low['rms_db']:.2f}, " in found.verdicts[0]
    assert found.verdicts[0].endswith("normalise it")
    assert found.probes.loc["rms_db", "testing"] > 0.7


def by_name(clips):
    return clips.set_index(clips.path.map(lambda path: "/".join(Path(path).parts[-3:]))).sort_index()


def test_the_level_changes_no_spectral_cue(toy, measured):
    change(fakes(toy), lambda samples, _: 10 ** (-26 / 20) * samples, subtype="FLOAT")
    before, after = by_name(measured), by_name(measure(scan(toy, check=False)))
    assert (before.rms_db - after.rms_db).to_numpy() == pytest.approx(26 * before.label.to_numpy(), abs=0.1)
    assert after[[*SPECTRAL]].to_numpy() == pytest.approx(before[[*SPECTRAL]].to_numpy(), rel=1e-3, abs=1e-3)
    together = [probe(clips).loc["all spectral cues"].tolist() for clips in (before, after)]
    assert together[1] == pytest.approx(together[0], abs=1e-6)


def test_the_interval_of_an_auc_is_delongs():
    labels, values = np.repeat([0, 1], [50, 70]), np.round(rng.normal(0, 1, 120) + np.repeat([0, 0.7], [50, 70]), 1)
    wins = np.subtract.outer(values[labels == 1], values[labels == 0])
    wins = (wins > 0) + (wins == 0) / 2  # [fakes, reals]: the kernel of Mann and Whitney
    error = np.sqrt(wins.mean(axis=1).var(ddof=1) / 70 + wins.mean(axis=0).var(ddof=1) / 50)
    auc, low, high = auc_interval(labels, values)
    assert auc == pytest.approx(wins.mean())
    assert (auc - low, high - auc) == pytest.approx([norm.isf(0.025) * error] * 2)
    auc, low, high = auc_interval(labels, values, at_once=8)
    assert (auc - low, high - auc) == pytest.approx([norm.isf(0.025 / 8) * error] * 2)
    assert auc_interval([0, 0, 1, 1], [0, 0, 1, 1]) == (1, 1, 1)
    assert auc_interval([0, 0, 1, 1], [1, 1, 1, 1])[0] == 0.5
    assert np.isnan(auc_interval([0, 1, 1], [0, 1, 2])).all()


def test_a_direction_learnt_on_training_is_kept():
    clips = pd.DataFrame({"split": np.repeat(["training", "testing"], 40), "label": np.tile([0, 1], 40)})
    values = np.where(clips.split == "training", -clips.label, clips.label) + rng.normal(0, 0.1, 80)
    probes = probe(clips.assign(**dict.fromkeys([*NUISANCE, *SPECTRAL], values)))
    assert (probes.training == 1).all()
    assert (probes.testing == 0).all()
    assert probes.validation.isna().all()


def measured_one(tmp_path, wave, rate=16_000):
    soundfile.write(tmp_path / "a.wav", wave, rate, subtype="FLOAT")
    return pd.Series(measure_clip(tmp_path / "a.wav"))


def test_a_file_whose_name_is_not_unicode_is_measured(tmp_path):
    soundfile.write(tmp_path / "a.wav", tone(rng), RATE)
    odd = os.fsdecode(os.fsencode(tmp_path / "b") + b"\xff.wav")
    try:
        os.rename(tmp_path / "a.wav", odd)
    except OSError:
        pytest.skip("this file system accepts only names in Unicode")
    assert measure_clip(odd)["codec"] == "WAV PCM_16"


def test_a_long_clip_is_measured_where_it_sounds(tmp_path):
    row = measured_one(tmp_path, np.concatenate([np.zeros(35 * RATE), hiss(rng, 5.0)]))
    assert row.problem == ""
    assert row.seconds == 40
    assert row.rms_db == pytest.approx(20 * np.log10(0.05) - 3, abs=0.2)  # 5 of the 10 s from 30 s on


def test_level_peak_and_offset_of_a_known_sine(tmp_path):
    row = measured_one(tmp_path, 0.5 * np.sin(2 * np.pi * 100 * np.arange(16_000) / 16_000) + 0.1)
    assert row.rms_db == pytest.approx(20 * np.log10(np.sqrt(0.125 + 0.01)), abs=0.01)
    assert row.peak_db == pytest.approx(20 * np.log10(0.6), abs=0.01)
    assert row.dc == pytest.approx(0.1, abs=1e-5)


@pytest.mark.parametrize("seconds", [1.0, 35.0])
def test_length_and_silence_at_both_ends_are_those_of_the_whole_clip(tmp_path, seconds):
    quiet = hiss(rng, 0.3) * np.repeat([0.003, 0.03], [1600, 3200])  # the rest of it is only 30 dB down: no silence
    row = measured_one(tmp_path, np.concatenate([quiet, hiss(rng, seconds), np.zeros(3200)]))
    assert (row.lead, row.trail) == pytest.approx((0.1, 0.2), abs=0.011)
    assert row.seconds == pytest.approx(seconds + 0.5)


def test_a_clip_with_sound_only_in_its_last_milliseconds_is_not_silent(tmp_path):
    row = measured_one(tmp_path, np.concatenate([np.zeros(16_000), hiss(rng, 0.003)]))
    assert (row.lead, row.trail, row.kind) == (1.0, 0.0, "")


@pytest.mark.parametrize("edge", [3000, 5000])
def test_the_band_edge_is_found(tmp_path, edge):
    spectrum = np.fft.rfft(hiss(rng, 2.0))
    spectrum[np.fft.rfftfreq(2 * RATE, 1 / RATE) > edge] = 0
    assert measured_one(tmp_path, np.fft.irfft(spectrum)).edge == pytest.approx(edge, abs=100)
    assert measured_one(tmp_path, hiss(rng, 2.0)).edge == 8000


def test_the_tilt_is_in_decibels_an_octave(tmp_path):
    wave = np.cumsum(hiss(rng, 2.0).astype(float))  # integrated white noise falls by 6 dB an octave
    assert measured_one(tmp_path, 0.1 * wave / np.abs(wave).max()).tilt == pytest.approx(-6, abs=0.8)


def test_the_noise_floor_is_that_of_the_pauses(tmp_path):
    noise = hiss(rng, 2.0).reshape(2, RATE)
    noise -= noise.mean(axis=1, keepdims=True)
    speech = noise.ravel() * np.repeat([1, 0.01], RATE)  # half of it 40 dB down: 37 dB below the RMS of the whole
    assert measured_one(tmp_path, speech).floor_db == pytest.approx(-37, abs=1)


def test_the_header_is_the_files_own(tmp_path):
    row = measured_one(tmp_path, np.stack([tone(rng)] * 2, axis=1), 44_100)
    assert (row.sample_rate, row.channels, row.codec) == (44_100, 2, "WAV FLOAT")


@pytest.mark.parametrize(
    ("wave", "silent"),
    [
        (0.25 + LSB * rng.integers(-1, 2, 16_000), True),  # a constant, to one step
        (0.25 + LSB * rng.integers(-2, 2, 16_000), False),
        (np.repeat([0, 0.3], 8_000), True),  # two constants
    ],
)
def test_audit_and_scan_agree_on_silence(tmp_path, wave, silent):
    assert (measured_one(tmp_path, wave).kind == "silent") == silent
    assert len(find_unusable([tmp_path / "a.wav"])) == silent


@pytest.mark.parametrize(("samples", "kind"), [(20, ""), (60, "clipped")])  # of 32,000: below and above one in 1,000
def test_a_clip_with_many_samples_at_full_scale_is_clipped(tmp_path, samples, kind):
    wave = hiss(rng, 2.0)
    wave[:samples] = 1
    assert measured_one(tmp_path, wave).kind == kind


def test_sketches_do_not_depend_on_level_hum_and_colour(tmp_path, measured):
    one, other = (soundfile.read(path)[0] for path in measured.path[:2])
    one[8_000:16_000] = 0  # a pause
    hum = one + 1e-4 * one.std() * rng.standard_normal(len(one))
    waves = [one, 0.001 * one, hum, lfilter([1, -0.5], 1, one), other]
    sketch, softer, humming, brighter, another = (measured_one(tmp_path, wave).sketch for wave in waves)
    assert sketch @ softer > 0.999
    assert sketch @ humming > 0.999
    assert sketch @ brighter > 0.97
    assert sketch @ another < 0.5


def test_near_duplicates_are_found_anywhere_in_the_table():
    sketches = rng.normal(size=(2500, 64)).astype("float32")
    sketches[[1030, 2400]] = sketches[[5, 1100]] + 0.01
    sketches /= np.linalg.norm(sketches, axis=1, keepdims=True)
    hashes = [f"h{i}" for i in range(2500)]
    clips = pd.DataFrame({"path": hashes, "split": "training", "hash": hashes, "sketch": [*sketches]})
    assert find_duplicates(clips)[["a", "b"]].to_numpy().tolist() == [["h5", "h1030"], ["h1100", "h2400"]]


def test_files_that_only_ffmpeg_reads_have_a_header():
    row = measure_clip(ROOT / "tests" / "tone.m4a")
    assert (row["codec"], row["kind"], row["problem"]) == ("aac", "", "")
    assert row["sample_rate"] > 0
    assert row["channels"] in (1, 2)
