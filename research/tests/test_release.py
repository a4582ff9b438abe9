"""The release, the comparison of detectors and the card, on two trivial classes."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile
from conftest import RATE, hiss, tone

from dfa_utils import Detector, metrics
from dfa_utils.calibrate import uncertain_band
from dfa_utils.dataset import scan
from research import build, card, compare, generators
from research.recipes import augmented, fit_all_epochs
from research.tables import RESULTS, names_of, read_table


@pytest.fixture(scope="module")
def root(tiny_root, tmp_path_factory):
    """A manifest of the tiny clips, with enough for validation, that names systems, speakers, kinds and pages."""
    folder, rng = tmp_path_factory.mktemp("named"), np.random.default_rng(1)
    rows = []
    for split in ("training", "validation", "testing"):
        for label, make in (("real", tone), ("fake", hiss)):
            paths = sorted((tiny_root / split / label).glob("*.wav"))
            for i in range(100 * (split == "validation")):
                paths.append(folder / f"{label}{i}.wav")
                soundfile.write(paths[-1], make(rng), RATE)
            for i, path in enumerate(paths):
                system = f"{split[0]}{i % 4}" if label == "fake" else "a person"
                rows.append((str(path), split, label, system, f"{split}{label}{i % 6}", "ab"[i % 2], f"page{i % 4}"))
    columns = ["path", "split", "label", "system", "speaker", "kind", "source_repo"]
    table = pd.DataFrame(rows, columns=columns).assign(original_sample_rate=RATE)
    table.loc[table.index[table.split == "validation"][-1], "system"] = "t0"  # which training holds
    table.to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    """Recordings as research.debian_speech writes them: two of announcers, one for training."""
    folder, rng = tmp_path_factory.mktemp("speech"), np.random.default_rng(2)
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", tone(rng, 1.0), RATE)
    packages = ["debian/asterisk-core-sounds-en-g722", "debian/warzone2100-data", "debian/gcin-voice"]
    rows = zip(["a.wav", "b.wav", "c.wav"], ["testing", "testing", "training"], packages, [1.0] * 3, strict=True)
    pd.DataFrame(rows, columns=["path", "split", "source_repo", "seconds"]).to_csv(folder / "manifest.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def trained(root, tiny_config, tmp_path_factory):
    config = replace(augmented(replace(tiny_config, epochs=5)), augment=())
    return fit_all_epochs(config, scan(root), tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def released(root, speech, trained, tmp_path_factory):
    folder = tmp_path_factory.mktemp("weights")
    arguments = ["--data", root, "--run", trained, "--speech", speech, "--out", folder]
    assert build.main([str(argument) for argument in arguments]) == 0
    table = ["--data", root, "--out", folder / "validation.csv.gz", f"this={trained}", f"same={trained}"]
    assert compare.main([str(argument) for argument in table]) == 0
    return folder


def test_the_release_keeps_its_promise_on_validation_as_received(root, released):
    detector = Detector.load(released / "detector.safetensors")
    assert detector.evidence == (106, 106)
    table = pd.read_csv(released / "coded_validation.csv.gz")
    assert table.path.tolist() == names_of(scan(root).query("split == 'validation'"), root)
    band = uncertain_band(table.label, table.received, detector.threshold, build.MISSED, build.FALSE_POSITIVES)
    assert band == pytest.approx(detector.uncertain_band, abs=1e-5)
    low, high = detector.uncertain_band
    assert (table.received[table.label == 0] >= high).mean() <= build.FALSE_POSITIVES
    assert (table.received[table.label == 1] < low).mean() <= build.MISSED
    assert detector.threshold == pytest.approx(metrics.eer(table.label, table.received)[1], abs=1e-5)


def test_clips_are_received_through_every_coding_in_turn(root, released):
    table = pd.read_csv(released / "coded_validation.csv.gz")
    for i, coding in enumerate(compare.CODINGS):
        assert table.received[i :: len(compare.CODINGS)].equals(table[coding][i :: len(compare.CODINGS)])


def test_a_second_call_changes_nothing(root, speech, trained, released):
    before = Detector.load(released / "detector.safetensors")
    build.main([str(each) for each in ["--data", root, "--run", trained, "--out", released]])
    again = Detector.load(released / "detector.safetensors")
    assert (again.fingerprint, again.info) == (before.fingerprint, before.info)
    assert len(pd.read_csv(released / "looks_at_testing.csv")) == 1


def test_people_are_those_held_out_and_announcers_also_at_low_rates(released):
    people = pd.read_csv(released / "people.csv.gz")
    assert people.path.tolist() == ["a.wav"] * 3 + ["b.wav"]
    assert people.rate.tolist() == [RATE, *build.LOW_RATES, RATE]
    assert set(people.label) <= {"real", "fake", "uncertain"}


def test_the_comparison_leaves_out_systems_that_training_holds(root, released):
    table = read_table(released / "validation.csv.gz")
    assert len(table) == 211
    assert not table.system.isin(["t0"]).any()
    assert table.columns.tolist() == [*compare.CLIP, "this", "this received", "same", "same received"]
    assert compare.difference(table, "this", "same") == (0, 0, 0)
    path = released / "other.csv.gz"
    table.iloc[1:].to_csv(path, index=False)
    with pytest.raises(ValueError, match="other clips"):
        compare.main(["--data", str(root), "--out", str(path)])


def test_a_paired_difference_is_narrower_than_two_intervals():
    rng, labels = np.random.default_rng(0), np.repeat([0, 1], 200)
    worse = rng.normal(2 * labels)
    table = pd.DataFrame({"label": labels, "speaker": "", "system": "", "worse": worse, "better": worse + labels})
    value, low, high = compare.difference(table, "better", "worse")
    assert low < value < high < 0
    apart = [
        compare.interval(table, lambda part, n=name: metrics.eer_rate(part.label, part[n]))
        for name in ("worse", "better")
    ]
    assert high - low < sum(above - below for below, above in apart)


def test_each_kind_has_the_share_missed_at_the_detectors_threshold():
    table = pd.DataFrame({"path": list("abcdefgh"), "label": [0] * 4 + [1] * 4, "speaker": "", "source_repo": ""})
    table = table.assign(
        system=[""] * 4 + list("xxyz"), kind=[""] * 4 + ["vocoder"] * 2 + ["codec"] * 2, coding="clean"
    )
    table = table.assign(original_sample_rate=RATE)
    table["a"] = table["a received"] = [0.1, 0.2, 0.3, 0.6, 0.4, 0.7, 0.8, 0.9]  # the EER: one real, one fake
    missed = generators.missed_by_kind(table)
    assert missed.kind.tolist() == ["vocoder", "codec"]
    assert missed.systems.tolist() == [1, 2]
    assert missed.missed.tolist() == [0.5, 0]
    assert missed.low.isna().tolist() == [True, False]  # one system has no spread


def test_the_card_is_rebuilt_from_the_tables(released):
    marks = [mark.format(name) for name in ("summary", "tables") for mark in card.MARKS]
    (released / "MODEL_CARD.md").write_text("# Card\n\n{}\nwhat was there\n{}\nwords\n{}\n{}\nend\n".format(*marks))
    card.main([str(released)])
    text = (released / "MODEL_CARD.md").read_text()
    assert text.startswith("# Card")
    assert text.endswith("end\n")
    assert "what was there" not in text
    assert text.index("| messenger (Opus, 24 kbit/s) |") < text.index("words") < text.index("| opus 24 |")
    assert (released / "kinds.png").stat().st_size > 10_000
    assert "| page0 | 3 | 3 |  |  |" in text  # of training
    for words in ("testing", "telephone 8", "gain -20", "t1", "opus 24", "received", "this", "this - same"):
        assert f"| {words} |" in text
    assert "| asterisk-core-sounds-en-g722 at 12,000 Hz |" in text
    card.main([str(released)])
    assert (released / "MODEL_CARD.md").read_text() == text


def test_level_does_not_change_a_score(released):
    degraded = pd.read_csv(released / "degraded_testing.csv")
    assert (degraded["gain -20"] - degraded["clean"]).abs().mean() < 0.02
    assert list(degraded.columns[1:3]) == ["clean", "mp3 64"]


def test_the_stored_tables_are_of_the_released_detector_and_of_the_same_clips():
    scores, detector = read_table(RESULTS / "scores.csv.gz"), Detector.load()
    assert set(scores.detector) == {detector.fingerprint}
    for name, split in (("degraded_testing.csv", "testing"), ("coded_validation.csv.gz", "validation")):
        assert pd.read_csv(RESULTS / name).path.tolist() == scores[scores.split == split].path.tolist()
    assert detector.fingerprint in pd.read_csv(RESULTS / "looks_at_testing.csv").detector.tolist()


def test_the_stored_card_and_errors_follow_from_the_tables(monkeypatch):
    monkeypatch.setattr(generators, "interval", lambda *_, **__: (0, 1))  # which takes long
    table = generators.missed_by_kind(read_table(RESULTS / "validation.csv.gz"))
    stored = pd.read_csv(RESULTS / "missed_by_generator.csv")
    pd.testing.assert_frame_equal(stored[[*table.columns[:5]]], table[[*table.columns[:5]]], atol=1e-4)
