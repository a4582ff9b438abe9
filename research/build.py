"""Make the released detector of a trained CNN: python -m research.build --data ROOT --run FILE --speech FOLDER.

Calibration, threshold and the band of "uncertain" are fixed on validation as people receive it. Then the detector
scores every split, `testing` under degradations, and people whom it never heard. The card's tables follow from these.
"""

import argparse
import sys
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import librosa
import numpy as np
import pandas as pd
import torch

from dfa_utils import metrics
from dfa_utils.audio import AudioError, load_audio
from dfa_utils.calibrate import apply_calibration, calibrated, uncertain_band
from dfa_utils.checkpoint import RELEASED, load_checkpoint, save_checkpoint
from dfa_utils.dataset import fingerprint, scan
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.speech import SpeechCheck
from dfa_utils.support import progress_bar
from research.compare import CODINGS, codings_of, judge
from research.conditions import CLEAN, UNDECIDED, degrade
from research.received import RATE
from research.tables import RESULTS, names_of, write_table

CONDITIONS = [CLEAN, ("mp3", 64), ("opus", 24), ("telephone", 8), ("noise", 20), ("noise", 10), ("rerecording", 0.3)]
CONDITIONS += [("rerecording", 0.6), ("gain", -20), ("gain", 20), ("offset", 0.1), ("silence", 1.0)]
MISSED, FALSE_POSITIVES = 0.05, 0.01  # share of fakes that may be called real, and of real clips called fake
WORD = 0.3, 1.5  # s; validation is also judged in pieces of this length, for the weight of a word
SCORES = ["path", "split", "label", "system", "speaker", "kind", "score", "threshold", "detector"]
LOW_RATES = (11_025, 12_000)  # Hz; announcers are also judged at the rates of older web pages


def main(arguments=None) -> int:
    """Calibrate, save and score."""
    options = parser().parse_args(arguments)
    manifest, root = scan(options.data), Path(options.data)
    weights, results = (Path(options.out),) * 2 if options.out else (RELEASED.parent, RESULTS)
    model, trained = load_checkpoint(options.run)
    info = {"data": fingerprint(manifest), **trained}
    validation = manifest[manifest.split == "validation"].reset_index(drop=True)
    plain = Detector(model, {})
    coded = {coding: judge(plain, validation.path, [coding] * len(validation)) for coding in CODINGS}
    info |= calibration(plain, validation, coded)
    detector = Detector(model, info, SpeechCheck.load())
    save_checkpoint(weights / RELEASED.name, model, info)
    write_table(results / "coded_validation.csv.gz", coded_scores(validation, coded, detector, root), "%.6f")
    score(detector, manifest, root, results)
    write_table(results / "sources.csv", sources(manifest))
    if options.speech:
        write_table(results / "people.csv.gz", people(detector, Path(options.speech)), "%.6f")
    note_look(results / "looks_at_testing.csv", detector)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.build", description="Calibrate, save and score a detector.")
    top.add_argument("--data", required=True, metavar="ROOT", help="training, validation and testing, as for train")
    top.add_argument("--run", required=True, metavar="FILE", help="last.safetensors of research.training")
    top.add_argument("--speech", metavar="FOLDER", help="what research.debian_speech wrote")
    top.add_argument(
        "--out", metavar="FOLDER", help="for weights and tables (default: dfa_utils/weights and research/results)"
    )
    return top


def calibration(detector: Detector, clips: pd.DataFrame, coded: dict[str, list]) -> dict:
    """What the checkpoint's info says of the calibration, from a detector's uncalibrated answers to `coded` clips.

    Each clip counts once as people receive it, through one of CODINGS in turn, and once as a word. The threshold is
    that of the EER of whole clips as received, and so are the bounds.
    """
    codings, draw = codings_of(len(clips)), np.random.default_rng(0)

    def word(samples: np.ndarray) -> np.ndarray:
        """A piece that is as long as a word, around the loudest sample."""
        size = int(draw.uniform(*WORD) * detector.model.config.sample_rate)
        start = int(np.clip(np.abs(samples).argmax() - size // 2, 0, max(0, len(samples) - size)))
        return samples[start : start + size]

    answers = [coded[coding][i] for i, coding in enumerate(codings)]
    answers += judge(detector, clips.path, codings, word)
    scores, seconds = (np.array([getattr(each, name) for each in answers]) for name in ("score", "sound"))
    info = calibrated(detector, np.tile(clips.label, 2), scores, seconds)
    final = apply_calibration(scores, *info["calibration"], seconds)[: len(clips)]
    threshold = metrics.eer(clips.label, final)[1]
    info |= {"threshold": threshold, "evidence": np.bincount(clips.label).tolist()}
    return info | {"uncertain": list(uncertain_band(clips.label, final, threshold, MISSED, FALSE_POSITIVES))}


def coded_scores(clips: pd.DataFrame, coded: dict[str, list], detector: Detector, root: Path) -> pd.DataFrame:
    """The calibrated score of each clip under each coding, and as received."""
    table = clips[["label", "system", "speaker"]].assign(path=names_of(clips, root))
    for coding, answers in coded.items():
        seconds = np.array([answer.sound for answer in answers])
        table[coding] = apply_calibration([answer.score for answer in answers], *detector.calibration, seconds)
    table["received"] = [table[coding][i] for i, coding in enumerate(codings_of(len(clips)))]
    return table


def note_look(path: Path, detector: Detector) -> None:
    """Add a row to the record of all looks at `testing`, unless this detector has one."""
    look = pd.DataFrame([{"date": date.today().isoformat(), "detector": detector.fingerprint}])
    looks = pd.concat([pd.read_csv(path), look]) if path.exists() else look
    write_table(path, looks.drop_duplicates("detector"))


def under_conditions(detector: Detector, paths, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Score and verdict of each clip under each of CONDITIONS: two tables with the columns "NAME LEVEL".

    Random numbers follow from `seed`, the condition and the place in `paths`. A clip that is silent then scores 0.5.
    """
    rate, scores, verdicts = detector.model.config.sample_rate, {}, {}
    for number, (name, level) in enumerate(progress_bar(CONDITIONS, desc="conditions")):

        def recordings(number=number, name=name, level=level) -> Iterator[tuple[str, list[torch.Tensor]]]:
            for i, path in enumerate(paths):
                yield (
                    path,
                    [degrade(load_audio(path, rate), name, level, rate, np.random.default_rng((seed, number, i)))],
                )

        answers = [answer for _, answer in detector.predict_recordings(recordings())]
        column = name if name == CLEAN[0] else f"{name} {level:g}"
        silent = [isinstance(answer, AudioError) for answer in answers]
        scores[column] = [UNDECIDED if none else it.score for it, none in zip(answers, silent, strict=True)]
        verdicts[column] = ["uncertain" if none else it.label for it, none in zip(answers, silent, strict=True)]
    return pd.DataFrame(scores), pd.DataFrame(verdicts)


def score(detector: Detector, manifest: pd.DataFrame, root: Path, folder: Path) -> None:
    """Write scores.csv.gz, of every clip, and degraded_testing.csv and verdicts_testing.csv, under CONDITIONS."""
    scores = score_clips(detector, manifest)
    scores = scores.assign(file=scores.path, path=names_of(scores, root))
    scores = scores.assign(threshold=detector.threshold, detector=detector.fingerprint)
    write_table(folder / "scores.csv.gz", scores.reindex(columns=SCORES), "%.9f")
    testing = scores[scores.split == "testing"].reset_index(drop=True)
    for name, table in zip(("degraded", "verdicts"), under_conditions(detector, testing.file, seed=0), strict=True):
        write_table(folder / f"{name}_testing.csv", pd.concat([testing.path, table], axis=1), "%.6f")


def sources(manifest: pd.DataFrame) -> pd.DataFrame:
    """Where the training clips come from: source, real, fake, licence, recordings; the largest source first."""
    clips = manifest[manifest.split == "training"].reindex(
        columns=["source_repo", "label", "licence", "underlying_data"]
    )
    words = ["licence", "underlying_data"]
    clips[words] = clips[words].astype(object).fillna("")
    pages = clips.groupby("source_repo")
    table = pages.agg(real=("label", lambda x: int((x == 0).sum())), fake=("label", "sum"), size=("label", "size"))
    table = table.join(pages[words].first()).sort_values("size", ascending=False, kind="stable")
    return (
        table.drop(columns="size").rename_axis("source").rename(columns={"underlying_data": "recordings"}).reset_index()
    )


def people(detector: Detector, folder: Path) -> pd.DataFrame:
    """The verdict on each recording of people who were held out, announcers also at LOW_RATES."""
    table, rows = pd.read_csv(folder / "manifest.csv").query("split == 'testing'"), []
    for row in table.itertuples():
        samples = load_audio(folder / row.path, RATE).numpy()
        for rate in (RATE, *LOW_RATES * ("asterisk-core" in row.source_repo)):
            answer = detector.predict(librosa.resample(samples, orig_sr=RATE, target_sr=rate), rate)
            rows.append((row.path, row.source_repo, rate, row.seconds, answer.score, answer.label, answer.reason))
    columns = ["path", "package", "rate", "seconds", "score", "label", "reason"]
    return pd.DataFrame(rows, columns=columns)


if __name__ == "__main__":
    sys.exit(main())
