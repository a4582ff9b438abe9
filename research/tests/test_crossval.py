from dataclasses import replace

import pandas as pd
import pytest

from research import crossval

SYSTEMS = ["A+HiFi-GAN", "B+HiFi-GAN", "YourTTS", "YourTTS-VC", "WaveNet", ""]


@pytest.fixture
def manifest():
    """12 reals of 6 speakers, 24 fakes of 6 systems, each with a voice of its own; four are of real speakers."""
    rows = [(f"r{i}.wav", "training", 0, "", f"v{i % 6}") for i in range(12)]
    rows += [(f"f{i}.wav", "validation", 1, SYSTEMS[i % 6], f"w{i % 6}" if i > 3 else f"v{i}") for i in range(24)]
    return pd.DataFrame(rows, columns=["path", "split", "label", "system", "speaker"])


def test_folds_keep_families_and_speakers_together(manifest):
    folds = crossval.make_folds(manifest, 3)
    families = manifest.system.map(crossval.family_of)
    named = (manifest.label == 1) & (families != "")
    assert (folds[named].groupby(families[named]).nunique() == 1).all()
    reals = manifest.label == 0
    assert (folds[reals].groupby(manifest.speaker[reals]).nunique() == 1).all()
    assert folds[reals].value_counts().tolist() == [4, 4, 4]
    assert set(folds[~reals]) == {0, 1, 2}


def test_variants_of_a_vocoder_are_one_family():
    assert {crossval.family_of(name) for name in SYSTEMS} == {"HiFi-GAN", "YourTTS", "WaveNet", ""}


def test_nothing_of_a_fold_is_trained_on(manifest):
    folds = crossval.make_folds(manifest, 3)
    for fold in range(3):
        out, left = manifest[folds == fold], crossval.left_in(manifest, folds, fold)
        assert set(left.label) == {0, 1}
        assert not set(left.path) & set(out.path)
        assert not set(left.speaker) & set(out.speaker)
        families = [set(part.system[part.label == 1].map(crossval.family_of)) - {""} for part in (left, out)]
        assert not families[0] & families[1]


def test_systems_that_speak_with_every_voice_leave_nothing(manifest):
    crossed = manifest.assign(speaker=[f"v{i % 3}" for i in range(len(manifest))])
    with pytest.raises(ValueError, match="more folds"):
        [crossval.left_in(crossed, crossval.make_folds(crossed, 3), fold) for fold in range(3)]


def test_too_few_families_are_named(manifest):
    with pytest.raises(ValueError, match="families"):
        crossval.make_folds(manifest.assign(system="one"), 2)
    with pytest.raises(ValueError, match="speakers"):
        crossval.make_folds(manifest.assign(speaker="one"), 2)
    with pytest.raises(ValueError, match="two folds or more"):
        crossval.make_folds(manifest, 1)


def test_folds_do_not_follow_the_index(manifest):
    expected = crossval.make_folds(manifest, 3)
    shuffled = manifest.sample(frac=1, random_state=0)
    named = manifest.set_index(pd.Index([0] * len(manifest)))
    for page in (None, "system"):
        expected = crossval.make_folds(manifest, 3, page=page)
        assert crossval.make_folds(named, 3, page=page).tolist() == expected.tolist()
        again = crossval.make_folds(shuffled, 3, page=page)
        assert (again.groupby(expected).nunique() == 1).all() or page is None
        assert again.index.equals(shuffled.index)


def test_pages_are_kept_together(manifest):
    pages = manifest.assign(page=[f"p{i % 5}" if i % 7 else "" for i in range(len(manifest))])
    folds = crossval.make_folds(pages, 3, page="page")
    named = pages.page != ""
    assert (folds[named].groupby(pages.page[named]).nunique() == 1).all()
    assert set(folds) == {0, 1, 2}
    with pytest.raises(ValueError, match="pages"):
        crossval.make_folds(pages.assign(page="one"), 2, page="page")


def test_no_epoch_is_left_out(tiny_manifest, tiny_config, tmp_path):
    config = replace(tiny_config, epochs=4, patience=1)
    last = crossval.fit_all_epochs(config, tiny_manifest, tmp_path)
    assert len(pd.read_csv(last.with_name("history.csv"))) == 4
    assert last == crossval.fit_all_epochs(config, tiny_manifest, tmp_path)
