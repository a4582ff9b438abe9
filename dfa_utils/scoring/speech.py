"""Whether a recording holds what the detector was made for: enough speech, of more than a telephone's band.

A score of music, noise or half a word means nothing. So every window is measured beside its score
(`scoring.networks.SpeechCheck`), and where speech is missing the verdict is `uncertain`, with the reason in words.
"""

from collections.abc import Sequence

import numpy as np

LEAST_SECONDS = 0.5  # of sound
LEAST_SHARE = 0.25  # of the windows must hold speech
FAINT = 30.0  # dB; what lies so far below the loudest tenth of a second counts as a pause
PAUSE = 0.2  # s; a shorter pause counts as sound
HIGH = 5_200.0  # Hz; a recording at 8 kHz has nothing from here on, also where resampling left mirror images
NOTHING = -73.0  # dB; below a window's loudest point: what lies there is no sound


def reason_to_doubt(measures: Sequence[Sequence[float]], limit: float, seconds: float) -> str:
    """Why a recording is not to be judged; empty where nothing speaks against it.

    `measures` [N, 3] are those of its windows, as `scoring.networks.SpeechCheck` gives them; `limit` is the logit from
    which on a window holds no speech; `seconds` is how much of the recording sounds.
    """
    unlike, sounding, high = np.array(measures).T
    if sounding.mean() * seconds < LEAST_SECONDS:
        return f"less than {LEAST_SECONDS:g} s of sound, too little to judge"
    if np.mean(unlike < limit) < LEAST_SHARE:
        return "no clear speech in it, but noise, tones or music"
    if high.max() < NOTHING:
        return f"nothing above {HIGH / 1000:g} kHz, as on a telephone, where most traces of synthesis are cut off"
    return ""
