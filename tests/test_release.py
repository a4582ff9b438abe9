"""The comparison of recipes, the release and its card, on two trivial classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from dfa_utils import Detector, metrics
from dfa_utils.effects.augment import Augmentation
from dfa_utils.models import build_model
from dfa_utils.release import card, compare, recipes, release


@pytest.fixture(scope="module")
def root(tiny_root, tmp_path_factory):
    """A manifest of the tiny clips that names systems, speakers and pages."""
    folder = tmp_path_factory.mktemp("named")
    rows = [
        (str(path), split, label, f"s{i % 4}" if label == "fake" else "", f"{split}{label}{i % 6}", f"page{i % 4}")
        for split in ("training", "validation", "testing")
        for label in ("real", "fake")
        for i, path in enumerate(sorted((tiny_root / split / label).glob("*.wav")))
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
    assert release.main([str(argument) for argument in arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def compared(root, patched, released):
    arguments = ["--data", root, "--out", released / "compare.csv", "--runs", released / "cv", "--folds", 2]
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
    assert not torch.equal(detector.model.calibration, torch.tensor([1.0, 0.0]))


def test_a_second_call_changes_nothing(root, patched, released):
    before = Detector.load(released / "detector.safetensors")
    arguments = ["--data", root, "--out", released / "detector.safetensors", "--runs", released / "runs"]
    release.main([str(argument) for argument in [*arguments, "--seeds", 0, 1]])
    again = Detector.load(released / "detector.safetensors")
    assert (again.fingerprint, again.info) == (before.fingerprint, before.info)


def test_recipes_are_judged_on_what_they_never_heard(compared, released):
    rows = pd.read_csv(released / "compare.csv")
    assert sorted(zip(rows.recipe, rows.fold, strict=True)) == [
        (name, fold) for name in ("plain", "release") for fold in (0, 1)
    ]
    scores = pd.read_csv(released / "compare_scores.csv")
    assert list(scores.columns[len(compare.CLIP) :]) == ["plain 0", "plain 0 damaged", "release 0", "release 0 damaged"]
    for row in rows.itertuples():
        part = scores[scores.fold == row.fold]
        assert metrics.eer_rate(part.label, part[f"{row.recipe} 0"]) == pytest.approx(row.eer, abs=1e-4)
    assert rows.eer.mean() < 0.3


def test_scores_of_other_clips_are_not_mixed_in(compared, released):
    clips = pd.read_csv(released / "compare_scores.csv", keep_default_na=False)[compare.CLIP].iloc[1:]
    with pytest.raises(ValueError, match="other clips"):
        compare.add_scores(released / "compare_scores.csv", clips, "new 0", clips.assign(score=0.5, damaged=0.5))


def test_rows_that_are_there_are_not_computed_again(compared, released, monkeypatch):
    before = (released / "compare.csv").read_text()
    monkeypatch.setattr(compare, "judge", None)
    compare.main(compared)
    assert (released / "compare.csv").read_text() == before


def test_the_summary_is_the_mean_over_seeds_and_folds():
    rows = pd.DataFrame(
        [
            ("a", 0, 0, 0.1, 0.3),
            ("a", 0, 1, 0.3, 0.5),
            ("a", 1, 0, 0.2, 0.4),
            ("a", 1, 1, 0.6, 0.4),
            ("b", 0, 0, 0.1, 0),
        ],
        columns=["recipe", "seed", "fold", "eer", "damaged_eer"],
    )
    table = compare.summary(rows)
    assert list(table.index) == ["b", "a"]
    assert table.loc["a"].tolist() == pytest.approx([0.3, 0.2, 0.4, 0.4, 2])


def test_the_card_is_rebuilt_from_the_tables(compared, released):
    (released / "MODEL_CARD.md").write_text(f"# Card\n\n{card.START}\nold\n{card.END}\nend\n")
    card.main([str(released)])
    text = (released / "MODEL_CARD.md").read_text()
    assert text.startswith("# Card")
    assert text.endswith("end\n")
    assert "old" not in text
    for words in ("| testing |", "| telephone 8 |", "| gain -20 |", "| s1 |", "| release |"):
        assert words in text
    card.main([str(released)])
    assert (released / "MODEL_CARD.md").read_text() == text


def test_level_does_not_change_a_score(released):
    damage = pd.read_csv(released / "damage.csv")
    assert (damage["gain -20"] - damage["clean"]).abs().max() < 0.02
    assert list(damage.columns[1:3]) == ["clean", "noise 20"]
