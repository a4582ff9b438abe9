import numpy as np
import pandas as pd
import pytest
import soundfile

from dfa_utils import evaluate
from dfa_utils.audio import AudioError
from dfa_utils.inference import Detector
from dfa_utils.models import build_model


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    frames = [
        pd.DataFrame({"split": s, "label": np.repeat([0, 1], 50), "score": np.r_[rng.random(50), rng.random(50) + gap]})
        for s, gap in (("training", 1.0), ("validation", 0.5), ("testing", 0.0))
    ]
    return pd.concat(frames, ignore_index=True)


def test_a_clips_score_is_what_the_detector_predicts(tiny_manifest, tiny_config):
    model = build_model(config=tiny_config)
    some = tiny_manifest[::7].reset_index(drop=True)
    table = evaluate.score_clips(model, some)
    expected = [Detector(model, {}).predict(path).score for path in some.path]
    assert table.score.tolist() == pytest.approx(expected, abs=1e-5)


def test_a_silent_clip_is_named(tiny_config, tmp_path):
    soundfile.write(tmp_path / "silent.wav", np.zeros(8_000), 16_000)
    manifest = pd.DataFrame({"path": [str(tmp_path / "silent.wav")], "label": [0]})
    with pytest.raises(AudioError, match=r"silent\.wav"):
        evaluate.score_clips(build_model(config=tiny_config), manifest)


def test_the_table_tells_the_easy_split_from_the_hard_one(scores):
    table = evaluate.summarise(scores, 0.5)
    assert table.eer["training"] == 0
    assert table.eer["validation"] < table.eer["testing"]
    assert (table.eer_low <= table.eer).all()
    assert (table.eer <= table.eer_high).all()
    assert table.accuracy["training"] > table.accuracy["testing"]


def test_worst_mistakes_are_mistakes_in_order(scores):
    worst = evaluate.worst_mistakes(scores, 0.5, n=5)
    assert ((worst.score >= 0.5) != (worst.label == 1)).all()
    assert worst.margin.is_monotonic_increasing
    assert evaluate.worst_mistakes(scores[scores.split == "training"], 1.0).empty


def test_the_report_holds_every_count(scores):
    text = evaluate.report(scores, 0.5)
    for split, matrix in evaluate.confusions(scores, 0.5).items():
        assert split in text
        assert all(str(count) in text for count in matrix.ravel())
