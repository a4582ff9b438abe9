"""The comparison of recipes, the release and its card, on two trivial classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss, tone

from dfa_utils import Detector
from dfa_utils.augment import Augmentation
from dfa_utils.dataset import scan
from dfa_utils.models import build_model
from research import build, card, compare, recipes
from research import generators as kinds


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
        moving = replace(tiny, model="statistics", n_mels=40, scale="linear")
        patch.setitem(recipes.RECIPES, "plain", recipes.Recipe((tiny,)))
        patch.setitem(recipes.RECIPES, "release", recipes.Recipe((moving,), advises=(tiny,)))
        yield


@pytest.fixture(scope="module")
def released(root, patched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    arguments = ["--data", root, "--out", folder / "detector.safetensors", "--runs", folder / "runs", "--seeds", 0, 1]
    assert build.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def compared(root, patched, released):
    arguments = ["--data", root, "--out", released / "compare.csv.gz", "--runs", released / "cv", "--folds", 2]
    arguments = [str(argument) for argument in [*arguments, "--recipes", "plain", "release", "--seeds", 0]]
    compare.main(arguments)
    return arguments


def test_every_recipe_can_be_trained():
    for recipe in recipes.RECIPES.values():
        for config in recipe.members(seed=3):
            Augmentation(config.augment, config.sample_rate)
            assert build_model(config=config).config.seed == 3
    shares = [share for _, share in recipes.CHANNELS]
    assert 0.2 < np.prod([1 - share for share in shares]) < 0.6  # clips that stay as they are


def test_the_release_holds_what_it_needs(released):
    detector = Detector.load(released / "detector.safetensors")
    assert len(detector.model.members) == 4
    kinds = [(member.config.seed, member.config.model) for member in detector.model.members]
    assert kinds == [(0, "statistics"), (0, "cnn"), (1, "statistics"), (1, "cnn")]
    assert detector.model.leads.tolist() == [True, False] * 2
    low, high = detector.uncertain
    assert low <= detector.threshold <= high
    assert detector.calibration != (1.0, 0.0)


def test_the_band_is_bounded_by_clean_fakes_below_and_by_the_worst_damage_of_reals_above():
    labels, ramp = np.repeat([0, 1], 99), np.arange(1, 100) / 1000
    scores = np.concatenate([ramp, 0.9 + ramp])  # reals to 0.099, fakes from 0.901 on
    damaged = pd.DataFrame({"clean": scores, "noise 10": scores, "telephone 8": scores})
    damaged.loc[:98, "noise 10"] += 0.6  # one damage makes all reals look fake,
    damaged.loc[99:, "telephone 8"] -= 0.9  # another all fakes real
    band = build.band_of_uncertain(labels, damaged, 0.5)
    assert band == (0.5, pytest.approx(0.695))  # the fifth highest of the reals
    band = build.band_of_uncertain(labels, damaged, 0.95)
    assert band == (pytest.approx(0.91), 0.95)  # the tenth lowest of the clean fakes


def test_validation_under_damage_stands_beside_the_weights_and_gave_the_band(root, released):
    clips = scan(root).query("split == 'validation'")
    damaged = pd.read_csv(released / "damage_validation.csv")
    assert damaged.path.tolist() == compare.names_of(clips, root)
    detector = Detector.load(released / "detector.safetensors")
    band = build.band_of_uncertain(clips.label, damaged.drop(columns="path"), detector.threshold)
    assert band == pytest.approx(detector.uncertain, abs=1e-5)


def test_a_second_call_changes_nothing(root, patched, released):
    before = Detector.load(released / "detector.safetensors")
    arguments = ["--data", root, "--out", released / "detector.safetensors", "--runs", released / "runs"]
    build.main([str(argument) for argument in [*arguments, "--seeds", 0, 1]])
    again = Detector.load(released / "detector.safetensors")
    assert (again.fingerprint, again.info) == (before.fingerprint, before.info)


def test_recipes_are_judged_on_what_they_never_heard(compared, released):
    table = compare.read_table(released / "compare.csv.gz")
    assert list(table.columns[len(compare.CLIP) :]) == ["plain 0", "plain 0 damaged", "release 0", "release 0 damaged"]
    assert table.notna().all(axis=None)
    assert set(table.fold) == {0, 1}
    assert compare.summary(table).eer.mean() < 0.3


def test_clips_are_left_out_by_a_column_and_a_slip_of_the_pen_is_refused():
    clips = pd.DataFrame({"path": ["a", "b", "c"], "part": ["core", "late", "wide"]})
    assert compare.leave_out(clips, "part=late").path.tolist() == ["a", "c"]
    assert compare.leave_out(clips, None).path.tolist() == ["a", "b", "c"]
    for rule in ("part=Late", "parts=late", "late"):
        with pytest.raises(ValueError, match="no clip has that"):
            compare.leave_out(clips, rule)


def test_scores_of_other_clips_are_not_mixed_in(compared, released):
    clips = compare.read_table(released / "compare.csv.gz")[compare.CLIP]
    with pytest.raises(ValueError, match="other clips"):
        compare.read_table(released / "compare.csv.gz", clips.assign(fold=0))


def test_what_is_there_is_not_computed_again_and_what_is_missing_is(compared, released, monkeypatch):
    def refuse(*_):
        raise AssertionError("computed again")

    before = (released / "compare.csv.gz").read_bytes()
    monkeypatch.setattr(compare, "judge", refuse)
    compare.main(compared)
    assert (released / "compare.csv.gz").read_bytes() == before
    table = compare.read_table(released / "compare.csv.gz")
    for column in ("plain 0", "plain 0 damaged"):
        table.assign(**{column: table[column].where(table.fold == 0)}).to_csv(released / "compare.csv.gz", index=False)
        with pytest.raises(AssertionError, match="computed again"):
            compare.main(compared)
    (released / "compare.csv.gz").write_bytes(before)


def test_the_summary_is_the_mean_over_seeds_and_folds():
    table = pd.DataFrame({"path": list("abcdefgh"), "label": [0, 0, 1, 1] * 2, "fold": [0] * 4 + [1] * 4})
    table = table.assign(system="", speaker="")
    right, half, wrong = [0, 0.1, 0.8, 0.9], [0, 0.8, 0.1, 0.9], [0.8, 0.9, 0, 0.1]  # EER 0, 50 and 100 %
    table["a 0"], table["a 0 damaged"] = right + half, half + half
    table["a 1"], table["a 1 damaged"] = half + wrong, wrong + wrong
    table["b 0"], table["b 0 damaged"] = right + right, right + half
    table["c 0"], table["c 0 damaged"] = [*right, *[np.nan] * 4], half + half  # not finished
    summary = compare.summary(table)
    assert list(summary.index) == ["b", "a"]
    assert summary.loc["a"].tolist() == pytest.approx([0.5, 0.25, 0.75, 0.75, 2])
    assert summary.loc["b"].tolist() == pytest.approx([0, 0, 0, 0.25, 1])


def test_the_card_leaves_out_seeds_that_are_not_finished(compared, released):
    table = compare.read_table(released / "compare.csv.gz")
    unfinished = table.assign(**{"plain 1": table["plain 0"].where(table.fold == 0), "plain 1 damaged": 0.5})
    pd.testing.assert_frame_equal(card.left_out(unfinished), card.left_out(table))


def test_each_kind_has_the_share_missed_at_the_threshold_of_its_fold():
    systems = ["HiFi-GAN", "HiFi-GAN", "DAC", "Mimi"]
    table = pd.DataFrame({"path": list("abcdefgh"), "label": [0] * 4 + [1] * 4, "fold": 0, "speaker": ""})
    table = table.assign(system=[""] * 4 + systems)
    table["a 0"] = table["a 0 damaged"] = [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]  # the EER is that one real, one fake
    table["a 1"] = table["a 1 damaged"] = [0.1, 0.2, 0.3, 0.4, 0.6, 0.7, 0.8, 0.9]
    missed = kinds.missed_by_kind(table)
    assert missed.index.tolist() == ["GAN vocoder", "codec"]
    assert missed["systems"].tolist() == [1, 2]
    assert missed["a", "missed"].tolist() == [0.25, 0]  # one of two clips, in one of two seeds
    assert missed["a", "low"].isna().tolist() == [True, False]  # one system has no spread


def test_the_shipped_tables_are_of_the_same_clips():
    folder = kinds.KINDS.parent
    scores = pd.read_csv(folder / "scores.csv", keep_default_na=False)
    for name, split in (("damage.csv", "testing"), ("damage_validation.csv", "validation")):
        assert pd.read_csv(folder / name).path.tolist() == scores[scores.split == split].path.tolist()


def test_every_system_has_a_kind():
    named = set(pd.read_csv(kinds.KINDS).system)
    for name in ("scores.csv", "compare.csv.gz"):
        table = pd.read_csv(kinds.KINDS.parent / name, keep_default_na=False)
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
    damage = pd.read_csv(released / "damage.csv")
    assert (damage["gain -20"] - damage["clean"]).abs().max() < 0.02
    assert list(damage.columns[1:3]) == ["clean", "noise 20"]
