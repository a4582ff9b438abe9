"""A verdict in words, the scale on which its score lies, and the scores over time."""

from html import escape
from pathlib import Path

import numpy as np

from dfa_utils.display.theme import block, drawing, heading, paragraph, text

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
