"""Scores and tables of a detector on a data set; a clip's score is what `Detector.predict` gives: P(fake)."""

from itertools import repeat

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.cache import stream_clip
from dfa_utils.display import figures_html
from dfa_utils.inference import Detector
from dfa_utils.layouts import SPLITS
from dfa_utils.metrics import clustered_interval
from dfa_utils.support import gather_in_order, my_share, progress_bar, write_atomically


class Evaluation(pd.DataFrame):
    """The table of `summarise`: one row a split. A notebook shows it in words; its parts are plain DataFrames."""

    _metadata = ("threshold",)

    @property
    def _constructor(self):
        return pd.DataFrame

    def _repr_html_(self) -> str:
        return figures_html(self, self.threshold)


def evaluate(detector: Detector, manifest: pd.DataFrame) -> Evaluation:
    """The figures of `summarise`, one row a split, at the detector's own threshold; raises what `score_clips` does."""
    return summarise(score_clips(detector, manifest), detector.threshold)


def score_clips(detector: Detector, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a column `score`: P(fake) of each clip, higher = more likely fake.

    Under several processes each of them must call this with the same manifest: each scores its share, all get the
    whole. Raises AudioError, in all of them, for a clip that cannot be read or is silent; `scan` leaves such clips out.
    """
    rate, paths = detector.model.config.sample_rate, my_share(manifest.path.tolist())
    clips = zip(paths, map(stream_clip, progress_bar(paths, "scoring", leave=False), repeat(rate)), strict=True)
    results = gather_in_order([result for _, result in detector.predict_recordings(clips)])
    if errors := [result for result in results if isinstance(result, AudioError)]:
        raise errors[0]
    return manifest.assign(score=[result.score for result in results])


def summarise(scores: pd.DataFrame, threshold: float) -> Evaluation:
    """One row a split: counts; accuracy, F1, HTER at the threshold; AUC, EER, DCF and Cllr (bits).

    `eer_low` and `eer_high` bound the 95 % interval of the EER, drawn by speaker and by system where they are
    named, and never narrower than that drawn by clip.
    """
    rows = {split: _figures(part, threshold) for split, part in parts_of(scores).items()}
    table = Evaluation(pd.DataFrame(rows).T)
    table.threshold = threshold
    return table


def eer_interval(part: pd.DataFrame) -> tuple[float, float]:
    """95 % interval of the EER of a table with label and score: the one rule of the project.

    Drawn by speaker and by system where they are named (`clusters_of`), and never narrower than drawn by clip, nor than
    Wilson's (1927) for as many clips as the smaller class has: a bootstrap of no error at all would leave no doubt. NaN
    where a class has a single clip.
    """
    fewest = part.label.value_counts().min()
    if fewest < 2:
        return np.nan, np.nan
    clusters, by_clip = clusters_of(part), np.full(len(part), "")
    drawn_by = [by_clip, clusters] if clusters.any(axis=None) else [by_clip]
    bounds = [clustered_interval(metrics.eer_rate, part.label, part.score, by, n=500) for by in drawn_by]
    bounds.append(_wilson(round(metrics.eer_rate(part.label, part.score) * fewest), fewest))
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def parts_of(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The splits that hold both classes, in the order training, validation, testing."""
    parts = {split: scores[scores.split == split] for split in SPLITS}
    return {split: part for split, part in parts.items() if part.label.nunique() == 2}


def clusters_of(scores: pd.DataFrame) -> pd.DataFrame:
    """What clips have in common, for intervals: speaker, and for fakes the system; "" = not known.

    Where a class has one name only, the column is blanked: there is no spread to draw from.
    """
    columns = scores.reindex(columns=["speaker", "system"], fill_value="").fillna("")
    columns = columns.assign(system=columns.system.where(scores.label == 1, ""))
    several = columns.groupby(scores.label).transform("nunique") > 1
    return columns.where(several, "")


def by_condition(scores: pd.DataFrame, threshold: float, column: str) -> pd.DataFrame:
    """One row a value of `column` (system, speaker, ...): clips, share called wrongly and its interval.

    `low` and `high` bound the 95 % interval of the share (Wilson 1927), clips taken as independent; most errors first.
    """
    rows = {value: _condition(part, threshold) for value, part in scores.groupby(column) if value != ""}
    table = pd.DataFrame(rows, index=["clips", "wrong", "low", "high"]).T
    return table.rename_axis(column).astype({"clips": int}).sort_values("wrong", ascending=False)


def confusions(scores: pd.DataFrame, threshold: float) -> dict[str, np.ndarray]:
    """Confusion matrix [2, 2] of each split; row = truth, column = verdict, in the order real, fake."""
    parts = parts_of(scores)
    return {split: metrics.confusion(part.label, part.score, threshold) for split, part in parts.items()}


def worst_mistakes(scores: pd.DataFrame, threshold: float, n: int = 4) -> pd.DataFrame:
    """The n clips furthest on the wrong side of the threshold (fewer if there are fewer), worst first."""
    margin = (scores.score - threshold) * np.where(scores.label == 1, 1, -1)
    wrong = (scores.score >= threshold) != (scores.label == 1)
    return scores.assign(margin=margin)[wrong].sort_values("margin").head(n)


def save_scores(path, scores: pd.DataFrame, threshold: float, detector: str, data: str) -> None:
    """Write as CSV what every table is made of, with the threshold and the fingerprints of detector and data."""
    table = scores.assign(threshold=threshold, detector=detector, data=data)
    write_atomically(path, table.to_csv(index=False, float_format="%.9f").encode(errors="backslashreplace"))


def load_scores(path) -> tuple[pd.DataFrame, float]:
    """Scores and threshold from a CSV of `save_scores`. Raises ValueError that names what is missing."""
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"path": str, "speaker": str, "system": str})
    except ValueError as error:  # pandas' own errors and wrong encodings
        raise ValueError(f"{path}: cannot be read as a table ({error}); make it again with evaluate --out") from error
    missing = {"path", "split", "label", "score", "threshold"} - set(table.columns)
    if missing or not len(table):
        raise ValueError(
            f"{path}: no table of scores (missing: {', '.join(sorted(missing)) or 'rows'}); see evaluate --out"
        )
    return table, float(table.threshold.iloc[0])


def _condition(part: pd.DataFrame, threshold: float) -> tuple[int, float, float, float]:
    wrong = int(((part.score >= threshold) != (part.label == 1)).sum())
    return len(part), wrong / len(part), *_wilson(wrong, len(part))


def _wilson(wrong: int, clips: int) -> tuple[float, float]:
    """95 % interval of the share of wrong answers, clips taken as independent."""
    from scipy.stats import binomtest

    interval = binomtest(wrong, clips).proportion_ci(method="wilson")
    return interval.low, interval.high


def _figures(part: pd.DataFrame, threshold: float) -> dict[str, float]:
    labels, scores = part.label.to_numpy(), part.score.to_numpy()
    low, high = eer_interval(part)
    return {
        "n_real": int(np.sum(labels == 0)),
        "n_fake": int(np.sum(labels == 1)),
        "accuracy": metrics.accuracy(labels, scores, threshold),
        "f1": metrics.f1(labels, scores, threshold),
        "hter": metrics.hter(labels, scores, threshold),
        "auc": metrics.roc_auc(labels, scores),
        "eer": metrics.eer_rate(labels, scores),
        "eer_low": low,
        "eer_high": high,
        "min_dcf": metrics.min_dcf(labels, scores),
        "act_dcf": metrics.act_dcf(labels, scores),
        "cllr": metrics.cllr(labels, scores),
        "min_cllr": metrics.min_cllr(labels, scores),
    }
