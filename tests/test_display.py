"""How results show themselves in a notebook, and the page of an evaluation: HTML that says what the numbers say."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import contrast_ratio

from dfa_utils import audit, scan
from dfa_utils.__main__ import main
from dfa_utils.display import LEFT, RIGHT, STYLE, WIDTH, scale, timeline
from dfa_utils.evaluation import load_scores, save_scores, score_clips, summarise
from dfa_utils.inference import Detector, Prediction
from dfa_utils.report import as_html, conditions, paragraph, tables
from dfa_utils.train import Run, fit

VOID = {"meta", "img", "br", "link"}  # elements that are never closed
SPAN = WIDTH - LEFT - RIGHT
SVG = "{http://www.w3.org/2000/svg}"


def judged(score=0.5, scores=(0.5,), uncertain=(0.2, 0.7), reason="", path="a.wav", threshold=0.4):
    scores = np.array(scores, float)
    times = np.arange(len(scores), dtype=float)
    return Prediction(path, score, threshold, len(scores) + 1.0, times, scores, uncertain, reason)


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    """The CSV of an evaluation in which classes overlap, with systems, speakers, and names that HTML must escape."""
    rng, rows = np.random.default_rng(0), []
    for split in ("training", "validation", "testing"):
        for label in (0, 1):
            for i in range(40):
                score = 1 / (1 + np.exp(-rng.normal(2 * label - 1)))
                name = f"{split}/<b>{i}</b>.wav"
                rows.append((name, split, label, f"<i>{i % 3}</i>" if label else "", f"s{i % 4}", score))
    table = pd.DataFrame(rows, columns=["path", "split", "label", "system", "speaker", "score"])
    path = tmp_path_factory.mktemp("report") / "scores.csv"
    save_scores(path, table, 0.45, "0123456789ab", "ba9876543210")
    return path


class Checker(HTMLParser):
    """Refuses elements that are not closed in order, and notes what the page would load."""

    def __init__(self, html):
        super().__init__()
        self.open, self.words, self.sources = [], [], []
        self.feed(html)
        self.close()
        assert self.open == []

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

    @property
    def text(self):
        return " ".join(self.words)


@pytest.mark.parametrize("score", [0.0, 0.25, 0.5, 1.0])
def test_on_the_scale_things_lie_where_the_numbers_say(score):
    drawing = ElementTree.fromstring(scale(judged(score, uncertain=(0.2, 0.7), threshold=0.4)))
    marker = drawing.find(f"{SVG}path").get("d")
    assert float(re.match(r"M([\d.]+)", marker)[1]) == pytest.approx(LEFT + score * SPAN, abs=0.1)
    assert float(drawing.find(f"{SVG}line").get("x1")) == pytest.approx(LEFT + 0.4 * SPAN, abs=0.1)
    zones = [(float(r.get("x")), float(r.get("width"))) for r in drawing.findall(f"{SVG}rect")]
    edges = [LEFT, LEFT + 0.2 * SPAN, LEFT + 0.7 * SPAN]
    assert zones == [pytest.approx(pair, abs=0.1) for pair in zip(edges, np.diff([*edges, LEFT + SPAN]), strict=True)]


def test_without_a_band_there_is_no_uncertain_zone():
    drawing = ElementTree.fromstring(scale(judged(uncertain=None)))
    assert [r.get("class") for r in drawing.findall(f"{SVG}rect")] == ["zone r", "zone f"]


@pytest.mark.parametrize(
    ("prediction", "words"),
    [
        (judged(0.9), "a reason to look further"),
        (judged(0.1), "does not prove that the recording is genuine"),
        (judged(0.5), "lies from 0.20 to 0.70, where errors are frequent"),
        (judged(0.9, reason="less than 0.5 s of sound"), "The reason: less than 0.5 s of sound."),
    ],
)
def test_a_verdict_is_told_in_words(prediction, words):
    found = Checker(prediction._repr_html_())
    assert words in found.text
    assert f"{prediction.score:.3f}" in found.text
    assert prediction.label in found.words
    assert found.sources == []


def test_a_name_of_a_file_is_text():
    html = judged(path="home/<script>alert(1)&<b>.wav")._repr_html_()
    assert "<script>alert(1)&<b>.wav" in Checker(html).text


def test_the_timeline_has_a_mark_for_each_window_at_its_score():
    prediction = judged(scores=[0.0, 0.5, 1.0])
    drawing = ElementTree.fromstring(timeline(prediction))
    marks = [r for r in drawing.findall(f"{SVG}rect") if "zone" not in r.get("class")]
    assert [r.get("class") for r in marks] == ["r", "u", "f"]
    middles = [float(r.get("y")) + float(r.get("height")) / 2 for r in marks]
    assert middles[1] == pytest.approx((middles[0] + middles[2]) / 2, abs=0.2)
    assert middles[0] > middles[2]
    assert np.diff([float(r.get("x")) for r in marks]) == pytest.approx([SPAN / 4] * 2, abs=1)


def test_a_long_recording_stays_small_and_keeps_its_extremes():
    scores = np.full(100_000, 0.3)
    scores[[12_345, 54_321]] = 0.0, 1.0
    html = judged(scores=scores)._repr_html_()
    assert len(html) < 200_000
    drawing = ElementTree.fromstring(timeline(judged(scores=scores)))
    heights = [float(r.get("height")) for r in drawing.findall(f"{SVG}rect") if "zone" not in r.get("class")]
    assert len(heights) <= SPAN + 1
    assert sum(height > 5 for height in heights) == 2


def test_a_run_says_which_epoch_is_kept(tmp_path):
    names = ("epoch", "train_loss", "train_accuracy", "loss", "accuracy", "eer")
    epochs = [
        dict(zip(names, (i + 1, 0.5, 0.8, [0.6, 0.2, 0.4, 0.5, 0.6][i], 0.9, 0.1), strict=True)) for i in range(5)
    ]
    text = Checker(Run(tmp_path / "<run>", epochs)._repr_html_()).text
    assert "epoch 2 of 5 is kept, validation loss 0.200, EER 10.0%" in text
    assert "<run>" in text
    assert "no epoch is finished yet" in Checker(Run(tmp_path)._repr_html_()).text
    assert Checker(Run(tmp_path, epochs[:1])._repr_html_()).text


def test_an_audit_shows_its_verdicts_first(tiny_root):
    found = audit(tiny_root)
    text = Checker(found._repr_html_()).text
    assert all(verdict in text for verdict in found.verdicts)
    assert text.index(found.verdicts[0]) < text.index("File formats")


def test_an_evaluation_shows_its_figures_and_stays_a_table(scored):
    scores, threshold = load_scores(scored)
    figures = summarise(scores, threshold)
    text = Checker(figures._repr_html_()).text
    assert all(f"{rate:.1%}" in text for rate in [*figures.eer, *figures.eer_low, *figures.accuracy, *figures.hter])
    assert "0.450" in text
    assert isinstance(figures, pd.DataFrame)
    assert type(figures[["eer"]]) is pd.DataFrame


def test_the_page_of_an_evaluation_needs_nothing_else_and_says_what_the_tables_say(scored, tmp_path, capsys):
    out = tmp_path / "new" / "report.html"
    assert main(["report", str(scored), "--html", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    html = out.read_text(encoding="utf-8")
    page = Checker(html)
    assert page.sources
    assert all(source.startswith("data:image/png;base64,") for source in page.sources)
    assert not re.search(r"https?://(?!www\.w3\.org)|url\(|@import", html)
    scores, threshold = load_scores(scored)
    words = paragraph(scores, threshold, "0123456789ab", "ba9876543210")
    assert words in page.text
    assert "testing/<b>" in page.text
    for title, frame in tables(scores, threshold).items():
        assert title in page.text
        assert all(value in page.words for value in frame.to_numpy().ravel())


def test_the_paragraph_for_a_thesis_has_the_numbers_of_the_tables(scored):
    scores, threshold = load_scores(scored)
    row = summarise(scores, threshold).loc["testing"]
    words = paragraph(scores, threshold, "0123456789ab", "ba9876543210")
    for rate in (row.hter, row.accuracy, row.f1, row.eer, row.eer_low, row.eer_high):
        assert f"{rate:.1%}" in words
    assert "40 real clips" in words
    assert "threshold fixed on validation (0.450)" in words
    assert set(conditions(scores, threshold)) == {"testing, fakes by system", "testing, reals by speaker"}


def test_one_class_alone_is_told_not_a_page(scored):
    scores, threshold = load_scores(scored)
    with pytest.raises(ValueError, match="both classes"):
        as_html(scores[scores.label == 0], threshold)
    assert "No clip was judged wrongly" not in as_html(scores, threshold)
    assert "No clip was judged wrongly" in as_html(scores.assign(score=0.8 * scores.label + 0.1), 0.5)


def test_the_theme_loads_nothing_and_its_text_can_be_read_on_its_ground():
    style = STYLE.read_text(encoding="utf-8")
    assert not re.search(r"url\(|@import|https?:", style)
    for ink, card in re.findall(r"--ink: (#\w+);.*?--card: (#\w+);", style, re.DOTALL):
        assert contrast(ink, card) > 7
    for ground in re.findall(r"\.badge\.\w+ \{ background: (#\w{6})", style):
        assert contrast("#ffffff", ground) > 4.5


def contrast(first, second):
    """The contrast of two colours such as "#fff"."""
    digits = [
        colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:]) for colour in (first, second)
    ]
    return contrast_ratio(*([int(each[i : i + 2], 16) / 255 for i in (0, 2, 4)] for each in digits))


def test_what_a_trained_detector_gives_can_be_shown(tiny_config, tiny_root, tmp_path):
    manifest = scan(tiny_root)
    run = fit(tiny_config, manifest, tmp_path / "run")
    detector = Detector.load(run.folder)
    shown = [run, summarise(score_clips(detector, manifest), 0.5), detector.predict(manifest.path[0])]
    assert all(Checker(each._repr_html_()).text for each in shown)
    assert Path(manifest.path[0]).name in Checker(shown[-1]._repr_html_()).text
