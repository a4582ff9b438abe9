"""How results look in a notebook, and the page of an evaluation: HTML that says what the numbers say."""

import pickle
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import contrast_ratio
from matplotlib.colors import to_rgb

from dfa_utils import audit, evaluation, scan
from dfa_utils.display import LEFT, SPAN, STYLE, as_text, scale, table, timeline
from dfa_utils.evaluation import load_scores, save_scores, score_clips, summarise
from dfa_utils.inference import Detector, Prediction
from dfa_utils.report import as_html, paragraph, tables, write_html
from dfa_utils.train import Run, fit

VOID = {"meta", "img", "br", "link"}  # elements that are never closed
SVG = "{http://www.w3.org/2000/svg}"


def judged(score=0.5, scores=(0.5,), band=(0.2, 0.7), reason="", path="a.wav", threshold=0.4, evidence=None):
    scores, times = np.array(scores, float), np.arange(len(scores), dtype=float)
    seconds = len(scores) + 1.0
    return Prediction(path, score, threshold, seconds, seconds, times, times + 2, scores, band, reason, evidence)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The CSV of an evaluation in which classes overlap, with systems, speakers, and names that HTML must escape."""
    rng, rows = np.random.default_rng(0), []
    for split in ("training", "validation", "testing"):
        for i in range(80):
            label, score = i % 2, 1 / (1 + np.exp(-rng.normal(2 * (i % 2) - 1)))
            name = f"{split}/a folder whose name is longer than fifty characters/<b>{i}</b>.wav"
            rows.append((name, split, label, f"<i>{i % 3}</i>" * label, f"s{i % 7}", score))
    frame = pd.DataFrame(rows, columns=["path", "split", "label", "system", "speaker", "score"])
    path = tmp_path_factory.mktemp("report") / "scores.csv"
    save_scores(path, frame, 0.45, "0123456789ab", "ba9876543210")
    return path


class Checker(HTMLParser):
    """Refuses elements that are not closed in order, and notes what the page would load."""

    def __init__(self, html):
        super().__init__()
        self.open, self.words, self.sources = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.words)

    def handle_starttag(self, tag, attributes):
        assert tag != "script"
        self.sources += [value for name, value in attributes if name in ("src", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open[-1:] != ["style"]:
            self.words.append(data)


@pytest.mark.parametrize("score", [0.0, 0.25, 0.5, 1.0])
def test_positions_on_the_scale_are_those_of_the_numbers(score):
    drawing = ElementTree.fromstring(scale(judged(score)))
    marker = drawing.find(f"{SVG}path").get("d")
    assert float(re.match(r"M([\d.]+)", marker)[1]) == pytest.approx(LEFT + score * SPAN, abs=0.1)
    assert float(drawing.find(f"{SVG}line").get("x1")) == pytest.approx(LEFT + 0.4 * SPAN, abs=0.1)
    zones = [(float(r.get("x")), float(r.get("width"))) for r in drawing.findall(f"{SVG}rect")]
    edges = [LEFT, LEFT + 0.2 * SPAN, LEFT + 0.7 * SPAN]
    assert zones == [pytest.approx(pair, abs=0.1) for pair in zip(edges, np.diff([*edges, LEFT + SPAN]), strict=True)]
    without_band = ElementTree.fromstring(scale(judged(score, band=None)))
    assert [r.get("class") for r in without_band.findall(f"{SVG}rect")] == ["zone r", "zone f"]


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (judged(0.9), "a reason to look further"),
        (judged(0.1), "does not prove that the recording is genuine"),
        (judged(0.5), "is between 0.20 and 0.70, where errors are frequent"),
        (judged(0.9, reason="less than 0.5 s of sound"), "The reason: less than 0.5 s of sound."),
        (judged(0.95, evidence=(999, 999)), "about 19 times more likely if synthetic: moderate support"),
        (judged(0.95, evidence=(999, 999)), "is the probability that the recording is synthetic"),
        (judged(0.3, scores=[0.1, 0.9, 0.8, 0.1]), "Most suspicious stretch: 1.0 to 4.0 s."),
        (judged(0.9, path="home/<script>alert(1)&<b>.wav"), "<script>alert(1)&<b>.wav"),
    ],
)
def test_a_verdict_is_explained_in_words(prediction, words):
    found = Checker(prediction._repr_html_())
    assert words in found.text
    assert f"{prediction.score:.3f}" in found.text
    assert prediction.label in found.words
    assert found.sources == []


def test_the_timeline_has_a_mark_for_each_window_at_its_score():
    drawing = ElementTree.fromstring(timeline(judged(scores=[0.0, 0.5, 1.0])))
    marks = [r for r in drawing.findall(f"{SVG}rect") if "zone" not in r.get("class")]
    assert [r.get("class") for r in marks] == ["r", "u", "f"]
    middles = [float(r.get("y")) + float(r.get("height")) / 2 for r in marks]
    assert middles[1] == pytest.approx((middles[0] + middles[2]) / 2, abs=0.2)
    assert middles[0] > middles[2]
    assert np.diff([float(r.get("x")) for r in marks]) == pytest.approx([SPAN / 4] * 2, abs=1)


def test_a_long_recording_stays_small_and_keeps_its_extremes():
    scores = np.full(100_000, 0.3)
    scores[[12_345, 54_321]] = 0.0, 1.0
    assert len(judged(scores=scores)._repr_html_()) < 200_000
    drawing = ElementTree.fromstring(timeline(judged(scores=scores)))
    heights = [float(r.get("height")) for r in drawing.findall(f"{SVG}rect") if "zone" not in r.get("class")]
    assert len(heights) <= SPAN + 1
    assert sum(height > 5 for height in heights) == 2


def test_predictions_and_findings_can_be_compared_and_hashed(tiny_root):
    for one, other in ((judged(), judged()), (audit(tiny_root), audit(tiny_root))):
        assert one == one
        assert one != other
        assert len({one, other, one}) == 2


def test_a_run_says_which_epoch_is_kept(tmp_path):
    losses = [0.6, 0.2, 0.4, 0.5, 0.7]
    epochs = [
        {"epoch": i, "train_loss": 0.3, "train_accuracy": 0.8, "loss": loss, "accuracy": 0.9, "eer": i / 10}
        for i, loss in enumerate(losses, 1)
    ]
    found = Checker(Run(tmp_path / "<run>", epochs)._repr_html_())
    assert "<run>: epoch 2 of 5 is kept, with validation loss 0.200 and EER 20.0%." in found.text
    assert [word for word in found.words if re.fullmatch(r"epoch \d", word)] == [f"epoch {i}" for i in (2, 3, 4, 5)]
    assert {"0.200", "0.400", "0.500", "0.700"} < {*found.words}
    assert "no epoch is finished yet" in Checker(Run(tmp_path)._repr_html_()).text
    assert "epoch 1 of 1" in Checker(Run(tmp_path, epochs[:1])._repr_html_()).text


def test_an_audit_shows_its_verdicts_first(tiny_root):
    found = audit(tiny_root)
    for text in (Checker(found._repr_html_()).text, str(found)):
        assert all(verdict in text for verdict in found.verdicts)
        assert text.index(found.verdicts[0]) < text.index("File formats")


def test_the_table_of_an_evaluation_shows_its_numbers_also_after_copies_and_pickling(scored):
    summary = summarise(*load_scores(scored))
    for each in (summary, summary.copy(), pickle.loads(pickle.dumps(summary)), summary[summary.eer < 1]):
        text = Checker(each._repr_html_()).text
        assert all(f"{rate:.1%}" in text for rate in [*summary.eer, *summary.eer_low, *summary.accuracy, *summary.hter])
        assert "threshold 0.450" in text
        pd.testing.assert_frame_equal(each, summary)
    assert "threshold" not in summary[["eer"]]._repr_html_()  # a part of it is an ordinary table
    assert isinstance(summary, pd.DataFrame)


def test_a_table_keeps_long_text_whole_and_escapes_it():
    frame = pd.DataFrame({"<b>": ["<i>" + 100 * "x"]}, index=[100 * "y"])
    assert {"<b>", "<i>" + 100 * "x", 100 * "y"} <= {*Checker(table(frame)).words}
    assert 100 * "x" in as_text({"title": frame})
    assert as_text({"title": frame}).startswith("title\n")


def test_the_page_of_an_evaluation_needs_no_other_file_and_holds_every_table(scored, tmp_path):
    scores, threshold = load_scores(scored)
    write_html(tmp_path / "new" / "report.html", scores, threshold)
    html = (tmp_path / "new" / "report.html").read_text(encoding="utf-8")
    page = Checker(html)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import", html)
    assert paragraph(scores, threshold, "0123456789ab", "ba9876543210") in page.text
    assert "testing/a folder whose name is longer than fifty characters/<b>" in page.text
    for title, frame in tables(scores, threshold).items():
        assert title in page.text
        assert all(value in page.words for value in [*frame.index, *frame.columns, *frame.to_numpy().ravel()])


def test_the_page_draws_each_interval_once(scored, monkeypatch):
    calls, draw = [], evaluation.eer_interval
    monkeypatch.setattr(evaluation, "eer_interval", lambda part: calls.append(part.split.iloc[0]) or draw(part))
    as_html(*load_scores(scored))
    assert calls == ["training", "validation", "testing"]


def test_a_page_needs_both_classes_and_may_have_no_mistake(scored):
    scores, threshold = load_scores(scored)
    with pytest.raises(ValueError, match="both classes"):
        as_html(scores[scores.label == 0], threshold)
    assert "Every verdict was correct" not in as_html(scores, threshold)
    assert "Every verdict was correct" in as_html(scores.assign(score=0.8 * scores.label + 0.1), 0.5)


@pytest.mark.parametrize("counts", [(1, 1), (5, 1), (1, 5)])
def test_with_one_clip_of_a_class_no_page_table_or_paragraph_says_nan(counts):
    clips = [(split, label) for split in ("validation", "testing") for label in (0, 1) for _ in range(counts[label])]
    scores = pd.DataFrame(clips, columns=["split", "label"]).assign(system="", speaker="")
    scores = scores.assign(path=[f"{i}.wav" for i in scores.index], score=np.linspace(0.1, 0.9, len(scores)))
    shown = [paragraph(scores, 0.5, "abc", "def"), as_text(tables(scores, 0.5))]
    shown += [Checker(html).text for html in (as_html(scores, 0.5), summarise(scores, 0.5)._repr_html_())]
    assert not any(re.search(r"\bnan", text, re.IGNORECASE) for text in shown)


def test_the_theme_loads_nothing_and_its_text_is_legible():
    style = STYLE.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:", style)
    for ink, card in re.findall(r"--ink: (#\w+);.*?--card: (#\w+);", style, re.DOTALL):
        assert contrast_ratio(to_rgb(ink), to_rgb(card)) > 7
    for ground in re.findall(r"\.badge\.\w+ \{ background: (#\w{6})", style):
        assert contrast_ratio(to_rgb("white"), to_rgb(ground)) > 4.5


def test_results_of_a_trained_detector_can_be_shown(tiny_config, tiny_root, tmp_path):
    manifest = scan(tiny_root)
    run = fit(tiny_config, manifest, tmp_path / "run")
    detector = Detector.load(run.folder)
    shown = [run, summarise(score_clips(detector, manifest), 0.5), detector.predict(manifest.path[0])]
    assert all(Checker(each._repr_html_()).text for each in shown)
