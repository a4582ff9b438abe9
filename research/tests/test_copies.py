import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import RATE, tone

from dfa_utils.__main__ import main
from dfa_utils.audio import load_audio
from dfa_utils.dataset import scan
from dfa_utils.layouts import DataError
from research import copies
from research.copies import copy_synthesise, real_clips
from research.vocoders import VOCODERS

FAST = ["griffin_lim", "image"]


def generator(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture
def recordings(tmp_path):
    """A folder of four recordings, 16-bit mono at RATE."""
    folder = tmp_path / "recordings"
    folder.mkdir()
    for i in range(4):
        soundfile.write(folder / f"{i}.wav", tone(generator(i), 0.3), RATE)
    return folder


def tree(folder):
    """Modification time and bytes of each file."""
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in folder.rglob("*.wav")}


def test_the_manifest_reads_back(recordings, tmp_path):
    reals = real_clips(recordings).assign(speaker=["a", "a", "b", "b"])
    made = copy_synthesise(reals, tmp_path / "out", FAST, versions=2)
    pd.testing.assert_frame_equal(scan(tmp_path / "out", splits=("training",)), made)
    assert made.label.tolist() == [0, 1, 1] * 4
    assert made.speaker.tolist() == ["a"] * 6 + ["b"] * 6
    assert made.source.tolist() == [path for path in reals.path for _ in range(3)]
    assert set(made.system[made.label == 0]) == {""}
    assert set(made.system[made.label == 1]) <= {f"copy:{name}" for name in FAST}
    assert {soundfile.info(path).subtype for path in made.path} == {"PCM_16"}


def test_the_real_copy_is_the_original(recordings, tmp_path):
    made = copy_synthesise(real_clips(recordings), tmp_path / "out", FAST)
    for row in made[made.label == 0].itertuples():
        assert torch.equal(load_audio(row.path), load_audio(row.source))


def test_a_recording_in_another_format_is_the_original_to_16_bits(tmp_path):
    (tmp_path / "in").mkdir()
    stereo = np.stack([tone(generator(k), 0.3) for k in range(2)], axis=1)
    soundfile.write(tmp_path / "in" / "a.flac", stereo, 44_100, subtype="PCM_24")
    made = copy_synthesise(real_clips(tmp_path / "in"), tmp_path / "out", FAST)
    assert (load_audio(made.path[0]) - load_audio(tmp_path / "in" / "a.flac")).abs().max() <= 0.5001 / 32_768


def test_a_copy_has_the_level_and_the_offset_of_its_original(tmp_path):
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", tone(generator(), 0.5) + 0.01, RATE)
    made = copy_synthesise(real_clips(tmp_path / "in"), tmp_path / "out", versions=len(VOCODERS))
    waves = torch.stack([load_audio(path) for path in made.path])
    assert set(made.system) == {"", *(f"copy:{name}" for name in VOCODERS)}
    level, offset = waves.square().mean(dim=1).sqrt(), waves.mean(dim=1)
    assert torch.allclose(level, level[0], rtol=1e-3)
    assert torch.allclose(offset, offset[0], atol=1e-5)


def test_nothing_is_clipped(tmp_path):
    """A recording beyond full scale, which only a float file holds, is turned down to it, and so is its copy."""
    (tmp_path / "in").mkdir()
    soundfile.write(tmp_path / "in" / "a.wav", 8 * tone(generator(), 0.3), RATE, subtype="FLOAT")
    made = copy_synthesise(real_clips(tmp_path / "in"), tmp_path / "out", ["griffin_lim"], versions=3)
    at_full_scale = [int((load_audio(path).abs() >= 32_767 / 32_768).sum()) for path in made.path]
    assert sum(at_full_scale) <= 8  # about one each, the peak


def test_versions_of_a_clip_use_all_vocoders_before_one_twice(recordings, tmp_path):
    made = copy_synthesise(real_clips(recordings), tmp_path / "out", FAST, versions=4)
    counts = made[made.label == 1].groupby(["source", "system"]).size()
    assert counts.tolist() == [2] * 8


def test_one_version_shares_the_clips_among_the_vocoders(tmp_path):
    (tmp_path / "in").mkdir()
    for i in range(60):
        soundfile.write(tmp_path / "in" / f"{i}.wav", tone(generator(i), 0.02), RATE)
    made = copy_synthesise(real_clips(tmp_path / "in"), tmp_path / "out", FAST)
    counts = made.system[made.label == 1].value_counts()
    assert len(counts) == 2
    assert counts.between(15, 45).all()  # 30 each, within nearly four standard deviations


def test_the_copies_depend_on_content_and_seed_alone(recordings, tmp_path):
    def files(root, folder, seed=0):
        copy_synthesise(real_clips(root), tmp_path / folder, FAST, seed=seed)
        return {path.name: content for path, (_, content) in tree(tmp_path / folder / "training" / "fake").items()}

    first = files(recordings, "out")
    moved = recordings.rename(tmp_path / "moved")
    assert files(moved, "again") == first
    assert not set(files(moved, "other", seed=1).values()) & set(first.values())


def test_every_copy_draws_by_itself(recordings, tmp_path, monkeypatch):
    draws = []
    monkeypatch.setattr(copies, "vocode", lambda wave, name, rate, rng: draws.append(rng.random()) or wave)
    copy_synthesise(real_clips(recordings), tmp_path / "out", versions=2)
    assert len(set(draws)) == len(draws) == 8


def test_a_second_call_makes_only_what_is_missing(recordings, tmp_path, monkeypatch):
    reals, out = real_clips(recordings), tmp_path / "out"
    made = copy_synthesise(reals, out, FAST)
    before = tree(out)
    lost = [out / made.path[0], out / made.path[3]]  # a real one and a copy
    assert made.label[[0, 3]].tolist() == [0, 1]
    for path in lost:
        path.unlink()
    pd.testing.assert_frame_equal(copy_synthesise(reals, out, FAST), made)
    after = tree(out)
    assert {path: content for path, (_, content) in after.items()} == {p: content for p, (_, content) in before.items()}
    assert {path for path in after if after[path] != before[path]} <= set(lost)
    monkeypatch.setattr("research.copies.load_audio", None)  # cannot be called
    copy_synthesise(reals, out, FAST)


def test_more_versions_and_more_clips_keep_the_copies_there_are(recordings, tmp_path):
    out = tmp_path / "out"
    copy_synthesise(real_clips(recordings), out, FAST)
    before = tree(out)
    soundfile.write(recordings / "new.wav", tone(generator(9), 0.3), RATE)
    copy_synthesise(real_clips(recordings), out, FAST, versions=2)
    assert before.items() <= tree(out).items()
    assert len(tree(out)) == 5 * 3


def test_the_same_recording_under_two_names_is_written_once(recordings, tmp_path):
    (recordings / "twin.wav").write_bytes((recordings / "0.wav").read_bytes())
    assert len(copy_synthesise(real_clips(recordings), tmp_path / "out", FAST)) == 8


def test_clips_of_no_use_are_left_out_counted_and_named(recordings, tmp_path, monkeypatch):
    monkeypatch.setattr("research.copies.LONGEST", 0.5)
    (recordings / "broken.wav").write_bytes((recordings / "1.wav").read_bytes()[:5_000])
    soundfile.write(recordings / "silent.wav", np.zeros(RATE // 4), RATE)
    soundfile.write(recordings / "long.wav", tone(generator(), 0.6), RATE)
    reals = real_clips(recordings)
    (recordings / "0.wav").unlink()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        made = copy_synthesise(reals, tmp_path / "out", FAST)
    assert len(made) == 6
    (warning,) = caught
    assert str(warning.message).startswith("left out 4 of 7 clips")
    assert all(name in str(warning.message) for name in ("broken.wav", "silent.wav", "long.wav", "0.wav"))


@pytest.mark.filterwarnings("ignore:left out")
def test_where_no_clip_is_left_it_says_so(recordings, tmp_path):
    fakes = real_clips(recordings).assign(label=1)
    with pytest.raises(DataError, match="real"):
        copy_synthesise(fakes, tmp_path / "out", FAST)
    for path in recordings.iterdir():
        path.write_bytes(b"")
    with pytest.raises(DataError, match="none of 4 real clips"):
        copy_synthesise(real_clips(recordings), tmp_path / "out", FAST)
    assert not (tmp_path / "out").exists()


def test_nothing_of_another_data_set_is_overwritten(recordings, tmp_path):
    reals = real_clips(recordings)
    with pytest.raises(ValueError, match="originals lie in it"):
        copy_synthesise(reals, recordings, FAST)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.csv").write_text("path,label\na.wav,real\n")
    with pytest.raises(ValueError, match="another data set"):
        copy_synthesise(reals, tmp_path / "other", FAST)


@pytest.mark.parametrize("options", [{"names": ["wavenet"]}, {"names": []}, {"versions": 0}])
def test_what_cannot_be_made_is_refused_before_work_begins(recordings, tmp_path, options):
    with pytest.raises(ValueError, match=r"known: griffin_lim|at least 1"):
        copy_synthesise(real_clips(recordings), tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()


def test_the_command_makes_a_training_set_of_a_folder_of_recordings(recordings, tmp_path, capsys):
    arguments = ["vocode", str(recordings), "--out", str(tmp_path / "out"), "--vocoders", "image", "--versions", "2"]
    assert main(arguments) == 0
    (line,) = capsys.readouterr().out.splitlines()
    assert "4 real clips and 8 copies of them (8 image)" in line
    assert len(scan(tmp_path / "out", splits=("training",))) == 12


def test_the_command_takes_the_training_reals_of_a_data_set(tiny_root, tmp_path, capsys):
    assert main(["vocode", str(tiny_root), "--out", str(tmp_path / "out"), "--vocoders", ",".join(FAST)]) == 0
    assert "12 real clips and 12 copies" in capsys.readouterr().out
    sources = pd.read_csv(tmp_path / "out" / "manifest.csv").source
    assert set(sources) == {str(path) for path in (tiny_root / "training" / "real").iterdir()}


def test_a_folder_called_after_a_split_is_just_a_folder_of_recordings(recordings):
    (recordings / "test").mkdir()
    (recordings / "0.wav").rename(recordings / "test" / "0.wav")
    assert len(real_clips(recordings)) == 4


@pytest.mark.parametrize(
    ("options", "cure"),
    [(["--vocoders", "image,x"], "known: "), (["--out", "{}/copies"], "outside"), (["--versions", "0"], "at least 1")],
)
def test_what_the_command_cannot_do_is_one_line_on_stderr(recordings, tmp_path, capsys, options, cure):
    options = [option.format(recordings) for option in options]
    assert main(["vocode", str(recordings), "--out", str(tmp_path / "out"), *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert cure in line


def test_a_root_that_is_not_there_is_one_line_on_stderr(tmp_path, capsys):
    assert main(["vocode", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
