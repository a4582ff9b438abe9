"""Verdicts of the released detector on eSpeak NG, a program whose voices follow rules; `apt-get install espeak-ng`.

Ten voices say six sentences each. The detector learnt from neural synthesis and from a few classical systems.
"""

import subprocess
import tempfile
from collections import Counter
from pathlib import Path

from dfa_utils import Detector

VOICES = ["en-us", "en-gb", "en-us+f3", "en-us+m7", "de", "fr", "es", "it", "pl", "pt-br"]
SENTENCES = [
    "The train to the harbour leaves at a quarter past nine.",
    "Please send the signed papers before the end of the week.",
    "Nobody had seen the old map since the library was moved.",
    "We will meet at the north gate when the rain has stopped.",
    "Her brother sold the boat, and then he bought it back.",
    "Seven small lamps hung over the long table in the hall.",
]


def main() -> None:
    """Print how many of the clips get which verdict."""
    detector, verdicts = Detector.load(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for voice in VOICES:
            for i, sentence in enumerate(SENTENCES):
                file = Path(folder) / f"{voice}-{i}.wav"
                subprocess.run(["espeak-ng", "-v", voice, "-w", str(file), sentence], check=True)
                verdicts[detector.predict(file).label] += 1
    counts = ", ".join(f"{verdicts[name]} {name}" for name in ("fake", "uncertain", "real"))
    print(f"of {verdicts.total()} clips: {counts}")


if __name__ == "__main__":
    main()
