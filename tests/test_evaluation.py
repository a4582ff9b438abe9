import numpy as np
import pandas as pd
import pytest
import soundfile

from dfa_utils import evaluation
from dfa_utils.audio import AudioError
from dfa_utils.inference import Detector
from dfa_utils.models import build_model
from dfa_utils.report import as_html, paragraph, tables


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame(
            {"split": s, "label": np.repeat([0, 1], 50), "score": np.r_[rng.random(50), rng.random(50) + gap] / 2}
        )
        for s, gap in (("training", 1.0), ("validation", 0.5), ("testing", 0.0))
    ]
    return pd.concat(frames, ignore_index=True)


def test_a_clips_score_is_what_the_detector_predicts(tiny_manifest, tiny_config):
    detector = Detector(build_model(config=tiny_config), {"calibration": [2.0, 0.5]})
    some = tiny_manifest[::7].reset_index(drop=True)
    table = evaluation.score_clips(detector, some)
    expected = [detector.predict(path).score for path in some.path]
    assert table.score.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_silent_clip_is_named(tiny_config, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / "silent.wav")], "label": [0]})
    with pytest.raises(AudioError, match=r"silent\.wav"):
        evaluation.score_clips(Detector(build_model(config=tiny_config), {}), manifest)


def test_the_table_tells_the_easy_split_from_the_hard_one(scores):
    table = evaluation.summarise(scores, 0.5)
    assert table.eer["training"] == 0
    assert table.eer["validation"] < table.eer["testing"]
    assert (table.eer_low <= table.eer).all()
    assert (table.eer <= table.eer_high).all()
    assert table.accuracy["training"] > table.accuracy["testing"]


def test_worst_mistakes_are_mistakes_in_order(scores):
    worst = evaluation.worst_mistakes(scores, 0.5, n=5)
    assert ((worst.score >= 0.5) != (worst.label == 1)).all()
    assert worst.margin.is_monotonic_increasing
    assert evaluation.worst_mistakes(scores[scores.split == "training"], 0.5).empty


def test_splits_with_one_class_are_left_out(scores):
    some = scores[(scores.split == "testing") | (scores.label == 1)]
    assert list(evaluation.summarise(some, 0.5).index) == ["testing"]
    assert list(evaluation.confusions(some, 0.5)) == ["testing"]


@pytest.mark.parametrize(("label", "missing", "other"), [(0, "fake", "real"), (1, "real", "fake")])
def test_a_split_of_one_class_is_named(scores, label, missing, other):
    some = scores[(scores.split != "testing") | (scores.label == label)]
    note = f"no figures: 0 {missing} clips, 50 {other}"
    summary = evaluation.summarise(some, 0.5)
    assert summary.attrs["notes"]["testing"] == note
    assert f"testing: {note}." in summary._repr_html_()
    assert note in tables(some, 0.5)["Notes"].to_string()
    assert note in as_html(some.assign(path=""), 0.5)
    with pytest.raises(ValueError, match=rf"no split has clips of both classes \(testing: {note}\)"):
        tables(some[some.split == "testing"], 0.5)


def test_a_split_of_another_name_is_named(scores):
    notes = evaluation.find_notes(scores.replace({"split": {"training": "trainning"}}))
    assert notes["trainning"] == "no figures for its 100 clips: its name is none of training, validation, testing"


def test_an_eer_above_one_half_says_that_labels_may_be_reversed(scores):
    turned = scores[scores.split == "validation"].assign(label=lambda table: 1 - table.label)
    note = evaluation.find_notes(turned)["validation"]
    assert "above 50 %: the labels or scores may point the other way" in note
    assert f"{evaluation.summarise(turned, 0.5).eer['validation']:.1%}" in note
    assert evaluation.find_notes(scores[scores.split != "testing"]) == {}
    assert "Notes" not in tables(scores[scores.split != "testing"], 0.5)


def test_evaluate_warns_of_what_it_leaves_out(tiny_manifest, tiny_config):
    some = tiny_manifest[(tiny_manifest.split != "testing") | (tiny_manifest.label == 1)]
    with pytest.warns(UserWarning, match="testing: no figures: 0 real clips, 6 fake"):
        table = evaluation.evaluate(Detector(build_model(config=tiny_config), {}), some)
    assert list(table.index) == ["training", "validation"]


def test_clips_of_one_speaker_make_the_interval_wider():
    rng = np.random.default_rng(1)
    speakers = np.repeat(np.arange(20), 10)  # the first 10 real, the others fake
    scores = (rng.normal(0, 1, 20)[speakers] + 0.3 * rng.normal(0, 1, 200) + 1.5 * (speakers >= 10)).clip(
        -4, 5
    ) / 9 + 0.45
    table = pd.DataFrame({"split": "testing", "label": (speakers >= 10).astype(int), "score": scores, "system": ""})
    low, high = evaluation.summarise(table.assign(speaker=speakers.astype(str)), 0.5).loc[
        "testing", ["eer_low", "eer_high"]
    ]
    lower, higher = evaluation.summarise(table.assign(speaker=""), 0.5).loc["testing", ["eer_low", "eer_high"]]
    assert high - low > 1.3 * (higher - lower)


def test_one_clip_of_a_class_has_no_interval(scores):
    part = scores[(scores.split == "testing") & ((scores.label == 1) | (scores.index == scores.index.max() - 99))]
    row = evaluation.summarise(part, 0.5).loc["testing"]
    assert np.isnan(row.eer_low)
    assert 0 <= row.eer <= 1
    with pytest.raises(ValueError, match="both classes"):
        tables(part[part.label == 1], 0.5)


def test_errors_by_condition_are_counted_in_any_order(scores):
    part = scores[scores.split == "validation"].assign(system=["", "a"] * 50)
    table = evaluation.by_condition(part, 0.5, "system")
    some = part[part.system == "a"]
    assert table.index.tolist() == ["a"]
    assert table.clips["a"] == len(some)
    assert table.wrong["a"] == pytest.approx(((some.score >= 0.5) != (some.label == 1)).mean())
    shuffled = part.sample(frac=1, random_state=np.random.default_rng(0))
    pd.testing.assert_frame_equal(evaluation.by_condition(shuffled, 0.5, "system"), table)


def test_the_interval_of_a_share_is_wilsons():
    """Wilson 1927: 0 of 10 gives [0, z^2 / (10 + z^2)], which is 27.8 %; the exact interval would end at 30.8 %."""
    part = pd.DataFrame({"label": 1, "score": [0.9] * 10, "system": "a"})
    row = evaluation.by_condition(part, 0.5, "system").loc["a"]
    assert (row.low, row.high) == pytest.approx((0, 1.95996**2 / (10 + 1.95996**2)), abs=1e-6)


def test_clusters_are_speakers_and_for_fakes_also_systems():
    part = pd.DataFrame(
        {"label": [0, 0, 1, 1], "speaker": ["a", "b", "c", "c"], "system": ["studio", "phone", "x", "y"]}
    )
    clusters = evaluation.clusters_of(part)
    assert clusters.system.tolist() == ["", "", "x", "y"]  # a real clip has no system, whatever the table says
    assert clusters.speaker.tolist() == ["a", "b", "", ""]  # one name for a whole class gives no spread


def test_every_table_follows_from_the_csv(scores, tmp_path):
    scores = scores.assign(path=[f"{i}.wav" for i in range(len(scores))], system="", speaker="007")
    evaluation.save_scores(tmp_path / "s.csv", scores, 0.47, "abc", "def")
    loaded, threshold = evaluation.load_scores(tmp_path / "s.csv")
    assert threshold == 0.47
    assert {*loaded.detector, *loaded.data} == {"abc", "def"}
    expected = tables(scores.round({"score": 9}), 0.47)
    for title, table in tables(loaded, threshold).items():
        pd.testing.assert_frame_equal(table, expected[title])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as a table"),
        (b"path,score\n\xff,1\n", "cannot be read as a table"),
        (b"path,score\na.wav,0.5\n", "'split', 'label', 'threshold'"),
        (b"path,split,label,score,threshold\n", "needs rows"),
        (b"path,split,label,score,threshold\na.wav,testing,1,0.5,abc\n", "abc"),
        (b"path,split,label,score,threshold\na.wav,testing,1,abc,0.5\n", "abc"),
        (b"path,split,label,score,threshold\na.wav,testing,1,,0.5\n", "from 0 to 1"),
        (b"path,split,label,score,threshold\na.wav,testing,1,1.5,0.5\n", "scores and threshold from 0 to 1"),
        (b"path,split,label,score,threshold\na.wav,testing,2,0.5,0.5\n", "labels 0 or 1"),
    ],
)
def test_a_damaged_table_is_refused_with_its_name_and_the_cure(tmp_path, content, message):
    (tmp_path / "bad.csv").write_bytes(content)
    with pytest.raises(ValueError, match=rf"bad\.csv: .*{message}.*evaluate --out"):
        evaluation.load_scores(tmp_path / "bad.csv")


def test_tables_hold_every_count_and_condition(scores):
    named = scores.assign(system=np.where(scores.label == 1, "vocoder", ""), speaker="")
    found = tables(named, 0.5)
    assert [*found] == ["Each split, at the threshold 0.500", "Confusion matrices", "Testing, fakes by system"]
    counts = np.concatenate([*evaluation.confusions(named, 0.5).values()])
    assert found["Confusion matrices"].to_numpy().tolist() == counts.astype(str).tolist()
    wrong = (named.score < 0.5)[(named.split == "testing") & (named.label == 1)].mean()
    assert found["Testing, fakes by system"].loc["vocoder"].tolist()[:2] == ["50", f"{wrong:.1%}"]


def test_clips_without_a_system_are_counted(scores):
    some = scores.assign(system=np.where((scores.label == 1) & (scores.index % 2 == 0), "vocoder", ""))
    assert [*tables(some, 0.5)][-1] == "Testing, fakes by system (25 without a system are left out)"


def test_the_paragraph_says_what_was_tested_and_how_sure_it_is(scores):
    named = scores.assign(system=np.where(scores.label == 1, "vocoder", ""), speaker="")
    text, row = paragraph(named, 0.5, "abc", "def"), evaluation.summarise(named, 0.5).loc["testing"]
    assert all(
        word in text
        for word in ("abc", "def", "50 real clips (speakers not named)", "1 system)", "0.500", "bootstrap by clip")
    )
    assert f"{row.eer:.1%} (95 % interval [{row.eer_low:.1%}, {row.eer_high:.1%}]" in text
    testing = named[named.split == "testing"]
    one_real = pd.concat([testing[testing.label == 1], testing[testing.label == 0].head(1)])
    text = paragraph(one_real, 0.5, "abc", "def")
    assert "(95 % interval unknown: " in text
    assert "nan" not in text


@pytest.mark.parametrize(("clips", "bound"), [(6, 0.390), (40, 0.0876), (400, 0.0095)])
def test_few_clips_without_an_error_have_a_wide_interval(clips, bound):
    labels = np.repeat([0, 1], clips)
    low, high = evaluation.eer_interval(pd.DataFrame({"label": labels, "score": labels * 0.8 + 0.1}))
    assert low == 0
    assert high == pytest.approx(bound, abs=1e-3)  # Wilson's for 0 of n is z^2 / (n + z^2), z = 1.96
