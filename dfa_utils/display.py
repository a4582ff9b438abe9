"""What an audit of a data set found.

MERGED: The pieces that all displays are made of: a box with the theme, a page, paragraphs, tables, drawings.

MERGED: A verdict in words, the scale on which its score lies, and the scores over time.

MERGED: The course of a training.

MERGED: The figures of an evaluation."""

from collections.abc import Iterable, Sequence
from functools import cache
from html import escape
from pathlib import Path

import numpy as np
import pandas as pd

STYLE = Path(__file__).with_name("theme.css")


@cache
def theme() -> str:
    """The style sheet, as an element of HTML."""
    return f"<style>{STYLE.read_text(encoding='utf-8')}</style>"


def block(*parts: str) -> str:
    """Pieces of HTML in one box with the theme."""
    return f'{theme()}<div class="dfa">{"".join(parts)}</div>'


def page(title: str, *parts: str) -> str:
    """A page of its own, which needs no other file."""
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">{theme()}'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<title>{escape(title)}</title>'
        "<style>body{margin:0;background:Canvas;color-scheme:light dark}</style></head>"
        f'<body><main class="dfa"><h1>{escape(title)}</h1>{"".join(parts)}</main></body></html>\n'
    )


def paragraph(text: str, style: str = "") -> str:
    """One paragraph of plain text, in a class of the theme if one is named."""
    return f"<p{f' class={style}' if style else ''}>{escape(text)}</p>"


def heading(text: str) -> str:
    """A heading within a box or a page."""
    return f"<h3>{escape(text)}</h3>"


def table(head: Iterable, rows: Iterable[Iterable]) -> str:
    """A table of plain text; the first column names the rows."""
    titles = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in head)
    body = "".join(f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in row)}</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody></table></div>'


def column(frame) -> str:
    """A DataFrame of text, with the names of its rows, as a table."""
    rows = ([name, *values] for name, values in zip(frame.index, frame.to_numpy(), strict=True))
    return table(["", *frame.columns], rows)


def section(title: str, *parts: str) -> str:
    """Pieces of a page under one heading."""
    return f"<section><h2>{escape(title)}</h2>{''.join(parts)}</section>"


def quotation(words: str) -> str:
    """A paragraph that is there to be copied."""
    return f"<blockquote>{paragraph(words)}</blockquote>"


def numbered(lines: Iterable[str]) -> str:
    """A numbered list of plain text."""
    return f"<ol>{''.join(f'<li>{escape(line)}</li>' for line in lines)}</ol>"


def drawing(width: int, height: int, title: str, *shapes: str) -> str:
    """An SVG picture; `title` says in words what it shows, for those who cannot see it."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">'
        f"<title>{escape(title)}</title>{''.join(shapes)}</svg>"
    )


def text(x: float, y: float, words: str, anchor: str = "middle") -> str:
    """A line of text in a drawing; `anchor` is start, middle or end."""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


MEANING = {
    "real": (
        "No trace of synthesis was found. That does not prove that the recording is genuine: the detector misses some "
        "kinds of synthesis, and it says nothing about cuts, or about what is said."
    ),
    "fake": (
        "The detector found what it knows of synthetic speech. That is a reason to look further, not evidence by "
        "itself: it takes some genuine recordings for fake too."
    ),
    "uncertain": "The detector does not decide.",
}
WIDTH, LEFT, RIGHT = 480, 36, 12  # of all drawings, and their margins
COLUMNS = WIDTH - LEFT - RIGHT  # more windows than this are drawn as lines from their lowest to their highest score


def verdict_html(prediction) -> str:
    """A `Prediction` as HTML: verdict, what it means and why, scale, and a timeline where there are several windows."""
    label, name = prediction.label, escape(Path(prediction.path).name)
    parts = [
        f'<p><strong class="badge {label}">{label}</strong>{name}, {prediction.seconds:.2f} s</p>',
        paragraph(explain(prediction)),
        scale(prediction),
    ]
    if len(prediction.scores) > 1:
        parts += [heading("Over time"), timeline(prediction)]
    return block(*parts)


def explain(prediction) -> str:
    """What the verdict means, and where it is "uncertain" why."""
    words = MEANING[prediction.label]
    if prediction.reason:
        return f"{words} The reason: {prediction.reason}."
    if prediction.label == "uncertain":
        low, high = prediction.uncertain
        return f"{words} P(fake) lies from {low:.2f} to {high:.2f}, where errors are frequent."
    return words


def scale(prediction) -> str:
    """P(fake) on a scale from 0 to 1 (SVG), with the threshold and what is called real, uncertain and fake."""
    low, high = prediction.uncertain or (prediction.threshold, prediction.threshold)
    title = f"P(fake) {prediction.score:.3f} on a scale from 0 to 1; threshold {prediction.threshold:.2f}"
    title += f", uncertain from {low:.2f} to {high:.2f}" if prediction.uncertain else ""
    x = _across(prediction.score)
    zones = [(0, low, "r", "real"), (low, high, "u", "uncertain"), (high, 1, "f", "fake")]
    shapes = [
        f'<rect class="zone {kind}" x="{_across(start):.1f}" y="26" width="{(end - start) * COLUMNS:.1f}" height="16"/>'
        + (text(_across((start + end) / 2), 56, name) if (end - start) * COLUMNS > 7 * len(name) else "")
        for start, end, kind, name in zones
        if end > start
    ]
    mark = _across(prediction.threshold)
    shapes += [
        f'<line class="mark" x1="{mark:.1f}" x2="{mark:.1f}" y1="22" y2="46" stroke-width="2"/>',
        f'<path class="fill" d="M{x:.1f} 30l-6 -11h12z"/>',
        text(min(max(x, 50), WIDTH - 50), 13, f"P(fake) {prediction.score:.3f}"),
        text(_across(0), 74, "0", "start"),
        text(_across(1), 74, "1", "end"),
        text(mark, 74, f"threshold {prediction.threshold:.2f}"),
    ]
    return drawing(WIDTH, 80, title, *shapes)


def timeline(prediction, height: int = 150) -> str:
    """P(fake) of each window over time in seconds (SVG); of windows that fall on one column, the range."""
    bottom = height - 34
    low, high = prediction.uncertain or (prediction.threshold, prediction.threshold)

    def up(score: float) -> float:
        """Where a score lies in the drawing."""
        return bottom - score * (bottom - 8)

    title = (
        f"P(fake) of {len(prediction.scores):,} windows over {prediction.seconds:.1f} s, from "
        f"{prediction.scores.min():.2f} to {prediction.scores.max():.2f}"
    )
    marks = "".join(
        f'<rect class="{_kind(lowest, highest, low, high)}" x="{x - 1.5:.1f}" y="{up(highest) - 2:.1f}" '
        f'width="3" height="{up(lowest) - up(highest) + 4:.1f}"/>'
        for x, lowest, highest in _columns(prediction)
    )
    level, end = up(prediction.threshold), WIDTH - RIGHT
    shapes = [
        f'<rect class="zone u" x="{LEFT}" y="{up(high):.1f}" width="{COLUMNS}" height="{up(low) - up(high):.1f}"/>',
        f'<line class="mark" x1="{LEFT}" x2="{end}" y1="{level:.1f}" y2="{level:.1f}" stroke-dasharray="4 3"/>',
        f'<path class="axis" fill="none" d="M{LEFT} 8V{bottom}H{end}"/>',
        marks,
        *(text(LEFT - 6, up(score) + 4, f"{score:g}", "end") for score in (0, 0.5, 1)),
        text(LEFT, bottom + 15, "0", "start"),
        text(end, bottom + 15, f"{prediction.seconds:.1f}", "end"),
        text(
            LEFT + COLUMNS / 2,
            height - 4,
            "start of the window (s); dashed: threshold" + ("; grey: uncertain" if high > low else ""),
        ),
    ]
    return drawing(WIDTH, height, title, *shapes)


def _across(value: float) -> float:
    """Where a value from 0 to 1 lies in a drawing."""
    return LEFT + value * COLUMNS


def _columns(prediction) -> list[tuple[float, float, float]]:
    """(x, lowest score, highest score) of the windows that fall into one column of the drawing."""
    seconds = max(prediction.seconds, 1e-9)
    places = np.floor(np.asarray(prediction.times) / seconds * COLUMNS).astype(int)
    scores = np.asarray(prediction.scores)
    firsts = np.unique(places, return_index=True)[1]
    lowest, highest = (extreme.reduceat(scores, firsts) for extreme in (np.minimum, np.maximum))
    return [(LEFT + float(x), float(a), float(b)) for x, a, b in zip(places[firsts], lowest, highest, strict=True)]


def _kind(lowest: float, highest: float, low: float, high: float) -> str:
    """The class of a mark in the drawing: all below the band, all above it, or neither."""
    return "r" if highest < low else "f" if lowest >= high else "u"


LINES = {"train_loss": ("training", "4 3"), "loss": ("validation", "")}  # column: (name, dashes)


def run_html(folder: Path, epochs: Sequence[dict], best: int) -> str:
    """A training run as HTML: which epoch is kept, the loss of each, and the last rows of its history."""
    if not epochs:
        return block(paragraph(f"{folder.name}: no epoch is finished yet"))
    kept = epochs[best]
    words = f"{folder.name}: epoch {kept['epoch']} of {len(epochs)} is kept, validation loss {kept['loss']:.3f}, "
    head = ["epoch", "training loss", "validation loss", "accuracy", "EER"]
    rows = [
        [e["epoch"], f"{e['train_loss']:.3f}", f"{e['loss']:.3f}", f"{e['accuracy']:.1%}", f"{e['eer']:.1%}"]
        for e in sorted({e["epoch"]: e for e in [kept, *epochs[-3:]]}.values(), key=lambda e: e["epoch"])
    ]
    return block(paragraph(f"{words}EER {kept['eer']:.1%}."), loss_curves(epochs, best), table(head, rows))


def loss_curves(epochs: Sequence[dict], best: int, height: int = 190) -> str:
    """Cross-entropy on training and validation over the epochs (SVG); the epoch that is kept is marked."""
    bottom, most = height - 34, max(max(e[column] for column in LINES) for e in epochs) or 1.0

    def place(i: int, value: float) -> tuple[float, float]:
        """Where a loss of epoch i lies in the drawing."""
        return LEFT + COLUMNS * i / max(len(epochs) - 1, 1), bottom - value / most * (bottom - 22)

    shapes = [f'<path class="axis" fill="none" d="M{LEFT} 22V{bottom}H{WIDTH - RIGHT}"/>']
    for k, (column, (name, dashes)) in enumerate(LINES.items()):
        points = " ".join("{:.1f},{:.1f}".format(*place(i, e[column])) for i, e in enumerate(epochs))
        x = LEFT + 120 * k
        shapes += [
            f'<polyline class="mark" fill="none" stroke-width="2" stroke-dasharray="{dashes}" points="{points}"/>',
            f'<line class="mark" x1="{x}" x2="{x + 28}" y1="9" y2="9" stroke-width="2" stroke-dasharray="{dashes}"/>',
            text(x + 34, 13, name, "start"),
        ]
    x, y = place(best, epochs[best]["loss"])
    shapes += [
        f'<circle class="fill" cx="{x:.1f}" cy="{y:.1f}" r="5"/>',
        text(min(max(x, 60), WIDTH - 60), max(y - 9, 32), "kept"),
        *(text(LEFT - 6, place(0, value)[1] + 4, f"{value:.2g}", "end") for value in (0, most)),
        *(text(place(i, 0)[0], bottom + 15, f"{epochs[i]['epoch']}") for i in sorted({0, len(epochs) - 1})),
        text(LEFT + COLUMNS / 2, height - 4, "epoch; upwards: cross-entropy"),
    ]
    title = f"loss of {len(epochs)} epochs; on validation it is lowest in epoch {epochs[best]['epoch']}"
    return drawing(WIDTH, height, title, *shapes)


WORDS = """\
EER, the equal error rate: the share of errors at the threshold where as many reals are called fake as fakes \
are called real; the interval says how far it might lie from the truth by chance. HTER: the mean of both kinds of \
errors at the threshold above. AUC: the chance that a fake has a higher score than a real clip. Cllr: what the scores \
cost as probabilities, in bits; 0 is perfect, 1 is knowing nothing; "at best": after the best calibration."""


def table_of(figures: pd.DataFrame) -> pd.DataFrame:
    """What `evaluation.summarise` gives, as text: one row a split, rates in percent."""
    rows = {
        split: {
            "real": f"{row.n_real:.0f}",
            "fake": f"{row.n_fake:.0f}",
            "EER": f"{row.eer:.1%}",
            "95 % interval": f"[{row.eer_low:.1%}, {row.eer_high:.1%}]",
            "accuracy": f"{row.accuracy:.1%}",
            "F1": f"{row.f1:.1%}",
            "HTER": f"{row.hter:.1%}",
            "AUC": f"{row.auc:.3f}",
            "Cllr (at best)": f"{row.cllr:.3f} ({row.min_cllr:.3f})",
        }
        for split, row in figures.iterrows()
    }
    return pd.DataFrame(rows).T


def figures_html(figures: pd.DataFrame, threshold: float) -> str:
    """The table of `evaluation.summarise` as HTML, and what its figures mean."""
    words = f"Accuracy, F1 and HTER at the threshold {threshold:.3f}."
    return block(
        paragraph(words),
        column(table_of(figures)),
        f"<details><summary>What they mean</summary>{paragraph(WORDS)}</details>",
    )


def findings_html(findings) -> str:
    """`auditing.Findings` as HTML: what to mend, in words, the first thing first; then the figures behind it."""
    verdicts = findings.verdicts
    words = f"{len(verdicts)} to mend, the first thing first:" if verdicts else "No trap found."
    probes = findings.probes.rename(columns={"low": "training, low", "high": "training, high"})
    return block(
        paragraph(f"{len(findings.clips):,} clips. {words}"),
        numbered(verdicts) if verdicts else "",
        heading("Files that cannot be used, or sound wrong"),
        _frame(findings.problems, str),
        heading("File formats"),
        _frame(findings.formats, str),
        heading("Does the number alone tell real from fake? (AUC: 0.5 = no; with the 95 % interval on training)"),
        _frame(probes, "{:.2f}".format),
    )


def _frame(frame, show) -> str:
    """A DataFrame as a table; `show` makes text of a value."""
    head = [" ".join(map(str, name)) if isinstance(name, tuple) else name for name in frame.columns]
    rows = [
        [", ".join(map(str, name)) if isinstance(name, tuple) else name, *map(show, values)]
        for name, values in zip(frame.index, frame.to_numpy(), strict=True)
    ]
    return table(["", *head], rows)
