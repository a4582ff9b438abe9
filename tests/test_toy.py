"""The committed fixture: layout, reproducibility, no nuisance cue, unseen voices and a vocoder in testing."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from dfa_utils import metrics, toy
from dfa_utils.audio import load_audio
from dfa_utils.auditing import audit
from dfa_utils.toy import vocoders as toy_vocoders
from dfa_utils.toy import voice as toy_voice

ROOT = Path(__file__).parents[1] / "data" / "toy"
SAMPLES = int(toy.SECONDS * toy.SAMPLE_RATE)
MANY_BANDS = """
import numpy as np
from dfa_utils import toy
from dfa_utils.toy.vocoders import griffin_lim

class Draw:
    def __init__(self, bands):
        self.bands, self.rng = bands, np.random.default_rng(bands)
    def integers(self, low, high):
        return self.bands if low == 48 else 23
    def uniform(self, *arguments):
        return self.rng.uniform(*arguments)

wave = toy.render(toy.plan().iloc[0]).astype(float)
made = np.stack([griffin_lim(wave, Draw(bands)) for bands in (73, 74, 75)])
print(np.round(made * 32767).astype(np.int16).tobytes().hex())
"""  # whose filters nearly depend on each other
COUNTS = {"training": 20, "validation": 10, "testing": 14}


@pytest.fixture(scope="module")
def manifest() -> pd.DataFrame:
    return pd.read_csv(ROOT / "manifest.csv")


@pytest.fixture(scope="module")
def waves(manifest) -> np.ndarray:
    """All committed clips [88, T]."""
    return np.stack([soundfile.read(ROOT / path)[0] for path in manifest["path"]])


def edges(wave: np.ndarray) -> tuple[int, int]:
    """Leading and trailing silence, in 10 ms frames more than 20 dB below the loudest one."""
    level = wave.reshape(-1, 160).std(axis=1)
    loud = np.flatnonzero(level > 0.1 * level.max())
    return loud[0], len(level) - 1 - loud[-1]


CUES = {
    "rms": np.std,
    "peak": lambda wave: np.abs(wave).max(),
    "crest factor": lambda wave: np.abs(wave).max() / wave.std(),
    "dc": np.mean,
    "size of dc": lambda wave: abs(wave.mean()),
    "leading silence": lambda wave: edges(wave)[0],
    "trailing silence": lambda wave: edges(wave)[1],
}


def test_files_are_those_of_the_manifest(manifest):
    assert list(manifest.columns) == ["path", "split", "label", "system", "speaker"]
    assert sorted(manifest["path"]) == sorted(p.relative_to(ROOT).as_posix() for p in ROOT.rglob("*.wav"))
    folders = manifest["path"].str.split("/", expand=True)
    assert (folders[0] == manifest["split"]).all()
    assert (folders[1] == manifest["label"]).all()


@pytest.mark.parametrize("split", COUNTS)
def test_counts(manifest, split):
    labels = manifest[manifest["split"] == split]["label"]
    assert labels.value_counts().to_dict() == {"real": COUNTS[split], "fake": COUNTS[split]}


def test_format_and_size(manifest):
    for path in manifest["path"]:
        info = soundfile.info(ROOT / path)
        assert (info.samplerate, info.channels, info.frames, info.subtype) == (toy.SAMPLE_RATE, 1, SAMPLES, "PCM_16")
    assert sum(p.stat().st_size for p in ROOT.rglob("*") if p.is_file()) <= 6e6


def test_manifest_is_the_plan(manifest):
    pd.testing.assert_frame_equal(manifest, toy.plan()[list(manifest.columns)], check_dtype=False)


@pytest.mark.parametrize("system", [toy.REAL_SYSTEM, *toy.VOCODERS])
def test_committed_clips_can_be_made_again(system):
    table = toy.plan()
    for _, row in table[table["system"] == system].iloc[[0, -1]].iterrows():
        committed, _ = soundfile.read(ROOT / row["path"], dtype="int16")
        assert np.abs(toy.render(row) * 32767 - committed).max() <= 2.5  # 2 LSB after rounding


def test_systems(manifest):
    real = manifest["label"] == "real"
    assert set(manifest["system"][real]) == {toy.REAL_SYSTEM}
    assert set(manifest["system"][~real]) == set(toy.VOCODERS)


def test_testing_holds_unseen_voices_and_an_unseen_vocoder(manifest):
    voices = manifest.groupby("split")["speaker"].agg(set)
    systems = manifest.groupby("split")["system"].agg(set)
    assert not voices["training"] & voices["validation"]
    assert not voices["testing"] & (voices["training"] | voices["validation"])
    assert systems["validation"] <= systems["training"]
    assert systems["testing"] - systems["training"] == {toy.UNSEEN}
    unseen = manifest["system"] == toy.UNSEEN
    assert unseen.sum() == COUNTS["testing"] // 2


def test_both_classes_have_the_same_voices(manifest):
    for _, split in manifest.groupby("split"):
        counts = split.groupby("label")["speaker"].value_counts().unstack("label")
        assert (counts["real"] == counts["fake"]).all()


@pytest.mark.parametrize("cue", CUES)
def test_no_nuisance_cue_gives_the_class_away(manifest, waves, cue):
    auc = roc_auc_score(manifest["label"] == "fake", [CUES[cue](wave) for wave in waves])
    assert abs(auc - 0.5) <= 0.15


def test_no_clip_is_clipped_silent_or_a_copy(waves):
    assert np.abs(waves).max() < 0.99
    assert waves.std(axis=1).min() > 0.01
    unit = (waves - waves.mean(axis=1, keepdims=True)) / waves.std(axis=1, keepdims=True)
    assert np.abs(unit @ unit.T / SAMPLES - np.eye(len(unit))).max() < 0.5


def clip(index, **which):
    return toy.render(toy.plan(**which).iloc[index])


def test_a_clip_depends_on_seed_and_index_alone():
    first = clip(30)
    clip(3)
    np.testing.assert_array_equal(first, clip(30))
    assert first.dtype == np.float32
    assert first.shape == (SAMPLES,)
    assert not np.array_equal(first, clip(31))
    assert not np.array_equal(first, clip(30, seed=1))


def test_other_processors_make_the_same_clips():
    """Griffin-Lim with many bands, by the linear algebra that OpenBLAS has for older processors."""
    made = [
        subprocess.run(
            [sys.executable, "-c", MANY_BANDS], env=os.environ | kind, capture_output=True, check=True
        ).stdout
        for kind in ({}, {"OPENBLAS_CORETYPE": "Haswell"}, {"OPENBLAS_CORETYPE": "Prescott"})
    ]
    assert len(set(made)) == 1


@pytest.mark.parametrize("pitch", [100.0, 200.0])
def test_a_voice_speaks_at_its_pitch(pitch):
    voice = toy_voice.Voice(
        "test", pitch, tract=1, jitter=0, shimmer=0, breath=0, open_quotient=0.6, rate=1, melody=0.01
    )
    frames = toy_vocoders._frames(toy_voice.speak(voice, np.random.default_rng(0), 2.0), 640, 160)
    found = toy_vocoders._pitch(frames)
    assert np.median(found[found > 0]) == pytest.approx(pitch, rel=0.06)  # declination moves it by less than a semitone


def test_resonator_has_the_response_of_theory():
    centre, width, samples = 1000.0, 100.0, 16_000
    impulse = np.eye(1, samples)[0]
    tracks = np.full((1, samples // toy_voice.BLOCK), centre)
    response = np.abs(np.fft.rfft(toy_voice._resonate(impulse, tracks, np.array([width]))))  # 1 Hz per bin
    assert response[0] == pytest.approx(1, abs=1e-6)
    assert response.argmax() == pytest.approx(centre, abs=5)
    assert np.ptp(np.flatnonzero(response > response.max() / np.sqrt(2))) == pytest.approx(width, rel=0.05)


@pytest.mark.parametrize("name", toy.VOCODERS)
def test_vocoders_keep_length_and_loudness_contour_but_not_the_waveform(name):
    wave = toy_voice.speak(toy_voice.make_voice(0, 0), np.random.default_rng(0), seconds=1.5)
    coded = toy.VOCODERS[name](wave, np.random.default_rng(0))
    assert coded.shape == wave.shape
    assert np.isfinite(coded).all()
    contours = [x[:24_000].reshape(-1, 800).std(axis=1) for x in (wave, coded)]  # 50 ms
    assert np.corrcoef(contours)[0, 1] > 0.8
    assert np.corrcoef(wave, coded)[0, 1] < 0.9


def test_writing_makes_the_files_of_the_manifest(tmp_path, monkeypatch):
    monkeypatch.setitem(toy.SIZES, "fixture", (2021, {"training": 1, "testing": 1}))
    root = toy.write(tmp_path / "toy")
    table = pd.read_csv(root / "manifest.csv")
    written = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    assert written == {"manifest.csv", *table.path}
    assert len(table) == 8
    for _, row in toy.plan().iterrows():
        samples, _ = soundfile.read(root / row["path"], dtype="int16")
        assert np.abs(toy.render(row) * 32767 - samples).max() <= 0.51  # rounding


def test_the_clips_of_the_notebooks_have_the_same_systems_and_other_voices(manifest):
    lesson = toy.plan("lesson")
    assert lesson.groupby(["split", "label"]).size().tolist() == [80, 80, 160, 160, 60, 60]
    assert not set(lesson.seed) & set(toy.plan().seed)
    assert set(lesson.system) == set(manifest.system)
    assert lesson.path.is_unique


def test_clips_are_made_once_and_kept_in_the_cache_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DFA_CACHE", str(tmp_path))
    monkeypatch.setitem(toy.SIZES, "lesson", (1, {"training": 1}))
    root = toy.cached_root()
    assert root.parent == tmp_path
    (clip,) = list((root / "training" / "real").glob("*.wav"))[:1]
    clip.unlink()
    assert toy.cached_root() == root
    assert not clip.exists()  # nothing was made a second time
    (root / "manifest.csv").unlink()  # as a kill leaves it
    assert toy.cached_root() == root
    assert clip.exists()


@pytest.mark.parametrize(
    ("trap", "cue", "verdict"),
    [
        ("level", np.std, "RMS level"),
        ("silence", lambda wave: -edges(wave)[0], "silence"),
        ("speakers", None, "speaker"),
    ],
)
def test_a_trap_tells_the_classes_apart_and_the_audit_finds_it(tmp_path, monkeypatch, trap, cue, verdict):
    monkeypatch.setitem(toy.SIZES, "fixture", (2021, {"training": 5, "validation": 3, "testing": 3}))
    root = toy.write(tmp_path / trap, trap=trap)
    table = pd.read_csv(root / "manifest.csv")
    if cue:
        values = [cue(load_audio(root / path).numpy()) for path in table.path]
        assert metrics.roc_auc(table.label == "fake", values) > 0.95
    assert verdict in " ".join(audit(root).verdicts)


def test_with_the_trap_of_speakers_each_class_has_its_own_voices_in_every_split():
    table = toy.plan(trap="speakers")
    voices, splits = table.groupby("label").speaker.agg(set), table.groupby("split").speaker.agg(set)
    assert not voices["real"] & voices["fake"]
    assert splits["testing"] | splits["validation"] <= splits["training"]


def test_without_a_trap_the_audit_finds_none():
    assert audit(ROOT).verdicts == []


def test_an_unknown_trap_or_size_is_named():
    with pytest.raises(ValueError, match="level, silence, speakers"):
        toy.plan(trap="loudness")
    with pytest.raises(ValueError, match="fixture, lesson"):
        toy.plan("huge")
