"""The recipes that were compared, as far as the package can train them, and the one that is released.

A recipe is the configs of the detectors whose logits are averaged. All have the same number of epochs.
"""

from dataclasses import replace

from dfa_utils.config import Config

CHANNELS = (
    ("speed", 0.1),
    ("equalise", 0.2),
    ("rerecord", 0.1),
    ("room", 0.1),
    ("rawboost", 0.05),
    ("band", 0.15),
    ("clip", 0.05),
    ("mu_law", 0.05),
    ("noise", 0.25),
    ("codec", 0.05),
)  # what a recording goes through on its way; about a third of the clips stay as they are
PLAIN = Config(epochs=12)
WIDE = replace(PLAIN, scale="linear")  # 20 Hz to 8 kHz
HIGH = replace(WIDE, n_mels=56, f_min=4_000.0, f_max=7_500.0)  # where vocoders differ most from what they imitate
MOVING = replace(HIGH, model="statistics", n_mels=48, f_min=4_500.0)


def augmented(config: Config) -> Config:
    """The same settings on clips that go through CHANNELS and SpecAugment."""
    masks = {} if config.model == "statistics" else {"mask_bands": config.n_mels // 10, "mask_frames": 20}
    return replace(config, augment=CHANNELS, **masks)


RECIPES = {
    "plain": (PLAIN,),
    "plain augmented": (augmented(PLAIN),),
    "linear": (WIDE,),
    "high": (HIGH,),
    "statistics": (MOVING,),
    "three": (WIDE, HIGH, MOVING),
    "release": (augmented(WIDE), augmented(HIGH), augmented(MOVING)),
}
