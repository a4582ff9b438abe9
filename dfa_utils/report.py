"""An evaluation as tables, as a page, and as the paragraph for a thesis; all of it follows from the scores alone."""

import base64
import io
from collections.abc import Callable
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from dfa_utils import display, evaluation, plots
from dfa_utils.layouts import counted
from dfa_utils.support import write_atomically


def tables(scores: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """Every table of an evaluation as text, by title. Raises ValueError if no split has clips of both classes."""
    return _tables(_summary(scores, threshold), scores, threshold)


def write_html(path, scores: pd.DataFrame, threshold: float) -> None:
    """Write `as_html` as a file, all at once."""
    write_atomically(path, as_html(scores, threshold).encode(errors="xmlcharrefreplace"))


def as_html(scores: pd.DataFrame, threshold: float) -> str:
    """The evaluation as a page that needs no other file: tables, a paragraph for a thesis, curves, worst mistakes.

    `scores` is a table of `evaluation.load_scores`. Raises ValueError if no split has clips of both classes.
    """
    summary, parts = _summary(scores, threshold), evaluation.parts_of(scores)
    last, curves = [*parts][-1], {split: (part.label, part.score) for split, part in parts.items()}
    names = {"detector": "unknown", "data": "unknown"} | scores.iloc[0].to_dict()
    words = _in_words(parts[last], summary.loc[last], threshold, names["detector"], names["data"])
    sections = {title: display.table(frame) for title, frame in _tables(summary, scores, threshold).items()}
    sections |= {
        "What the numbers mean": display.paragraph(display.LEGEND, "soft"),
        "For a thesis": f"<blockquote>{display.paragraph(words)}</blockquote>",
        "Scores": "".join(_histogram(part, threshold, split) for split, part in parts.items()),
        "Every threshold at once": picture(lambda ax: plots.plot_det(curves, ax), f"DET curves of {', '.join(parts)}"),
        f"Worst mistakes of {last}": _mistakes(parts[last], threshold),
    }
    return display.page("How often is the detector wrong?", sections)


def paragraph(scores: pd.DataFrame, threshold: float, detector: str, data: str, split: str = "testing") -> str:
    """A paragraph to report: what was tested, on how many clips, at which threshold, the error rates, and how sure.

    `detector` and `data` are fingerprints. Raises KeyError for a split without clips of both classes.
    """
    part = evaluation.parts_of(scores)[split]
    return _in_words(part, evaluation.summarise(part, threshold).loc[split], threshold, detector, data)


def picture(draw: Callable, words: str) -> str:
    """A picture that `draw(ax)` makes, inside the page; `words` describe it."""
    file = io.BytesIO()
    with plt.rc_context(plots.STYLE):
        fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
        draw(ax)
        fig.savefig(file, format="png", dpi=110)
        plt.close(fig)
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _summary(scores: pd.DataFrame, threshold: float) -> evaluation.Summary:
    summary = evaluation.summarise(scores, threshold)
    if summary.empty:
        found = "; ".join(f"{split}: {note}" for split, note in summary.attrs["notes"].items()) or "no clips"
        raise ValueError(f"no split has clips of both classes ({found}); score real and fake clips")
    return summary


def _tables(summary: evaluation.Summary, scores: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """Each split; notes; confusion matrices; for the last split, wrong verdicts by system (fakes), speaker (real)."""
    matrices = evaluation.confusions(scores, threshold)
    truths = [f"{split}, {truth}" for split in matrices for truth in plots.NAMES]
    counts = pd.DataFrame(np.concatenate([*matrices.values()]), truths, ["called real", "called fake"])
    found = {f"Each split, at the threshold {threshold:.3f}": display.summary_table(summary)}
    if notes := summary.attrs["notes"]:
        found["Notes"] = pd.DataFrame({"note": notes})
    found["Confusion matrices"] = counts.astype(str)
    split, part = list(evaluation.parts_of(scores).items())[-1]
    for column, label, kind in (("system", 1, "fakes"), ("speaker", 0, "real clips")):
        clips = part[part.label == label]
        named = clips[column] != "" if column in clips else pd.Series(dtype=bool)
        if named.any():
            rows = evaluation.by_condition(clips, threshold, column)
            bounds = {"95 % interval": display.interval(rows.low, rows.high)}
            shares = display.formatted(rows, "{:.1%}", wrong="wrong verdicts").assign(**bounds)
            others = f" ({(~named).sum()} without a {column} are left out)" * (not named.all())
            found[f"{split.capitalize()}, {kind} by {column}{others}"] = rows[["clips"]].astype(str).join(shares)
    return found


def _in_words(part: pd.DataFrame, row: pd.Series, threshold: float, detector: str, data: str) -> str:
    clusters = evaluation.clusters_of(part)
    drawn_by = " and ".join(name for name in clusters if clusters[name].any()) or "clip"
    interval = display.interval(pd.Series(row.eer_low), pd.Series(row.eer_high))[0]  # or "unknown"
    return (
        f"The detector (fingerprint {detector}) was evaluated on the {row.name} split of the data set with fingerprint "
        f"{data}: {counted(int(row.n_real), 'real clip')} ({_named(part, 0, 'speaker')}) and "
        f"{counted(int(row.n_fake), 'fake clip')} ({_named(part, 1, 'system')}). At the threshold {threshold:.3f}, "
        f"fixed on validation, the half total error rate was {row.hter:.1%} (accuracy {row.accuracy:.1%}, F1 "
        f"{row.f1:.1%}). The equal error rate was {row.eer:.1%} (95 % interval {interval}: the wider of a bootstrap by "
        f"{drawn_by} and Wilson's interval), minDCF {row.min_dcf:.3f}, actDCF {row.act_dcf:.3f} (costs of ASVspoof 5) "
        f"and Cllr {row.cllr:.3f} bits (minCllr {row.min_cllr:.3f})."
    )


def _named(part: pd.DataFrame, label: int, column: str) -> str:
    names = set(part.loc[part.label == label, column]) - {""} if column in part else set()
    return f"{len(names)} {column}{'s' * (len(names) > 1)}" if names else f"{column}s not named"


def _histogram(part: pd.DataFrame, threshold: float, split: str) -> str:
    return picture(lambda ax: plots.plot_scores(part.label, part.score, threshold, split, ax=ax), f"scores of {split}")


def _mistakes(part: pd.DataFrame, threshold: float) -> str:
    """The clips that are furthest on the wrong side of the threshold, as a table."""
    worst = evaluation.worst_mistakes(part, threshold, n=10)
    if worst.empty:
        return display.paragraph("Every verdict was correct.")
    truth = worst.label.map(dict(enumerate(plots.NAMES))).rename("truth")
    return display.table(pd.concat([truth, worst.score.map("{:.3f}".format)], axis=1).set_axis(worst.path))
