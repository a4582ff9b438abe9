"""Scores and tables of a detector on a data set. The score of a clip is what `Detector.predict` gives: P(fake)."""

import warnings
from itertools import repeat

import numpy as np
import pandas as pd

from dfa_utils import metrics
from dfa_utils.audio import AudioError
from dfa_utils.cache import stream_clip
from dfa_utils.display import block, paragraph, summary_html
from dfa_utils.inference import Detector
from dfa_utils.layouts import SPLITS
from dfa_utils.support import gather_in_order, my_share, progress_bar, write_atomically

RATES = {"accuracy": metrics.accuracy, "f1": metrics.f1, "hter": metrics.hter}  # at a threshold
COSTS = {"min_dcf": metrics.min_dcf, "act_dcf": metrics.act_dcf, "cllr": metrics.cllr, "min_cllr": metrics.min_cllr}
NUMBERS = ["label", "score", "threshold"]  # columns of a table of scores
COLUMNS = ["n_real", "n_fake", *RATES, "auc", "eer", "eer_low", "eer_high", *COSTS]


class Summary(pd.DataFrame):
    """The table of `summarise`, one row per split, with `attrs["threshold"]` and `attrs["notes"]`.

    A notebook shows it in percent, and the notes below it.
    """

    _constructor = property(lambda self: Summary)  # copies and selections are tables of this kind too

    def _repr_html_(self) -> str:
        if "threshold" not in self.attrs or [*self.columns] != COLUMNS:
            return super()._repr_html_()
        notes = [paragraph(f"{split}: {note}.") for split, note in self.attrs.get("notes", {}).items()]
        return summary_html(self, self.attrs["threshold"]) + (block(*notes) if notes else "")


def evaluate(detector: Detector, manifest: pd.DataFrame) -> Summary:
    """The table of `summarise` at the detector's own threshold, and its notes as warnings.

    Raises what `score_clips` raises.
    """
    summary = summarise(score_clips(detector, manifest), detector.threshold)
    for split, note in summary.attrs["notes"].items():
        warnings.warn(f"{split}: {note}", stacklevel=2)
    return summary


def score_clips(detector: Detector, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a column `score`: P(fake) of each clip, higher = more likely fake.

    Several processes must all call this with the same manifest: each scores its share, and all get the whole table.
    Raises AudioError, in every process, for a clip that cannot be read or is silent; `scan` leaves such clips out.
    """
    rate, paths = detector.model.config.sample_rate, my_share(manifest.path.tolist())
    clips = zip(paths, map(stream_clip, progress_bar(paths, "scoring", leave=False), repeat(rate)), strict=True)
    results = gather_in_order([result for _, result in detector.predict_recordings(clips)])
    if errors := [result for result in results if isinstance(result, AudioError)]:
        raise errors[0]
    return manifest.assign(score=[result.score for result in results])


def summarise(scores: pd.DataFrame, threshold: float) -> Summary:
    """One row per split with both classes: counts; accuracy, F1, HTER at the threshold; AUC, EER, DCF, Cllr (bits).

    `eer_low` and `eer_high` are the bounds of `eer_interval`; `attrs["notes"]` says what `find_notes` finds.
    """
    parts = parts_of(scores)
    table = Summary([_summary_row(part, threshold) for part in parts.values()], [*parts], COLUMNS)
    table.attrs |= {"threshold": threshold, "notes": find_notes(scores)}
    return table


def find_notes(scores: pd.DataFrame) -> dict[str, str]:
    """For each split that has no figures, or an EER above 50 %, a sentence that says so: {split: sentence}."""
    notes = {}
    for split, part in scores.groupby("split", sort=False):
        real, fake = ((part.label == label).sum() for label in (0, 1))
        if split not in SPLITS:
            notes[split] = f"no figures for its {len(part)} clips: its name is none of {', '.join(SPLITS)}"
        elif not real or not fake:
            notes[split] = f"no figures: 0 {'fake' if real else 'real'} clips, {len(part)} {'real' if real else 'fake'}"
        elif (rate := metrics.eer_rate(part.label, part.score)) > 0.5:
            turned = "the labels or scores may point the other way; label 1 and high scores mean fake"
            notes[split] = f"the EER of {rate:.1%} is above 50 %: {turned}"
    return notes


def eer_interval(part: pd.DataFrame) -> tuple[float, float]:
    """95 % interval of the EER of a table with label and score; the project uses this rule everywhere.

    The interval is the widest of three: bootstrap by clip, bootstrap by speaker and system where they are named
    (`clusters_of`), and Wilson's (1927) for as many clips as the smaller class has, because with no errors in the
    sample the bootstrap has zero width. NaN if a class has fewer than two clips.
    """
    fewest = part.label.value_counts().min()
    if fewest < 2:
        return np.nan, np.nan
    clusters, by_clip = clusters_of(part), np.full(len(part), "")
    drawn_by = [by_clip, clusters] if clusters.any(axis=None) else [by_clip]
    bounds = [metrics.clustered_interval(metrics.eer_rate, part.label, part.score, by, n=500) for by in drawn_by]
    bounds.append(_wilson(round(metrics.eer_rate(part.label, part.score) * fewest), fewest))
    return min(low for low, _ in bounds), max(high for _, high in bounds)


def parts_of(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The splits that have clips of both classes, in the order training, validation, testing."""
    parts = {split: scores[scores.split == split] for split in SPLITS}
    return {split: part for split, part in parts.items() if part.label.nunique() == 2}


def clusters_of(scores: pd.DataFrame) -> pd.DataFrame:
    """The clusters that intervals are drawn by: speaker, and for fakes the system; "" = not known.

    A column is blank for a class with one name only, because there is no spread to draw from.
    """
    columns = scores.reindex(columns=["speaker", "system"], fill_value="").fillna("")
    columns = columns.assign(system=columns.system.where(scores.label == 1, ""))
    return columns.where(columns.groupby(scores.label).transform("nunique") > 1, "")


def by_condition(scores: pd.DataFrame, threshold: float, column: str) -> pd.DataFrame:
    """One row per value of `column` (system, speaker, ...): clips, share of wrong verdicts, and its interval.

    `low` and `high` are the 95 % interval of the share (Wilson 1927) for independent clips; most errors first. Clips
    whose value is "" are left out.
    """
    named = scores[scores[column] != ""]
    wrong = ((named.score >= threshold) != (named.label == 1)).groupby(named[column])
    table = pd.DataFrame({"clips": wrong.count(), "wrong": wrong.mean()})
    bounds = [_wilson(int(errors), clips) for errors, clips in zip(wrong.sum(), table.clips, strict=True)]
    table[["low", "high"]] = np.reshape(bounds, (-1, 2))
    return table.sort_values("wrong", ascending=False)


def confusions(scores: pd.DataFrame, threshold: float) -> dict[str, np.ndarray]:
    """Confusion matrix [2, 2] of each split; row = truth, column = verdict, in the order real, fake."""
    parts = parts_of(scores)
    return {split: metrics.confusion(part.label, part.score, threshold) for split, part in parts.items()}


def worst_mistakes(scores: pd.DataFrame, threshold: float, n: int = 4) -> pd.DataFrame:
    """Up to n clips that are furthest on the wrong side of the threshold, worst first."""
    margin = (scores.score - threshold) * np.where(scores.label == 1, 1, -1)
    wrong = (scores.score >= threshold) != (scores.label == 1)
    return scores.assign(margin=margin)[wrong].sort_values("margin").head(n)


def save_scores(path, scores: pd.DataFrame, threshold: float, detector: str, data: str) -> None:
    """Write scores as CSV, with the threshold and the fingerprints of detector and data; all tables follow from it."""
    table = scores.assign(threshold=threshold, detector=detector, data=data)
    write_atomically(path, table.to_csv(index=False, float_format="%.9f").encode(errors="backslashreplace"))


def load_scores(path) -> tuple[pd.DataFrame, float]:
    """Scores and threshold from a CSV of `save_scores`. Raises ValueError with the name of a damaged file, and why."""
    cure = "write it again with evaluate --out"
    try:
        table = pd.read_csv(path, keep_default_na=False, dtype={"path": str, "speaker": str, "system": str})
        table[NUMBERS] = table[["path", "split", *NUMBERS]][NUMBERS].apply(pd.to_numeric)  # KeyError if one is missing
    except (ValueError, KeyError) as error:  # of pandas, and wrong encodings
        raise ValueError(f"{path}: cannot be read as a table of scores ({error}); {cure}") from error
    good = table.label.isin([0, 1]) & table.score.between(0, 1) & table.threshold.between(0, 1)
    if not len(table) or not good.all():
        raise ValueError(f"{path}: needs rows with labels 0 or 1, and scores and threshold from 0 to 1; {cure}")
    return table.astype({"label": int, "score": float}), float(table.threshold.iloc[0])


def _wilson(wrong: int, clips: int) -> tuple[float, float]:
    """95 % interval of the share of wrong verdicts for independent clips."""
    from scipy.stats import binomtest

    interval = binomtest(wrong, clips).proportion_ci(method="wilson")
    return interval.low, interval.high


def _summary_row(part: pd.DataFrame, threshold: float) -> list[float]:
    """The values of COLUMNS."""
    labels, scores = part.label.to_numpy(), part.score.to_numpy()
    rates = [metric(labels, scores, threshold) for metric in RATES.values()]
    ranking = [metrics.roc_auc(labels, scores), metrics.eer_rate(labels, scores), *eer_interval(part)]
    return [*np.bincount(labels), *rates, *ranking, *(metric(labels, scores) for metric in COSTS.values())]
