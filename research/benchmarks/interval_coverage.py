"""How often 95 % intervals of the EER hold the truth, when the clips of a speaker sound alike.

Scores are Gaussian with standard deviation 1, the classes 2 apart, so that the true EER is Phi(-1) = 15.87 %; a share
of the variance (the intra-class correlation) belongs to the speaker. Each speaker is of one class and has 7 clips.
Main setting: 26 speakers in each class. The other, with 26 speakers in all, has 13 in each.
"""

from concurrent.futures import ProcessPoolExecutor

import numpy as np
from common import threads, write
from scipy.stats import norm

from dfa_utils import metrics
from dfa_utils.metrics import clustered_interval

RUNS, DRAWS, CLIPS, TRUTH = 1000, 300, 7, norm.cdf(-1)
SETTINGS = [(speakers, correlation) for speakers in (26, 13) for correlation in (0.3, 0.5)]


def rate(labels, scores) -> float:
    """The EER alone."""
    return metrics.eer(labels, scores)[0]


def simulate(speakers: int, correlation: float, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, scores and speakers of both classes' clips."""
    names = np.repeat(np.arange(2 * speakers), CLIPS)
    voice, clip = rng.normal(size=2 * speakers)[names], rng.normal(size=len(names))
    labels = (names >= speakers).astype(int)
    return labels, 2 * labels + np.sqrt(correlation) * voice + np.sqrt(1 - correlation) * clip, names


def coverage(setting: tuple[int, float]) -> dict:
    """Share of the runs whose interval holds the truth, and mean width of the interval, clustered and naive."""
    nobody = np.full(2 * setting[0] * CLIPS, "")  # every clip by itself
    rng, intervals = np.random.default_rng(0), {"clustered": [], "naive": []}
    for run in range(RUNS):
        labels, scores, names = simulate(*setting, rng)
        clustered = clustered_interval(rate, labels, scores, names, n=DRAWS, seed=run)
        intervals["clustered"].append(clustered)
        intervals["naive"].append(clustered_interval(rate, labels, scores, nobody, n=DRAWS, seed=run))
    return {name: summary(np.array(pairs)) for name, pairs in intervals.items()}


def summary(intervals: np.ndarray) -> dict:
    """Coverage and mean width of intervals [runs, 2]."""
    low, high = intervals.T
    held = (low <= TRUTH) & (high >= TRUTH)
    return {"coverage": round(float(held.mean()), 3), "mean width": round(float((high - low).mean()), 4)}


if __name__ == "__main__":
    with threads(2), ProcessPoolExecutor(2) as pool:
        results = pool.map(coverage, SETTINGS)
        names = [f"{speakers} speakers a class, correlation {c}" for speakers, c in SETTINGS]
        figures = {"runs": RUNS, "draws a run": DRAWS, "true EER": round(TRUTH, 4)}
        write("interval_coverage", {**figures, **dict(zip(names, results, strict=True))})
