"""Scores and tables of a detector on a data set. A clip's score is what `Detector.predict` gives: P(fake).

The clips come through the cache of decoded clips, `Detector.predict` reads the file itself: for other than 16-bit mono
audio at the detector's rate the two differ by what 16 bits cannot hold.
"""

from collections.abc import Iterable
from itertools import islice

import numpy as np
import pandas as pd
import torch
from accelerate.utils import gather_object

from dfa_utils import metrics
from dfa_utils.audio import AudioError, windows
from dfa_utils.config import Config
from dfa_utils.dataset import SPLITS
from dfa_utils.datasets.cache import blocks_of, open_clip
from dfa_utils.models import Detecting, fuse_for_scoring, score_windows
from dfa_utils.support.files import write_atomically
from dfa_utils.support.parallel import progress_bar, this_process

BATCH = 32  # windows that are scored at once


def score_clips(model: Detecting, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a column `score`: the mean P(fake) of each clip's windows, on the model's own device.

    Under several processes each of them must call this with the same manifest: each scores its share, all get the
    whole. Raises AudioError, naming it, for a clip that cannot be read or is silent; `data.scan` leaves such clips out.
    """
    state = this_process()
    share = range(state.process_index, len(manifest), state.num_processes)
    scores = list(zip(share, _scores_of(model, manifest.path.iloc[share]), strict=True))
    return manifest.assign(score=[score for _, score in sorted(gather_object(scores))])


def mean_scores(model: Detecting, clips: Iterable[Iterable[torch.Tensor]], count: int) -> np.ndarray:
    """The mean P(fake) [count] of the windows of each clip, given as consecutive blocks [T]; NaN for a silent one."""
    config, scorer = model.config, fuse_for_scoring(model)
    cut = ((i, w) for i, clip in enumerate(clips) for _, w in windows(clip, config.clip_samples, config.hop_samples))
    sums, counts = np.zeros(count), np.zeros(count)
    while batch := list(islice(cut, BATCH)):
        for (i, _), score in zip(batch, score_windows(scorer, [window for _, window in batch]), strict=True):
            sums[i] += score or 0
            counts[i] += score is not None
    return np.divide(sums, counts, out=np.full(count, np.nan), where=counts > 0)


def _scores_of(model: Detecting, paths: pd.Series) -> np.ndarray:
    rate, bar = model.config.sample_rate, progress_bar(paths, "scoring", leave=False)
    scores = mean_scores(model, (blocks_of(open_clip(path, rate), rate) for path in bar), len(paths))
    if np.isnan(scores).any():
        raise AudioError(f"{paths.iloc[int(np.isnan(scores).argmax())]}: silent throughout; leave it out")
    return scores


def summarise(scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row a split: counts; accuracy, balanced accuracy, F1, HTER at the threshold; AUC, EER, DCF and Cllr (bits).

    `eer_low` and `eer_high` bound the 95 % interval of the EER, drawn by speaker and by system where they are
    named, and never narrower than that drawn by clip.
    """
    return pd.DataFrame({split: _figures(part, threshold) for split, part in parts_of(scores).items()}).T


def parts_of(scores: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The splits that hold both classes, in the order training, validation, testing."""
    parts = {split: scores[scores.split == split] for split in SPLITS}
    return {split: part for split, part in parts.items() if part.label.nunique() == 2}


def clusters_of(scores: pd.DataFrame) -> pd.DataFrame:
    """What clips have in common, for intervals: speaker, and for fakes the system; "" = not known.

    Where all clips of a class have one name, it says nothing of their spread: an interval speaks of that name alone.
    """
    columns = scores.reindex(columns=["speaker", "system"], fill_value="").fillna("")
    columns = columns.assign(system=columns.system.where(scores.label == 1, ""))
    several = columns.groupby(scores.label).transform("nunique") > 1
    return columns.where(several, "")


def by_condition(scores: pd.DataFrame, threshold: float, column: str) -> pd.DataFrame:
    """One row a value of `column` (system, speaker, ...): clips, share called wrongly and its interval, score, AUC.

    `low` and `high` bound the 95 % interval of the share (Wilson), clips taken as independent. `auc` sets the fakes
    among them against all reals, and the reals against all fakes; most errors first.
    """
    rows = {value: _condition(part, scores, threshold) for value, part in scores.groupby(column) if value != ""}
    table = pd.DataFrame(rows, index=["clips", "wrong", "low", "high", "score", "auc"]).T
    return table.rename_axis(column).astype({"clips": int}).sort_values("wrong", ascending=False)


def with_seconds(scores: pd.DataFrame, edges=(0, 1, 1.5, 2, 3, 5, 10, 30, np.inf)) -> pd.DataFrame:
    """The table with a column `duration`: the clip's length in s as a range, for `by_condition`."""
    rate = Config().sample_rate
    seconds = [len(open_clip(path, rate)) / rate for path in scores.path]
    return scores.assign(duration=pd.cut(seconds, edges).astype(str))


def confusions(scores: pd.DataFrame, threshold: float) -> dict[str, np.ndarray]:
    """Confusion matrix [2, 2] of each split; row = truth, column = verdict, in the order real, fake."""
    parts = parts_of(scores)
    return {split: metrics.confusion(part.label, part.score, threshold) for split, part in parts.items()}


def worst_mistakes(scores: pd.DataFrame, threshold: float, n: int = 4) -> pd.DataFrame:
    """The n clips furthest on the wrong side of the threshold (fewer if there are fewer), worst first."""
    margin = (scores.score - threshold) * np.where(scores.label == 1, 1, -1)
    wrong = (scores.score >= threshold) != (scores.label == 1)
    return scores.assign(margin=margin)[wrong].sort_values("margin").head(n)


def clearest(scores: pd.DataFrame, threshold: float, n: int = 4) -> pd.DataFrame:
    """The n clips furthest on the right side of the threshold, clearest first."""
    margin = (scores.score - threshold) * np.where(scores.label == 1, 1, -1)
    right = (scores.score >= threshold) == (scores.label == 1)
    return scores.assign(margin=margin)[right].sort_values("margin", ascending=False).head(n)


def save_scores(path, scores: pd.DataFrame, threshold: float, detector: str, data: str) -> None:
    """Write as CSV what every table is made of, with the threshold and the fingerprints of detector and data."""
    table = scores.assign(threshold=threshold, detector=detector, data=data)
    write_atomically(path, table.to_csv(index=False, float_format="%.9f").encode(errors="backslashreplace"))


def load_scores(path) -> tuple[pd.DataFrame, float]:
    """Scores and threshold from a CSV of `save_scores`. Raises ValueError that names what is missing."""
    table = pd.read_csv(path, keep_default_na=False, dtype={"path": str, "speaker": str, "system": str})
    missing = {"path", "split", "label", "score", "threshold"} - set(table.columns)
    if missing or not len(table):
        raise ValueError(
            f"{path}: no table of scores (missing: {', '.join(sorted(missing)) or 'rows'}); see evaluate --out"
        )
    return table, float(table.threshold.iloc[0])


def _condition(part: pd.DataFrame, scores: pd.DataFrame, threshold: float) -> tuple:
    from scipy.stats import binomtest

    wrong = int(((part.score >= threshold) != (part.label == 1)).sum())
    interval = binomtest(wrong, len(part)).proportion_ci(method="wilson")
    others = scores[scores.label == 1 - part.label.iloc[0]]
    both = pd.concat([part[part.label == part.label.iloc[0]], others])
    auc = metrics.roc_auc(both.label, both.score) if len(others) else np.nan
    return len(part), wrong / len(part), interval.low, interval.high, part.score.mean(), auc


def _figures(part: pd.DataFrame, threshold: float) -> dict[str, float]:
    labels, scores = part.label.to_numpy(), part.score.to_numpy()
    low, high = _interval(part)
    return {
        "n_real": int(np.sum(labels == 0)),
        "n_fake": int(np.sum(labels == 1)),
        "accuracy": metrics.accuracy(labels, scores, threshold),
        "balanced_accuracy": metrics.balanced_accuracy(labels, scores, threshold),
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


def _interval(part: pd.DataFrame) -> tuple[float, float]:
    """95 % interval of the EER, by clusters but never narrower than by clip; NaN where a class has a single clip."""
    if part.label.value_counts().min() < 2:
        return np.nan, np.nan
    clusters, by_clip = clusters_of(part), np.full(len(part), "")
    drawn_by = [by_clip, clusters] if clusters.any(axis=None) else [by_clip]
    bounds = [metrics.clustered_interval(metrics.eer_rate, part.label, part.score, by, n=500) for by in drawn_by]
    return min(low for low, _ in bounds), max(high for _, high in bounds)
