import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from conftest import hiss, tone
from torch.utils.data import DataLoader

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.dataset import ClipDataset
from dfa_utils.degradations import CLEAN, CORRUPTIONS, Corruption, conditions_of, robustness, score_conditions, score_of
from dfa_utils.evaluation import eer_interval, score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import build_model


@pytest.fixture(scope="module")
def detector(tiny_manifest, tiny_config):
    """Trained until it tells tones (real) from noise (fake)."""
    part = tiny_manifest[tiny_manifest.split == "training"]
    clips = ClipDataset(part, tiny_config)
    waves, labels = next(iter(DataLoader(clips, batch_size=len(clips))))
    model = build_model(config=tiny_config)
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(waves), labels).backward()
        optimizer.step()
    return Detector(model, {})


@pytest.fixture(scope="module")
def some(tiny_manifest):
    return tiny_manifest[tiny_manifest.split != "training"].reset_index(drop=True)


@pytest.fixture(scope="module")
def table(detector, some):
    return robustness(detector, some)


def row(table, corruption, level=None):
    return table[(table.corruption == corruption) & ((table.level == level) | (level is None))].squeeze()


def test_there_is_a_row_for_clean_and_for_every_level(table, some):
    expected = [("clean", ""), *((name, c.unit) for name, c in CORRUPTIONS.items() for _ in c.levels)]
    assert list(zip(table.corruption, table.unit, strict=True)) == expected
    assert table.level[1:].tolist() == [level for c in CORRUPTIONS.values() for level in c.levels]
    assert (table.clips == len(some)).all()
    assert ((table.eer_low <= table.eer) & (table.eer <= table.eer_high)).all()


def test_the_clean_row_is_the_evaluation(detector, some, table):
    scores = score_clips(detector, some).score
    assert score_conditions(detector, some.path, [CLEAN])[0] == pytest.approx(scores.to_numpy(), abs=1e-6)
    clean = row(table, "clean")
    assert clean.eer == metrics.eer(some.label, scores)[0] == 0
    assert clean.hter == metrics.hter(some.label, scores, 0.5)
    assert clean["shift"] == clean.shift_95 == 0


def test_noise_makes_tones_sound_fake_and_more_noise_more_so(detector, some, table):
    noise = table[table.corruption == "noise"]
    assert noise["shift"].is_monotonic_increasing
    assert noise.hter.iloc[-1] > 0.2
    clean, loud = score_conditions(detector, some.path, [CLEAN, ("noise", 0)])
    assert loud[some.label == 0].mean() > clean[some.label == 0].mean() + 0.2
    assert noise["shift"].iloc[-1] == pytest.approx(np.abs(loud - clean).mean(), abs=1e-6)
    assert noise.shift_95.iloc[-1] == pytest.approx(np.quantile(np.abs(loud - clean), 0.95), abs=1e-6)


def test_a_gain_changes_nothing_for_a_detector_that_levels_its_input(table):
    assert table[table.corruption == "gain"].shift_95.max() < 1e-3


def test_noise_follows_from_seed_level_and_place_alone(detector, some):
    first, again = (score_conditions(detector, some.path, [("noise", 10), ("noise", 20)], seed=3) for _ in range(2))
    alone = score_conditions(detector, some.path[:5], [("noise", 20)], seed=3)
    other = score_conditions(detector, some.path, [("noise", 10)], seed=4)
    assert np.array_equal(first, again)
    assert alone[0] == pytest.approx(first[1, :5], abs=1e-6)
    assert np.abs(other[0] - first[0]).max() > 1e-5


def test_a_longer_clip_is_judged_by_the_same_windows(detector, tmp_path):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "long.wav", np.r_[tone(rng, 0.9), hiss(rng, 0.4)], 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / "long.wav")], "label": [0]})
    expected = score_clips(detector, manifest).score
    assert score_conditions(detector, manifest.path, [CLEAN])[0] == pytest.approx(expected.to_numpy(), abs=1e-6)


def test_every_level_draws_its_own_noise(detector, some, monkeypatch):
    draws = []

    def draw(waveform, level, sample_rate, generator):
        draws.append(generator.random())
        return waveform

    for name in ("first", "second"):
        monkeypatch.setitem(CORRUPTIONS, name, Corruption(draw, (1, 2), ""))
    score_conditions(detector, some.path[:3], conditions_of(["first", "second"]))
    assert len(set(draws)) == len(draws) == 2 * 2 * 3


def test_two_copies_of_a_clip_get_noise_of_their_own(detector, some):
    first, second = score_conditions(detector, pd.Series([some.path[0]] * 2), [("noise", 10)])[0]
    assert first != pytest.approx(second, abs=1e-6)


def test_intervals_are_drawn_by_speaker_and_system_where_they_are_named(detector, some):
    numbers = np.arange(len(some))
    mixed = some.assign(label=numbers % 2)  # so that there are errors
    named = mixed.assign(speaker=[f"v{i // 6}" for i in numbers], system=np.where(mixed.label == 1, "x", ""))
    table, by_clip = (robustness(detector, clips, ["noise"]) for clips in (named, mixed))
    scores = score_conditions(detector, some.path, conditions_of(["noise"]))
    for row, score in zip(table.itertuples(), scores, strict=True):
        assert (row.eer_low, row.eer_high) == eer_interval(named.assign(score=score))
    assert (table.eer_high - table.eer_low).sum() > (by_clip.eer_high - by_clip.eer_low).sum() + 0.1


def test_a_clip_that_a_corruption_leaves_silent_counts_as_undecided(detector, some, monkeypatch):
    def mute(waveform, level, sample_rate, generator):
        return waveform * (waveform.abs().max() < level)

    monkeypatch.setitem(CORRUPTIONS, "mute", Corruption(mute, (0.203,), ""))
    scores = score_conditions(detector, some.path, conditions_of(["mute"]))
    table = robustness(detector, some, ["mute"])
    assert 0 < np.isnan(scores[1]).sum() < len(some)
    assert table.silent.tolist() == np.isnan(scores).sum(axis=1).tolist()
    expected = np.abs(np.where(np.isnan(scores[1]), 0.5, scores[1]) - scores[0])
    assert table.shift_95.iloc[1] == pytest.approx(np.quantile(expected, 0.95))


def test_only_a_silent_clip_counts_as_undecided():
    assert np.isnan(score_of(AudioError("a.wav: silent", "silent")))
    with pytest.raises(AudioError, match=r"a\.wav"):
        score_of(AudioError("a.wav: gives no finite score", "samples"))


def test_leading_silence_changes_no_score(detector, some):
    clean, padded = score_conditions(detector, some.path, [CLEAN, ("silence", 1.0)])
    assert padded == pytest.approx(clean, abs=1e-6)


def test_a_clip_that_is_silent_to_begin_with_is_named(detector, some, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    manifest = pd.concat([some, pd.DataFrame({"path": [str(tmp_path / "silent.wav")], "label": [0]})])
    with pytest.raises(AudioError, match=r"silent\.wav"):
        robustness(detector, manifest, ["gain"])


def test_an_unknown_corruption_is_refused_with_the_known_ones(detector, some):
    with pytest.raises(ValueError, match="telephone"):
        robustness(detector, some, ["fog"])


def test_conditions_go_from_clean_over_mild_to_severe():
    assert conditions_of(["noise"]) == [CLEAN, ("noise", 30), ("noise", 20), ("noise", 10), ("noise", 0)]
