"""Sound in a notebook: a player, and a human sentence from the network."""

import threading
from pathlib import Path

from IPython.display import Audio

WAIT = 5.0  # s; how long a notebook waits for the network


def player(waveform, sample_rate: int) -> Audio:
    """A player for samples [T]; the level is left as it is."""
    return Audio(waveform.numpy().clip(-1, 1), rate=sample_rate, normalize=False)


def human_sentence(name: str = "libri1", wait: float = WAIT) -> Path | None:
    """A recording of a person reading aloud (LibriSpeech, CC BY 4.0), as librosa offers it; kept once it is there.

    None where it has not come within `wait` seconds: without a network, or over a slow one.
    """
    import librosa
    import pooch

    pooch.get_logger().setLevel("WARNING")  # else it announces the download as an error would be
    found: list[Path] = []

    def _fetch():
        try:
            found.append(Path(librosa.example(name)))
        except OSError:  # no network: all errors of requests are OSErrors
            return

    thread = threading.Thread(target=_fetch, daemon=True)
    thread.start()
    thread.join(wait)
    return found[0] if found else None
