"""The recipes that were compared, and the one that is released: the configs of the detectors that are averaged."""

from dataclasses import replace

from dfa_utils.augment import CHANNELS
from dfa_utils.config import Config

PLAIN = Config(epochs=12)  # the CNN of notebook 03
CENTRED = replace(PLAIN, frequency_scale="linear", f_max=7_500.0, mean_subtraction="band")
STATISTICS = replace(
    PLAIN,
    frequency_scale="linear",
    model="statistics",
    dropout=0.4,
    epochs=16,
    n_mels=48,
    f_min=4_500.0,
    f_max=7_500.0,
    extra_spectrograms=(
        (128, 40, 20, 4_000.0, 7_500.0),
        (1024, 160, 64, 4_500.0, 7_500.0),
        (128, 40, 24, 20.0, 4_500.0),
    ),
)  # the upper band through three windows, and the lower band through the shortest


def augmented(config: Config) -> Config:
    """The same settings on clips that go through CHANNELS and, before a CNN, SpecAugment."""
    masks = {} if config.model == "statistics" else {"mask_bands": config.n_mels // 10, "mask_frames": 20}
    return replace(config, augment=CHANNELS, **masks)


def members(recipe: str, seed: int) -> list[Config]:
    """The configs of a recipe's detectors, with this seed."""
    return [replace(config, seed=seed) for config in RECIPES[recipe]]


RECIPES = {
    "plain": (PLAIN,),
    "plain augmented": (augmented(PLAIN),),
    "statistics augmented": (augmented(STATISTICS),),
    "centred augmented": (augmented(CENTRED),),
    "release": (augmented(STATISTICS), augmented(CENTRED)),
}
