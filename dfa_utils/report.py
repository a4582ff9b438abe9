"""An evaluation as text, as tables, as one page, and as the paragraph for a thesis: all from its scores alone."""

import base64
import io
from collections.abc import Callable
from html import escape

import pandas as pd

from dfa_utils.display import WORDS, column, page, quotation, section, table_of
from dfa_utils.evaluation import by_condition, clusters_of, confusions, parts_of, summarise, worst_mistakes
from dfa_utils.support import write_atomically


def as_text(scores: pd.DataFrame, threshold: float) -> str:
    """The evaluation as text: figures of each split in percent, confusion matrices, errors by system and by speaker.

    Raises ValueError where no split holds both classes.
    """
    figures = _summary(scores, threshold)
    lines = [f"threshold {threshold:.3f} (the checkpoint's own)"]
    for split, row in figures.iterrows():
        lines += [
            f"{split:<11}{row.n_real:5.0f} real {row.n_fake:5.0f} fake  accuracy {row.accuracy:6.1%}  F1 {row.f1:6.1%}"
            f"  HTER {row.hter:6.1%}  EER {row.eer:6.1%} [{row.eer_low:.1%}, {row.eer_high:.1%}]  AUC {row.auc:.3f}",
            f"{'':<11}minDCF {row.min_dcf:.3f}  actDCF {row.act_dcf:.3f}  Cllr {row.cllr:.3f} bits, at best "
            f"{row.min_cllr:.3f}",
        ]
    for split, ((hit_real, alarm), (miss, hit_fake)) in confusions(scores, threshold).items():
        lines.append(f"\n{split:<11}called real  called fake")
        lines += [f"  real     {hit_real:>11}  {alarm:>11}", f"  fake     {miss:>11}  {hit_fake:>11}"]
    for title, part in conditions(scores, threshold).items():
        lines.append(f"\n{title}: clips, share called wrongly")
        lines += [f"  {r.Index:<30}{r.clips:5d}  {r.wrong:6.1%} [{r.low:.1%}, {r.high:.1%}]" for r in part.itertuples()]
    return "\n".join(lines)


def tables(scores: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """The same as tables of text, by their titles. Raises ValueError where no split holds both classes."""
    found = {f"Figures of each split, at the threshold {threshold:.3f}": table_of(_summary(scores, threshold))}
    found["Confusion matrices"] = pd.DataFrame(
        [
            [f"{split}, {truth}", *map(str, counts)]
            for split, matrix in confusions(scores, threshold).items()
            for truth, counts in zip(("real", "fake"), matrix, strict=True)
        ],
        columns=["truth", "called real", "called fake"],
    ).set_index("truth")
    for title, part in conditions(scores, threshold).items():
        spread = [f"[{low:.1%}, {high:.1%}]" for low, high in zip(part.low, part.high, strict=True)]
        wrong = part.wrong.map("{:.1%}".format)
        found[title[0].upper() + title[1:]] = pd.DataFrame(
            {"clips": part.clips.astype(str), "called wrongly": wrong, "95 % interval": spread}
        )
    return found


def as_html(scores: pd.DataFrame, threshold: float) -> str:
    """The evaluation as a page that needs no other file: words for a thesis, tables, curves, the worst mistakes.

    `scores` is a table of `evaluation.load_scores`. Raises ValueError where no split holds both classes.
    """
    found, parts = tables(scores, threshold), parts_of(scores)
    first, *others = [section(title, column(part)) for title, part in found.items()]
    last, whole = list(parts)[-1], {"detector": "unknown", "data": "unknown"} | scores.iloc[0].to_dict()
    return page(
        "How often is the detector wrong?",
        first,
        f'<p class="soft">{WORDS}</p>',
        section("In a thesis", quotation(paragraph(scores, threshold, whole["detector"], whole["data"], last))),
        section("Scores", *(_histogram(part, threshold, split) for split, part in parts.items())),
        section("Every threshold at once", _curves(parts)),
        *others,
        section(f"Worst mistakes of {last}", _mistakes(parts[last], threshold)),
    )


def write_html(path, scores: pd.DataFrame, threshold: float) -> None:
    """Write `as_html` in one step."""
    write_atomically(path, as_html(scores, threshold).encode(errors="xmlcharrefreplace"))


def paragraph(scores: pd.DataFrame, threshold: float, detector: str, data: str, split: str = "testing") -> str:
    """What to report: what was tested, on how much, at which threshold, how well, and how sure that is.

    `detector` and `data` are fingerprints. Raises KeyError for a split without both classes.
    """
    part = parts_of(scores)[split]
    row = summarise(part, threshold).loc[split]
    return (
        f"The detector (fingerprint {detector}) was evaluated on the {split} split of the data set with fingerprint "
        f"{data}: {row.n_real:.0f} real clips ({_named(part, 0, 'speaker')}) and {row.n_fake:.0f} fake ones "
        f"({_named(part, 1, 'system')}). With the threshold fixed on validation ({threshold:.3f}) the half total error "
        f"rate was {row.hter:.1%} (accuracy {row.accuracy:.1%}, F1 {row.f1:.1%}). The equal error rate was "
        f"{row.eer:.1%} (95 % interval [{row.eer_low:.1%}, {row.eer_high:.1%}], bootstrap by {_drawn(part)}, at least "
        "Wilson's), "
        f"minDCF {row.min_dcf:.3f}, actDCF {row.act_dcf:.3f} (costs of ASVspoof 5) and Cllr "
        f"{row.cllr:.3f} bits (at best {row.min_cllr:.3f})."
    )


def _named(part: pd.DataFrame, label: int, column: str) -> str:
    names = set(part.loc[part.label == label, column]) - {""} if column in part else set()
    return f"{len(names)} {column}{'s' * (len(names) > 1)}" if names else f"{column}s not named"


def _drawn(part: pd.DataFrame) -> str:
    """What the interval was drawn by."""
    clusters = clusters_of(part)
    return " and ".join(name for name in clusters if clusters[name].any()) or "clip"


def conditions(scores: pd.DataFrame, threshold: float) -> dict[str, pd.DataFrame]:
    """Errors by system (fakes) and by speaker (reals) on the last split, as `by_condition` gives them, by title."""
    split, part = list(parts_of(scores).items())[-1]
    found = {}
    for name, label in (("system", 1), ("speaker", 0)):
        some = part[part.label == label]
        table = by_condition(some, threshold, name) if name in part and (some[name] != "").any() else []
        if len(table):
            found[f"{split}, {['reals', 'fakes'][label]} by {name}"] = table
    return found


def _summary(scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    if not parts_of(scores):
        raise ValueError("no split holds both classes, so there is no error rate to tell; score real and fake clips")
    return summarise(scores, threshold)


def picture(draw: Callable, words: str) -> str:
    """A picture that `draw(ax)` makes, inside the page; `words` say what it shows."""
    import matplotlib.pyplot as plt

    from dfa_utils.plots import STYLE

    file = io.BytesIO()
    with plt.rc_context(STYLE):
        fig, ax = plt.subplots(figsize=(6, 3.4), layout="constrained")
        draw(ax)
        fig.savefig(file, format="png", dpi=110)
        plt.close(fig)
    return f'<img alt="{escape(words)}" src="data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}">'


def _histogram(part: pd.DataFrame, threshold: float, split: str) -> str:
    from dfa_utils.plots import plot_scores

    words = f"histogram of the scores of {split}: {(part.label == 0).sum()} real clips, {(part.label == 1).sum()} fakes"
    return picture(lambda ax: plot_scores(part.label, part.score, threshold, split, ax=ax), words)


def _curves(parts: dict[str, pd.DataFrame]) -> str:
    from dfa_utils.plots import plot_det

    curves = {split: (part.label, part.score) for split, part in parts.items()}
    return picture(lambda ax: plot_det(curves, ax), f"DET curves of {', '.join(parts)}: misses against false alarms")


def _mistakes(part: pd.DataFrame, threshold: float) -> str:
    """The clips that are furthest on the wrong side, as a table."""
    worst = worst_mistakes(part, threshold, n=10)
    if worst.empty:
        return "<p>No clip was judged wrongly.</p>"
    shown = {"truth": worst.label.map({0: "real", 1: "fake"}), "score": worst.score.map("{:.3f}".format)}
    return column(pd.DataFrame(shown).set_axis(worst.path))
