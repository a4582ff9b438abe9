"""The detectors that the notebooks work with, and how they are introduced: the same sentence in every notebook."""

from pathlib import Path

import pandas as pd
from IPython.display import Markdown

from dfa_utils.checkpoint import newest_run
from dfa_utils.config import Config
from dfa_utils.dataset import fingerprint
from dfa_utils.inference import Detector
from dfa_utils.train import fit


def run_on(manifest: pd.DataFrame) -> tuple[Path, str]:
    """The newest run trained on exactly these data, else one trained now; and a sentence that says which."""
    run = newest_run(fingerprint(manifest))
    if run:
        return run, f"The newest detector trained on this data set: `{run.name}`."
    config = Config().scaled_to(int((manifest.split == "training").sum()))
    run = fit(config, manifest).folder
    return run, f"No detector had been trained on this data set, so one was trained just now: `{run.name}`."


def introduce(detector: Detector, which: str) -> Markdown:
    """Which detector this is, and what was known of it when its training ended."""
    rate = detector.info.get("eer")
    known = "" if rate is None else f"EER on validation was {rate:.1%}, its "
    return Markdown(
        f"{which} Fingerprint `{detector.fingerprint}`. Its {known}threshold, fixed on validation, is "
        f"{detector.threshold:.3f}."
    )
