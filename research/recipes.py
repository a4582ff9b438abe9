"""The recipes that were compared, as far as the package can train them, and the one that is released."""

from dataclasses import replace
from typing import NamedTuple

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
CENTRED = replace(WIDE, f_max=7_500.0, centre="band")  # the colour of the channel, which tells pages apart, is gone
HIGH = replace(WIDE, n_mels=56, f_min=4_000.0, f_max=7_500.0)  # where vocoders differ most from what they imitate
MOVING = replace(
    WIDE,
    model="statistics",
    dropout=0.4,
    epochs=16,
    n_mels=48,
    f_min=4_500.0,
    f_max=7_500.0,
    views=((128, 40, 20, 4_000.0, 7_500.0), (1024, 160, 64, 4_500.0, 7_500.0), (128, 40, 24, 20.0, 4_500.0)),
)  # the same band seen through three windows, and the rest through the shortest


def augmented(config: Config) -> Config:
    """The same settings on clips that go through CHANNELS and SpecAugment."""
    masks = {} if config.model == "statistics" else {"mask_bands": config.n_mels // 10, "mask_frames": 20}
    return replace(config, augment=CHANNELS, **masks)


class Recipe(NamedTuple):
    """The configs of the detectors that are put together; `models` says who leads and who advises."""

    leads: tuple[Config, ...]
    advises: tuple[Config, ...] = ()

    def members(self, seed: int) -> list[Config]:
        """The configs of all, first those that lead, with this seed."""
        return [replace(config, seed=seed) for config in self.leads + self.advises]

    @property
    def roles(self) -> list[bool]:
        """Whether each of `members` leads."""
        return [True] * len(self.leads) + [False] * len(self.advises)


RECIPES = {
    "plain": Recipe((PLAIN,)),
    "plain augmented": Recipe((augmented(PLAIN),)),
    "high augmented": Recipe((augmented(HIGH),)),
    "statistics augmented": Recipe((augmented(MOVING),)),
    "centred augmented": Recipe((augmented(CENTRED),)),
    "first release": Recipe((augmented(MOVING),), advises=(augmented(HIGH), augmented(PLAIN))),
    "release": Recipe((augmented(MOVING), augmented(CENTRED))),
}
