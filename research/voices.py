"""Judge free voices of people and of programs with the released detector: python -m research.voices [VOICE ...].

It fetches what is missing where it can (see `dfa_utils.voices`), and prints a table of the verdicts, by voice. A
sceptic can repeat it anywhere in five minutes: none of these recordings is in training.
"""

import argparse
import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from dfa_utils import plots
from dfa_utils.audio import AudioError
from dfa_utils.inference import Detector
from dfa_utils.support import progress_bar
from dfa_utils.voices import VOICES, find

VERDICTS = {"real": plots.COLOURS[0], "uncertain": "0.75", "fake": plots.COLOURS[1]}


def main(arguments=None) -> int:
    """Judge all voices that are at hand: one line per recording if there is one of each voice, else a table."""
    top = argparse.ArgumentParser("python -m research.voices", description="Judge free voices that anyone can fetch.")
    top.add_argument("names", nargs="*", metavar="VOICE", help=f"of {'; '.join(voice.name for voice in VOICES)}")
    top.add_argument("--most", type=int, default=30, help="recordings per voice (default: 30)")
    top.add_argument("--figure", metavar="FILE", help="where to write a figure of the verdicts")
    options = top.parse_args(arguments)
    recordings, missing = find(options.names or None, options.most)
    for line in missing:
        print(f"not found: {line}")
    detector = Detector.load()
    if options.most == 1:
        for voice, path in zip(recordings.voice, recordings.path, strict=True):
            print(f"{voice}: {detector.predict(path)}")
    elif len(recordings):
        table = by_voice(judge(recordings, detector))
        print(table.to_string(float_format="{:.0%}".format))
        if options.figure:
            draw(table, options.figure)
    return 0


def judge(recordings: pd.DataFrame, detector: Detector) -> pd.DataFrame:
    """The recordings that can be judged, with the columns score, P(fake), and verdict, one of VERDICTS."""
    results = progress_bar(detector.predict_files(recordings.path), total=len(recordings), desc="judging")
    found = pd.DataFrame(
        [(path, each.score, each.label) for path, each in results if not isinstance(each, AudioError)],
        columns=["path", "score", "verdict"],
    )
    return recordings.merge(found, on="path")


def by_voice(judged: pd.DataFrame) -> pd.DataFrame:
    """One row per voice: speaker, recordings, the share of each of VERDICTS, and whether training has its kind."""
    about = judged.groupby("voice", sort=False).agg(
        speaker=("speaker", "first"), recordings=("path", "size"), related=("related", "first")
    )
    shares = pd.crosstab(judged.voice, judged.verdict, normalize="index").reindex(columns=[*VERDICTS], fill_value=0.0)
    return about.join(shares)[["speaker", "recordings", *VERDICTS, "related"]]


def draw(table: pd.DataFrame, path) -> None:
    """Write a figure with one bar per voice: its shares of the verdicts."""
    plots.set_style()
    fig, ax = plt.subplots(figsize=(5, 1 + 0.35 * len(table)), layout="constrained")
    left = np.zeros(len(table))
    for verdict, colour in VERDICTS.items():
        ax.barh(
            [f"{voice} ({speaker})" for voice, speaker in table.speaker.items()],
            table[verdict],
            left=left,
            color=colour,
        )
        left += table[verdict].to_numpy()
    ax.set(xlabel="share of recordings", xlim=(0, 1))
    ax.invert_yaxis()
    fig.legend([f"called {verdict}" for verdict in VERDICTS], loc="outside upper center", ncols=3)
    fig.savefig(path)


if __name__ == "__main__":
    sys.exit(main())
