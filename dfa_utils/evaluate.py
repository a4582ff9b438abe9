"""Scores and tables of a detector on a data set. A clip's score is what `Detector.predict` gives: P(fake).

The clips come through the cache of decoded clips, `Detector.predict` reads the file itself: for other than 16-bit mono
audio at the detector's rate the two differ by what 16 bits cannot hold.
"""

from itertools import islice

import numpy as np
import pandas as pd
from accelerate.utils import gather_object

from dfa_utils import metrics
from dfa_utils.audio import AudioError, windows
from dfa_utils.cache import blocks_of, open_clip
from dfa_utils.data import SPLITS
from dfa_utils.models import SpectrogramDetector, fuse_for_scoring, score_windows
from dfa_utils.processes import this_process
from dfa_utils.progress import progress_bar

BATCH = 32  # windows that are scored at once


def score_clips(model: SpectrogramDetector, manifest: pd.DataFrame) -> pd.DataFrame:
    """The manifest with a column `score`: the mean P(fake) of each clip's windows, on the model's own device.

    Under several processes each of them must call this with the same manifest: each scores its share, all get the
    whole. Raises AudioError, naming it, for a clip that cannot be read or is silent; `data.scan` leaves such clips out.
    """
    state = this_process()
    share = range(state.process_index, len(manifest), state.num_processes)
    scores = list(zip(share, _mean_scores(model, manifest.path.iloc[share]), strict=True))
    return manifest.assign(score=[score for _, score in sorted(gather_object(scores))])


def _mean_scores(model: SpectrogramDetector, paths: pd.Series) -> np.ndarray:
    config, scorer = model.config, fuse_for_scoring(model)
    bar = enumerate(progress_bar(paths, "scoring", leave=False))
    clips = ((row, blocks_of(open_clip(path, config.sample_rate), config.sample_rate)) for row, path in bar)
    cut = ((row, w) for row, clip in clips for _, w in windows(clip, config.clip_samples, config.hop_samples))
    sums, counts = np.zeros(len(paths)), np.zeros(len(paths))
    while batch := list(islice(cut, BATCH)):
        for (row, _), score in zip(batch, score_windows(scorer, [window for _, window in batch]), strict=True):
            sums[row] += score or 0
            counts[row] += score is not None
    if not counts.all():
        raise AudioError(f"{paths.iloc[int(np.argmin(counts))]}: silent throughout; leave it out")
    return sums / counts


def summarise(scores: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """One row a split: counts, accuracy, balanced accuracy, F1, HTER at the threshold; AUC and EER with its interval.

    All but the counts are shares in [0, 1]; `eer_low` and `eer_high` bound the 95 % bootstrap interval over clips.
    """
    return pd.DataFrame({split: _figures(scores[scores.split == split], threshold) for split in SPLITS}).T


def confusions(scores: pd.DataFrame, threshold: float) -> dict[str, np.ndarray]:
    """Confusion matrix [2, 2] of each split; row = truth, column = verdict, in the order real, fake."""
    parts = {split: scores[scores.split == split] for split in SPLITS}
    return {split: metrics.confusion(part.label, part.score, threshold) for split, part in parts.items()}


def worst_mistakes(scores: pd.DataFrame, threshold: float, n: int = 4) -> pd.DataFrame:
    """The n clips furthest on the wrong side of the threshold (fewer if there are fewer), worst first."""
    margin = (scores.score - threshold) * np.where(scores.label == 1, 1, -1)
    wrong = (scores.score >= threshold) != (scores.label == 1)
    return scores.assign(margin=margin)[wrong].sort_values("margin").head(n)


def report(scores: pd.DataFrame, threshold: float) -> str:
    """The evaluation as text: figures of each split in percent, then the confusion matrices."""
    table = summarise(scores, threshold)
    lines = [f"threshold {threshold:.3f} (the checkpoint's own)"]
    for split, row in table.iterrows():
        lines += [
            f"{split:<11}{row.n_real:5.0f} real {row.n_fake:5.0f} fake  accuracy {row.accuracy:6.1%}  F1 {row.f1:6.1%}"
            f"  HTER {row.hter:6.1%}  EER {row.eer:6.1%} [{row.eer_low:.1%}, {row.eer_high:.1%}]  AUC {row.auc:.3f}"
        ]
    for split, ((hit_real, alarm), (miss, hit_fake)) in confusions(scores, threshold).items():
        lines.append(f"\n{split:<11}called real  called fake")
        lines += [f"  real     {hit_real:>11}  {alarm:>11}", f"  fake     {miss:>11}  {hit_fake:>11}"]
    return "\n".join(lines)


def _figures(part: pd.DataFrame, threshold: float) -> dict[str, float]:
    labels, scores = part.label.to_numpy(), part.score.to_numpy()
    low, high = metrics.bootstrap_interval(lambda *drawn: metrics.eer(*drawn)[0], labels, scores, n=500)
    return {
        "n_real": int(np.sum(labels == 0)),
        "n_fake": int(np.sum(labels == 1)),
        "accuracy": metrics.accuracy(labels, scores, threshold),
        "balanced_accuracy": metrics.balanced_accuracy(labels, scores, threshold),
        "f1": metrics.f1(labels, scores, threshold),
        "hter": metrics.hter(labels, scores, threshold),
        "auc": metrics.roc_auc(labels, scores),
        "eer": metrics.eer(labels, scores)[0],
        "eer_low": low,
        "eer_high": high,
    }
