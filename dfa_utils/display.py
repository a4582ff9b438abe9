"""How results look: verdicts, training runs, evaluations and audits as HTML without scripts, and tables as text."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

STYLE = Path(__file__).with_name("theme.css")
THEME = f"<style>{STYLE.read_text(encoding='utf-8')}</style>"
MEANING = {
    "real": "No trace of synthesis was found. That does not prove that the recording is genuine: the detector misses "
    "some kinds of synthesis, and it cannot tell whether the recording was cut or whether what is said is true.",
    "fake": "The detector found traces of synthesis. That is a reason to look further, not evidence by itself: some "
    "genuine recordings are called fake too.",
    "uncertain": "The detector does not decide.",
}
WEIGHT = """\
A score like this is {} (words of ENFSI's guideline, 2015). Neither this nor P(fake) is the probability that the \
recording is synthetic: that also depends on how frequent fakes are among such recordings."""
SUSPICIOUS = "Most suspicious stretch: {} s. Single windows are wrong more often than whole recordings."
LEGEND = """\
EER, the equal error rate: the error rate at the threshold where false positives (real clips called fake) and misses \
(fakes called real) are equally frequent. HTER: the mean of both error rates at the threshold above. AUC: the \
probability that a random fake scores higher than a random real clip. minDCF and actDCF: the cost of the errors as \
ASVspoof 5 weighs them, at the best threshold and at the one that theory sets; 1 is the cost of a blind decision. \
Cllr: the quality of the scores as probabilities, in bits; 0 is perfect, and 1 is what you get by always answering \
"I don't know". minCllr: the Cllr after the best possible calibration."""
WIDTH, LEFT, END = 480, 36, 468  # of every drawing; where its scale begins and ends
SPAN = END - LEFT


def block(*parts: str) -> str:
    """Pieces of HTML in one box with the theme."""
    return f'{THEME}<div class="dfa">{"".join(parts)}</div>'


def page(title: str, sections: dict[str, str]) -> str:
    """A complete HTML page that needs no other file, with sections of HTML by heading."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{THEME}'
    body = "".join(f"<section><h2>{escape(name)}</h2>{html}</section>" for name, html in sections.items())
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{escape(title)}</title></head>'
        f'<body><main class="dfa"><h1>{escape(title)}</h1>{body}</main></body></html>\n'
    )


def paragraph(text: str, style: str = "") -> str:
    """A paragraph of plain text; `style` is a class of the theme."""
    return f"<p{f' class={style}' if style else ''}>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading inside a box."""
    return f"<h3>{escape(text)}</h3>"


def table(frame: pd.DataFrame) -> str:
    """A DataFrame as an HTML table that scrolls where it is too wide; text is escaped and never cut."""
    with pd.option_context("display.max_colwidth", None):
        return f'<div class="wide">{frame.to_html(border=0, sparsify=False, index_names=False)}</div>'


def as_text(tables: dict[str, pd.DataFrame]) -> str:
    """Tables by title as plain text."""
    return "\n\n".join(f"{title}\n{frame.to_string(index_names=False)}" for title, frame in tables.items())


def verdict_html(prediction) -> str:
    """A `Prediction` as HTML: verdict, meaning, evidence and scale, and a timeline if there are several windows."""
    badge = f'<strong class="badge {prediction.label}">{prediction.label}</strong>'
    title = f"<p>{badge}{escape(Path(prediction.path).name)}, {prediction.seconds:.2f} s</p>"
    evidence = [paragraph(WEIGHT.format(prediction.support))] if prediction.support else []
    over_time = [heading("Over time"), timeline(prediction)] if len(prediction.scores) > 1 else []
    if over_time and prediction.suspicious:
        over_time.append(paragraph(SUSPICIOUS.format("{:.1f} to {:.1f}".format(*prediction.suspicious))))
    return block(title, paragraph(explain(prediction)), *evidence, scale(prediction), *over_time)


def explain(prediction) -> str:
    """The meaning of the verdict in words, and the reason if it is "uncertain"."""
    reason = f" The reason: {prediction.reason}." if prediction.reason else ""
    if prediction.label == "uncertain" and not reason:
        low, high = prediction.uncertain_band
        reason = f" P(fake) is between {low:.2f} and {high:.2f}, where errors are frequent."
    return MEANING[prediction.label] + reason


def scale(prediction) -> str:
    """P(fake) on a scale from 0 to 1 (SVG), with the threshold and the ranges called real, uncertain and fake."""
    low, high = _band(prediction)
    title = f"P(fake) {prediction.score:.3f} on a scale from 0 to 1; threshold {prediction.threshold:.2f}"
    title += f", uncertain from {low:.2f} to {high:.2f}" if low < high else ""
    shapes = []
    for start, end, name in ((0, low, "real"), (low, high, "uncertain"), (high, 1, "fake")):
        width = (end - start) * SPAN
        shapes.append(_rectangle(f"zone {name[0]}", _x(start), 26, width, 16) if width else "")
        shapes.append(_text(_x((start + end) / 2), 56, name) if width > 7 * len(name) else "")
    x, mark = _x(prediction.score), _x(prediction.threshold)
    shapes += [
        f'<line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="22" y2="46" stroke-width="2"/>',
        f'<path class="fill" d="M{x:.1f} 30l-6 -11h12z"/>',
        _text(min(max(x, 50), WIDTH - 50), 13, f"P(fake) {prediction.score:.3f}"),
        _text(mark, 74, f"threshold {prediction.threshold:.2f}"),
    ]
    return _drawing(80, title, *shapes, _text(LEFT, 74, "0", "start"), _text(END, 74, "1", "end"))


def timeline(prediction) -> str:
    """P(fake) of each window over time in seconds (SVG); windows that share a pixel are drawn as their range."""
    low, high = _band(prediction)
    seconds, scores, level = prediction.seconds, prediction.scores, _y(prediction.threshold)
    title = f"P(fake) of {len(scores):,} windows in {seconds:.1f} s, from {scores.min():.2f} to {scores.max():.2f}"
    shapes = [
        _rectangle("zone u", LEFT, _y(high), SPAN, _y(low) - _y(high)),
        f'<path class="mark" d="M{LEFT} {level:.1f}H{END}" stroke-dasharray="4 3"/>',
        f'<path class="axis" fill="none" d="M{LEFT} {_y(1)}V{_y(0)}H{END}"/>',
    ]
    pixels = np.floor(_x(prediction.times / max(seconds, 1e-9)))
    for x, part in pd.Series(scores).groupby(pixels):
        style = "r" if part.max() < low else "f" if part.min() >= high else "u"
        shapes.append(_rectangle(style, x - 1.5, _y(part.max()) - 2, 3, _y(part.min()) - _y(part.max()) + 4))
    shapes += [_text(LEFT - 6, _y(score) + 4, f"{score:g}", "end") for score in (0, 0.5, 1)]
    shapes += [_text(LEFT, 131, "0", "start"), _text(END, 131, f"{seconds:.1f}", "end")]
    legend = "start of the window (s); dashed: threshold" + ("; grey: uncertain" if low < high else "")
    return _drawing(150, title, *shapes, _text(_x(0.5), 146, legend))


def run_html(folder: Path, epochs: Sequence[dict], best: int) -> str:
    """A training run as HTML: the epoch that is kept, and the last rows of the history with it."""
    if not epochs:
        return block(paragraph(f"{folder.name}: no epoch is finished yet."))
    kept, rows = epochs[best], sorted({best, *range(len(epochs))[-3:]})
    frame = pd.DataFrame([epochs[i] for i in rows], [f"epoch {epochs[i]['epoch']}" for i in rows])
    words = f"{folder.name}: epoch {kept['epoch']} of {len(epochs)} is kept, with validation loss {kept['loss']:.3f}"
    losses = formatted(frame, "{:.3f}", train_loss="training loss", loss="validation loss")
    rates = formatted(frame, "{:.1%}", accuracy="accuracy", eer="EER")
    return block(paragraph(f"{words} and EER {kept['eer']:.1%}."), table(losses.join(rates)))


def formatted(frame: pd.DataFrame, pattern: str, **names: str) -> pd.DataFrame:
    """All columns as text, or some under new names: formatted(frame, "{:.1%}", eer="EER"). NaN becomes "unknown"."""
    return frame[[*(names or frame)]].map(pattern.format, na_action="ignore").fillna("unknown").rename(columns=names)


def interval(low: pd.Series, high: pd.Series) -> pd.Series:
    """Two columns of shares as one of text: [9.1%, 15.8%]."""
    return ("[" + low.map("{:.1%}".format) + ", " + high.map("{:.1%}".format) + "]").where(low.notna(), "unknown")


def summary_table(summary: pd.DataFrame) -> pd.DataFrame:
    """The numbers of `evaluation.summarise` as text: one column per split, rates in percent."""
    counts = formatted(summary, "{:.0f}", n_real="real clips", n_fake="fake clips")
    rates = formatted(summary, "{:.1%}", accuracy="accuracy", f1="F1", hter="HTER", eer="EER")
    bounds = interval(summary.eer_low, summary.eer_high).rename("EER, 95 % interval")
    names = {"min_dcf": "minDCF", "act_dcf": "actDCF", "cllr": "Cllr (bits)", "min_cllr": "minCllr (bits)"}
    return pd.concat([counts, rates, bounds, formatted(summary, "{:.3f}", auc="AUC", **names)], axis=1).T


def summary_html(summary: pd.DataFrame, threshold: float) -> str:
    """The table of `evaluation.summarise` as HTML, with the meaning of its numbers."""
    words = paragraph(f"Accuracy, F1 and HTER at the threshold {threshold:.3f}.")
    legend = f"<details><summary>What the numbers mean</summary>{paragraph(LEGEND)}</details>"
    return block(words, table(summary_table(summary)), legend)


def findings_html(findings) -> str:
    """`auditing.Findings` as HTML: what to fix, in words, most important first, and the tables behind it."""
    verdicts = findings.verdicts
    found = f"{len(verdicts)} to fix, the most important first:" if verdicts else findings.nothing_found
    words = paragraph(f"{len(findings.clips):,} clips. {found}")
    listed = "".join(f"<li>{escape(verdict)}</li>" for verdict in verdicts)
    tables = (heading(title) + table(frame) for title, frame in findings.tables().items())
    return block(words, f"<ol>{listed}</ol>" if verdicts else "", *tables)


def _drawing(height: int, title: str, *shapes: str) -> str:
    """An SVG drawing; `title` describes it in words for readers who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )


def _rectangle(style: str, x: float, y: float, width: float, height: float) -> str:
    return f'<rect class="{style}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"/>'


def _text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """Text in a drawing; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _x(share: float) -> float:
    """Horizontal position of a share in [0, 1] of the drawing's span."""
    return LEFT + share * SPAN


def _y(score: float) -> float:
    """Vertical position of a score in the timeline."""
    return 116 - score * 108


def _band(prediction) -> tuple[float, float]:
    """The bounds of "uncertain"; both are the threshold if there is no such band."""
    return prediction.uncertain_band or (prediction.threshold, prediction.threshold)
