"""The comparison of recipes, the release and its card, on two trivial classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss, tone

from dfa_utils import Detector
from dfa_utils.augment import CHANNELS, Augmentation
from dfa_utils.dataset import scan
from dfa_utils.models import build_model
from research import build, card, compare, generators, recipes
from research.tables import RESULTS, names_of, read_table


@pytest.fixture(scope="module")
def root(tiny_root, tmp_path_factory):
    """A manifest of the tiny clips, with more for validation, that names systems, speakers and pages."""
    folder, rng = tmp_path_factory.mktemp("named"), np.random.default_rng(1)
    more = {label: folder / f"{label}.wav" for label in ("real", "fake")}
    soundfile.write(more["real"], np.concatenate([tone(rng) for _ in range(6)]), RATE)
    soundfile.write(more["fake"], np.concatenate([hiss(rng) for _ in range(6)]), RATE)
    paths = {
        (split, label): sorted((tiny_root / split / label).glob("*.wav")) + [more[label]] * 20 * (split == "validation")
        for split in ("training", "validation", "testing")
        for label in ("real", "fake")
    }
    rows = [
        (str(path), split, label, f"{split[0]}{i % 4}" * (label == "fake"), f"{split}{label}{i % 6}", f"page{i % 4}")
        for (split, label), found in paths.items()
        for i, path in enumerate(found)
    ]
    columns = ["path", "split", "label", "system", "speaker", "source_repo"]
    pd.DataFrame(rows, columns=columns).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def patched(tiny_config):
    """Recipes that train in a second."""
    tiny = replace(tiny_config, epochs=5)
    with pytest.MonkeyPatch.context() as patch:
        statistics = replace(tiny, model="statistics", n_mels=40, frequency_scale="linear")
        patch.setitem(recipes.RECIPES, "plain", (tiny,))
        patch.setitem(recipes.RECIPES, "release", (statistics, tiny))
        yield


@pytest.fixture(scope="module")
def released(root, patched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    arguments = ["--data", root, "--out", folder, "--runs", folder / "runs", "--seeds", 3]
    assert build.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def compared(root, patched, released):
    arguments = ["--data", root, "--out", released / "compare.csv.gz", "--runs", released / "cv", "--folds", 2]
    arguments = [str(argument) for argument in [*arguments, "--recipes", "plain", "release", "--seeds", 0]]
    compare.main(arguments)
    return arguments


def test_every_recipe_can_be_trained():
    for recipe in recipes.RECIPES:
        for config in recipes.members(recipe, seed=3):
            Augmentation(config.augment, config.sample_rate)
            assert build_model(config=config).config.seed == 3
    shares = [share for _, share in CHANNELS]
    assert 0.2 < np.prod([1 - share for share in shares]) < 0.6  # clips that stay as they are


def test_the_release_holds_what_it_needs(released):
    detector = Detector.load(released / "detector.safetensors")
    members = [(member.config.seed, member.config.model) for member in detector.model.members]
    assert members == [(3, "statistics"), (3, "cnn")]
    low, high = detector.uncertain_band
    assert low <= detector.threshold <= high
    assert detector.calibration != (1.0, 0.0)


def test_the_band_is_bounded_by_clean_fakes_below_and_by_the_worst_degradation_of_reals_above():
    labels, ramp = np.repeat([0, 1], 99), np.arange(1, 100) / 1000
    scores = np.concatenate([ramp, 0.9 + ramp])  # reals to 0.099, fakes from 0.901 on
    degraded = pd.DataFrame({"clean": scores, "noise 10": scores, "telephone 8": scores})
    degraded.loc[:98, "noise 10"] += 0.6  # one degradation makes all reals look fake,
    degraded.loc[99:, "telephone 8"] -= 0.9  # another all fakes real
    band = build.uncertain_bounds(labels, degraded, 0.5)
    assert band == (0.5, pytest.approx(0.695))  # the fifth highest of the reals
    band = build.uncertain_bounds(labels, degraded, 0.95)
    assert band == (pytest.approx(0.91), 0.95)  # the tenth lowest of the clean fakes


def test_validation_under_degradations_gave_the_band(root, released):
    clips = scan(root).query("split == 'validation'")
    detector = Detector.load(released / "detector.safetensors")
    degraded = build.under_conditions(detector, clips.path, seed=1)
    band = build.uncertain_bounds(clips.label, degraded, detector.threshold)
    assert band == pytest.approx(detector.uncertain_band, abs=1e-5)
    table = pd.read_csv(released / "degraded_validation.csv")
    assert table.path.tolist() == names_of(clips, root)
    assert table["mp3 64"].to_numpy() == pytest.approx(degraded["mp3 64"].to_numpy(), abs=1e-5)


def test_a_second_call_changes_nothing(root, patched, released):
    before = Detector.load(released / "detector.safetensors")
    arguments = ["--data", root, "--out", released, "--runs", released / "runs"]
    build.main([str(argument) for argument in [*arguments, "--seeds", 3]])
    again = Detector.load(released / "detector.safetensors")
    assert (again.fingerprint, again.info) == (before.fingerprint, before.info)


def test_recipes_are_scored_on_systems_they_never_heard(compared, released):
    table = read_table(released / "compare.csv.gz")
    columns = [f"{name} 0{more}" for name in ("plain", "release") for more in ("", " degraded")]
    assert list(table.columns) == [*compare.CLIP, *columns]
    assert table.notna().all(axis=None)
    assert set(table.fold) == {0, 1}
    assert compare.summary(table).eer.mean() < 0.3


def test_clips_are_left_out_by_a_column_and_a_typo_is_refused():
    clips = pd.DataFrame({"path": ["a", "b", "c"], "part": ["core", "late", "wide"]})
    assert compare.leave_out(clips, "part=late").path.tolist() == ["a", "c"]
    assert compare.leave_out(clips, None).path.tolist() == ["a", "b", "c"]
    for rule in ("part=Late", "parts=late", "late"):
        with pytest.raises(ValueError, match="fits no clip"):
            compare.leave_out(clips, rule)


def test_scores_of_other_clips_are_not_mixed_in(compared, released):
    clips = read_table(released / "compare.csv.gz")[compare.CLIP]
    with pytest.raises(ValueError, match="other clips"):
        compare.begin_table(released / "compare.csv.gz", clips.assign(fold=0))


def test_only_missing_scores_are_computed(compared, released, monkeypatch):
    def refuse(*_):
        raise AssertionError("computed again")

    before = (released / "compare.csv.gz").read_bytes()
    monkeypatch.setattr(compare, "score_fold", refuse)
    compare.main(compared)
    assert (released / "compare.csv.gz").read_bytes() == before
    table = read_table(released / "compare.csv.gz")
    for column in ("plain 0", "plain 0 degraded"):
        table.assign(**{column: table[column].where(table.fold == 0)}).to_csv(released / "compare.csv.gz", index=False)
        with pytest.raises(AssertionError, match="computed again"):
            compare.main(compared)
    (released / "compare.csv.gz").write_bytes(before)


def test_the_summary_is_the_mean_over_seeds_and_folds():
    table = pd.DataFrame({"path": list("abcdefgh"), "label": [0, 0, 1, 1] * 2, "fold": [0] * 4 + [1] * 4})
    table = table.assign(system="", speaker="")
    right, half, wrong = [0, 0.1, 0.8, 0.9], [0, 0.8, 0.1, 0.9], [0.8, 0.9, 0, 0.1]  # EER 0, 50 and 100 %
    table["a 0"], table["a 0 degraded"] = right + half, half + half
    table["a 1"], table["a 1 degraded"] = half + wrong, wrong + wrong
    table["b 0"], table["b 0 degraded"] = right + right, right + half
    table["c 0"], table["c 0 degraded"] = [*right, *[np.nan] * 4], half + half  # not finished
    summary = compare.summary(table)
    assert list(summary.index) == ["b", "a"]
    assert summary.loc["a"].tolist() == pytest.approx([0.5, 0.25, 0.75, 0.75, 2])
    assert summary.loc["b"].tolist() == pytest.approx([0, 0, 0, 0.25, 1])


def test_the_card_leaves_out_seeds_that_are_not_finished(compared, released):
    table = read_table(released / "compare.csv.gz")
    unfinished = table.assign(**{"plain 1": table["plain 0"].where(table.fold == 0), "plain 1 degraded": 0.5})
    pd.testing.assert_frame_equal(card.left_out(unfinished), card.left_out(table))


def test_each_kind_has_the_share_missed_at_the_threshold_of_its_fold():
    systems = ["HiFi-GAN", "HiFi-GAN", "DAC", "Mimi"]
    table = pd.DataFrame({"path": list("abcdefgh"), "label": [0] * 4 + [1] * 4, "fold": 0, "speaker": ""})
    table = table.assign(system=[""] * 4 + systems)
    table["a 0"] = table["a 0 degraded"] = [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]  # the EER: one real, one fake
    table["a 1"] = table["a 1 degraded"] = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    missed = generators.missed_by_kind(table)
    assert missed.kind.tolist() == ["GAN vocoder", "codec"]
    assert missed.systems.tolist() == [1, 2]
    assert missed.missed.tolist() == [0.25, 0]  # one of two clips, in one of two seeds
    assert missed.low.isna().tolist() == [True, False]  # one system has no spread


def test_the_stored_tables_are_of_the_released_detector_and_of_the_same_clips():
    scores = read_table(RESULTS / "scores.csv.gz")
    assert set(scores.detector) == {Detector.load().fingerprint}
    for name, split in (("degraded_testing.csv", "testing"), ("degraded_validation.csv", "validation")):
        assert pd.read_csv(RESULTS / name).path.tolist() == scores[scores.split == split].path.tolist()


def test_the_stored_errors_by_generator_follow_from_the_scores(monkeypatch):
    monkeypatch.setattr(generators, "clustered_interval", lambda *_, **__: (0, 1))  # which takes long
    table = generators.missed_by_kind(read_table(RESULTS / "compare.csv.gz"))
    stored = pd.read_csv(RESULTS / "missed_by_generator.csv")
    pd.testing.assert_frame_equal(stored[[*table.columns[:5]]], table[[*table.columns[:5]]], atol=1e-4)


def test_every_system_has_a_kind():
    named = set(pd.read_csv(generators.KINDS).system)
    for name in ("scores.csv.gz", "compare.csv.gz"):
        table = read_table(RESULTS / name)
        assert set(table.system[table.label == 1]) <= named


def test_the_card_is_rebuilt_from_the_tables(compared, released):
    (released / "MODEL_CARD.md").write_text(f"# Card\n\n{card.START}\nwhat was there\n{card.END}\nend\n")
    card.main([str(released)])
    text = (released / "MODEL_CARD.md").read_text()
    assert text.startswith("# Card")
    assert text.endswith("end\n")
    assert "what was there" not in text
    assert (released / "kinds.png").stat().st_size > 10_000
    for words in ("testing", "telephone 8", "gain -20", "t1", "v1", "release", "mel 80, CNN", "not named"):
        assert f"| {words} |" in text
    card.main([str(released)])
    assert (released / "MODEL_CARD.md").read_text() == text


def test_level_does_not_change_a_score(released):
    degraded = pd.read_csv(released / "degraded_testing.csv")
    assert (degraded["gain -20"] - degraded["clean"]).abs().mean() < 0.02
    assert list(degraded.columns[1:3]) == ["clean", "noise 20"]
