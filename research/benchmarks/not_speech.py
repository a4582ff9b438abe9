"""Sounds that the speech check refuses: `not_speech.py ROOT [FOLDER ...]`, ROOT a data set, each FOLDER other sounds.

For the clips of ROOT's `testing`, clean and on a telephone, for fresh sounds of `research.formula_sounds`, and for each
FOLDER, up to four windows of 2 s per file: the share that is "uncertain" for each reason. The folders of the committed
figures hold these packages of Debian 12: *music*, hyperrogue-music, planetblupi-music-ogg, singularity-music,
wesnoth-1.16-music; *effects* (outside folders called music), frozen-bubble-data, oxygen-sounds,
sound-theme-freedesktop, supertux-data, wesnoth-1.16-data; *telephone*, asterisk-core-sounds-en-wav.
"""

import argparse
from collections import Counter
from pathlib import Path

import numpy as np
from common import write

from dfa_utils.audio import AudioError, load_audio
from dfa_utils.dataset import scan
from dfa_utils.degradations import degrade
from dfa_utils.inference import Detector
from dfa_utils.layouts import find_audio
from research.formula_sounds import SOUNDS, make

SIZE, RATE, DRAWS = 32_000, 16_000, 50


def windows_of(folder):
    """Up to four windows of each file, from its beginning to its end."""
    for path in find_audio(folder):
        try:
            wave = load_audio(path).numpy()
        except AudioError:
            continue
        for start in sorted({int(place) for place in np.linspace(0, max(0, len(wave) - SIZE), 4)}):
            yield wave[start : start + SIZE]


def refused(waves) -> dict[str, float]:
    """Percent of the waves for each reason, and their number."""
    results = [result for _, result in detector.predict_recordings(("wave", [wave]) for wave in waves)]
    reasons = [" ".join(r.reason.split()[:3]) for r in results if not isinstance(r, AudioError)]
    counts = Counter(reason for reason in reasons if reason)
    shares = {name: round(100 * count / len(reasons), 1) for name, count in counts.most_common()}
    return {"clips": len(reasons), "refused": round(100 * sum(counts.values()) / len(reasons), 1)} | shares


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("root")
parser.add_argument("folders", nargs="*")
options = parser.parse_args()
detector, rng = Detector.load(), np.random.default_rng(77)
testing = scan(options.root, check=False)
testing = testing[testing.split == "testing"].reset_index(drop=True)
clips = [load_audio(path) for path in testing.path]
figures = {f"testing, {name}": refused(clips[i] for i in np.flatnonzero(testing.label == label))
           for label, name in ((0, "real"), (1, "fake"))}  # fmt: skip
calls = (degrade(clip, "telephone", 8, RATE, np.random.default_rng(i)) for i, clip in enumerate(clips))
figures["testing, on a telephone"] = refused(calls)
figures["generated"] = refused(make(kind, rng, varied=i % 2 == 1) for kind in SOUNDS for i in range(DRAWS))
figures |= {Path(folder).name: refused(windows_of(folder)) for folder in options.folders}
write("not_speech", figures)
