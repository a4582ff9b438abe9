"""Score detectors on validation, clean and as people receive it: python -m research.compare --data ROOT NAME=FILE ...

No page of validation is in training. The table validation.csv.gz has one row per clip, without the fakes by systems
that training holds, and for each detector the columns "NAME" and "NAME received". FILE is its checkpoint. For
"received", each clip goes through one of CODINGS in turn. What the table holds is not scored again.
"""

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from dfa_utils import metrics
from dfa_utils.audio import AudioError, load_audio
from dfa_utils.checkpoint import load_checkpoint
from dfa_utils.dataset import scan
from dfa_utils.evaluation import clusters_of
from dfa_utils.inference import Detector, Prediction
from dfa_utils.metrics import clustered_interval
from dfa_utils.support import progress_bar
from research.received import RATE, encode
from research.tables import RESULTS, names_of, read_table, write_table

CODINGS = {"clean": (), "mp3 64": ("mp3", 64), "mp3 96": ("mp3", 96), "aac 64": ("aac", 64)}
CODINGS |= {"opus 24": ("opus", 24), "opus 32": ("opus", 32)}  # codec and kbit/s
CLIP = ["path", "label", "system", "speaker", "kind", "source_repo", "original_sample_rate", "coding"]


def main(arguments=None) -> int:
    """Compute the scores that the table lacks, and print how the detectors do."""
    top = argparse.ArgumentParser("python -m research.compare", description="Detectors on pages they never heard.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set that names systems, speakers and pages")
    top.add_argument("--out", type=Path, default=RESULTS / "validation.csv.gz", metavar="CSV", help="the table")
    top.add_argument("detectors", nargs="*", metavar="NAME=FILE", help="a name for its columns, and its checkpoint")
    options = top.parse_args(arguments)
    clips = unheard_clips(options.data)
    fresh = clips.assign(path=names_of(clips, Path(options.data)))[CLIP]
    table = read_table(options.out) if options.out.exists() else fresh
    if not table.path.equals(fresh.path):
        raise ValueError(f"{options.out} holds the scores of other clips; choose another name")
    for each in options.detectors:
        name, file = each.split("=", 1)
        if name not in table:
            detector = Detector(load_checkpoint(file)[0], {})
            table[name] = [result.score for result in judge(detector, clips.path, ["clean"] * len(clips))]
            table[f"{name} received"] = [result.score for result in judge(detector, clips.path, clips.coding)]
            write_table(options.out, table)
    print(summary(table).to_string(float_format="{:.3f}".format))
    return 0


def unheard_clips(root) -> pd.DataFrame:
    """Validation without fakes by systems that training holds, with the column coding."""
    manifest = scan(root, check=False, splits=("training", "validation"))
    heard = set(manifest.system[manifest.split == "training"]) - {""}
    known = manifest.system.isin(heard) & (manifest.label == 1)
    clips = manifest[(manifest.split == "validation") & ~known].reset_index(drop=True)
    return clips.assign(coding=codings_of(len(clips))).reindex(columns=["split", *CLIP])


def codings_of(count: int) -> list[str]:
    """A coding for each of `count` clips, in turn."""
    return [list(CODINGS)[i % len(CODINGS)] for i in range(count)]


def judge(detector: Detector, paths, codings, cut=lambda samples: samples) -> list[Prediction]:
    """What a detector says of each clip after `cut`, which shortens its samples, and after its coding.

    Raises AudioError for a clip that is unreadable or silent.
    """

    def recordings() -> Iterator[tuple[str, list[torch.Tensor]]]:
        for i, (path, coding) in enumerate(zip(progress_bar(paths, desc="scoring"), codings, strict=True)):
            samples = cut(load_audio(path, RATE).numpy())
            if CODINGS[coding]:
                samples = encode(samples, np.random.default_rng(i), *CODINGS[coding])
            yield path, [torch.from_numpy(samples)]

    results = [result for _, result in detector.predict_recordings(recordings())]
    if errors := [result for result in results if isinstance(result, AudioError)]:
        raise errors[0]
    return results


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """EER of each detector with its 95 % interval by speaker and system, clean and received, and that by coding."""
    rows = {}
    for name in detectors_of(table):
        rows[name] = {}
        for kind, column in (("clean", name), ("received", f"{name} received")):
            low, high = interval(table, lambda part, column=column: metrics.eer_rate(part.label, part[column]))
            rows[name] |= {kind: metrics.eer_rate(table.label, table[column]), f"{kind}_low": low, f"{kind}_high": high}
    return pd.DataFrame(rows).T


def difference(table: pd.DataFrame, first: str, second: str) -> tuple[float, float, float]:
    """EER of a column minus that of another on the same clips, and its paired 95 % interval by speaker and system."""

    def rate(part: pd.DataFrame) -> float:
        """The difference on some of the clips."""
        return metrics.eer_rate(part.label, part[first]) - metrics.eer_rate(part.label, part[second])

    return rate(table), *interval(table, rate)


def interval(table: pd.DataFrame, rate, n: int = 500) -> tuple[float, float]:
    """95 % interval, by speaker and system, of a function of a table like this one."""

    def of_rows(_, drawn) -> float:
        """The function of the drawn rows."""
        return rate(table.iloc[drawn.astype(int)])

    return clustered_interval(of_rows, table.label, np.arange(len(table)), clusters_of(table), n=n)


def detectors_of(table: pd.DataFrame) -> list[str]:
    """The names of the detectors that a table holds scores of."""
    return [name for name in table.columns.drop(CLIP) if not name.endswith(" received")]


if __name__ == "__main__":
    sys.exit(main())
