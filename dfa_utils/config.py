"""Every setting of a detector, with its unit and its range, in one frozen dataclass."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, field, fields, replace
from itertools import pairwise
from numbers import Integral, Real

SCALES = ("mel", "linear")
MEANS = ("clip", "band")
SPECTROGRAM = ("n_fft", "hop_length", "n_mels", "f_min", "f_max")  # the settings that tell one spectrogram from another
MOST_ITEMS = 16  # channels, and extra spectrograms
MOST_WEIGHTS = 2**25  # in all convolutions and in all filter banks; a hostile checkpoint could exhaust memory
FORMER_NAMES = {"scale": "frequency_scale", "centre": "mean_subtraction", "views": "extra_spectrograms"}
FORMER_NAMES |= {"borrowed": "pretrained"}  # what checkpoints of format 1 call these settings
RETIRED = {"top_db": 80.0, "db_scale": 20.0, "gradient_norm": 1.0, "layer_decay": 1.0, "accumulate": 1}
RETIRED |= {"recompute": False, "frozen_layers": 0}  # settings of older checkpoints, with the only value still read
IGNORED = {"width", "depth", "heads"}  # settings of models that are gone, which every older checkpoint mentions
LAST_READER = "7e0fb69"  # the last commit that reads checkpoints with other values, and of the models that are gone


def within(default, least, most):
    """A field of `Config` for a number, which `least` and `most` bound; whole numbers have whole defaults."""
    return field(default=default, metadata={"range": (least, most)})


@dataclass(frozen=True)
class Config:
    """Settings of the front end, the network and its training; a checkpoint carries the one it was made with.

    Raises ValueError, naming the field, for a value that cannot work.
    """

    # Waveform
    sample_rate: int = within(16_000, 1, 768_000)  # Hz; every clip is resampled to it
    clip_seconds: float = within(2.0, 1e-4, 60)  # s; length of a window (Fake-or-Real's for-rerec clips last 2 s)
    hop_seconds: float = within(1.0, 1e-4, 60)  # s; step between the windows of a longer recording

    # Mel spectrogram
    n_fft: int = within(512, 1, 65_536)  # samples; 32 ms resolve the single glottal pulses of a low voice
    hop_length: int = within(160, 1, 65_536)  # samples; 10 ms per frame
    n_mels: int = within(80, 1, 1_024)  # bands
    frequency_scale: str = "mel"  # spacing of the bands: "mel" (Slaney), or "linear", which keeps high-frequency detail
    f_min: float = within(20.0, 0, 384_000)  # Hz
    f_max: float = within(8_000.0, 1e-3, 384_000)  # Hz; vocoders leave many of their traces at high frequencies
    mean_subtraction: str = "clip"  # the mean of the "clip", or of each "band", which also removes the microphone
    extra_spectrograms: tuple[tuple[float, ...], ...] = ()  # for models that take several; the values of SPECTROGRAM

    # Network
    model: str = "cnn"  # a name in dfa_utils.models.BACK_ENDS, or "timm:NAME"
    channels: tuple[int, ...] = (24, 32, 64, 96, 128)  # feature maps after the stem and after each block
    dropout: float = within(0.2, 0, 0.999)  # share of features that training drops before the last layer
    pretrained: str = ""  # a .safetensors file of weights that a timm model starts from; "": random weights

    # Training
    epochs: int = within(12, 1, 10**6)  # passes over the larger class
    batch_size: int = within(32, 2, 65_536)  # clips, half of them real
    learning_rate: float = within(2e-3, 1e-12, 1e6)  # peak of the one-cycle schedule
    weight_decay: float = within(1e-2, 0, 1e6)
    patience: int = within(12, 1, 10**6)  # epochs without a lower validation loss before training stops
    seed: int = within(0, 0, 2**60)

    # Augmentation of training clips
    augment: tuple[tuple[str, float], ...] = ()  # (a name in augment.AUGMENTATIONS, share of the clips)
    mask_bands: int = within(0, 0, 1_024)  # SpecAugment: most bands that each of two masks hides
    mask_frames: int = within(0, 0, 10**6)  # SpecAugment: most frames that each of two masks hides

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "augment", tuple((str(name), float(share)) for name, share in self.augment))
        object.__setattr__(self, "extra_spectrograms", tuple(map(tuple, self.extra_spectrograms)))
        for setting in fields(self):
            value = getattr(self, setting.name)
            if "range" in setting.metadata:
                _check_number(setting.name, value, *setting.metadata["range"], isinstance(setting.default, int))
            elif isinstance(setting.default, str) and not isinstance(value, str):
                raise ValueError(f"{setting.name} must be a word, got {value!r}")
        for number in self.channels:
            _check_number("channels", number, 1, 1_024, whole=True)
        for _, share in self.augment:
            _check_number("augment", share, 0, 1e6, whole=False)
        for message, holds in self._rules().items():
            if not holds:
                raise ValueError(message)
        filters = sum(each.n_fft * each.n_mels for each in self.front_end_configs)  # checked as they are made
        convolutions = sum(9 * c_in * c_out for c_in, c_out in pairwise(self.channels))
        if max(filters, convolutions) > MOST_WEIGHTS:
            raise ValueError(
                f"channels, or n_fft * n_mels of all spectrograms, make more than {MOST_WEIGHTS:,} weights"
            )

    def _rules(self) -> dict[str, bool]:
        """What must hold beyond the range of single numbers, by the message for where it does not."""
        nyquist, extra = self.sample_rate / 2, self.extra_spectrograms
        ordered = self.f_min < self.f_max <= nyquist
        complete = len(extra) <= MOST_ITEMS and all(len(values) == len(SPECTROGRAM) for values in extra)
        scale, mean = self.frequency_scale, self.mean_subtraction
        count, shortest = len(self.channels), min(self.clip_samples, self.hop_samples)
        lengths = f"{self.clip_seconds}, {self.hop_seconds}"
        return {
            f"channels must be 1 to {MOST_ITEMS} numbers, got {count}": 1 <= count <= MOST_ITEMS,
            f"f_max must be above f_min and at most {nyquist} Hz, got {self.f_max}": ordered,
            f"frequency_scale must be one of {', '.join(SCALES)}, got {scale!r}": scale in SCALES,
            f"mean_subtraction must be one of {', '.join(MEANS)}, got {mean!r}": mean in MEANS,
            f"clip_seconds and hop_seconds must be at least one sample, got {lengths}": shortest > 0,
            f"batch_size must be even (half real, half fake), got {self.batch_size}": self.batch_size % 2 == 0,
            f"extra_spectrograms must be up to {MOST_ITEMS} of ({', '.join(SPECTROGRAM)}), got {extra}": complete,
        }

    @property
    def front_end_configs(self) -> "list[Config]":
        """The settings of each spectrogram that the detector sees, without extra spectrograms."""
        extra = [dict(zip(SPECTROGRAM, values, strict=True)) for values in self.extra_spectrograms]
        return [replace(self, extra_spectrograms=(), **values) for values in [{}, *extra]] if extra else [self]

    @property
    def clip_samples(self) -> int:
        """Samples in one window."""
        return round(self.clip_seconds * self.sample_rate)

    @property
    def hop_samples(self) -> int:
        """Samples from one window's start to the next."""
        return round(self.hop_seconds * self.sample_rate)

    def scaled_to(self, n_clips: int) -> "Config":
        """The same settings with epochs and batch size that suit a training set of `n_clips` clips.

        The network sees about 25,000 clips, in 12 to 40 epochs: the fixture gets many short epochs, Fake-or-Real 12.
        """
        epochs = min(40, max(12, round(25_000 / max(n_clips, 1))))
        return replace(self, epochs=epochs, batch_size=16 if n_clips < 500 else 32)

    @property
    def digest(self) -> str:
        """Six hex digits that change with any setting."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:6]

    @property
    def changed(self) -> dict:
        """The settings that differ from their defaults, by the names that format 1 of checkpoints has for them."""
        former = {new: old for old, new in FORMER_NAMES.items()}
        values = {
            each.name: getattr(self, each.name) for each in fields(self) if getattr(self, each.name) != each.default
        }
        return {former.get(name, name): value for name, value in values.items()}

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The inverse of `to_json`, which also reads what older versions wrote.

        Raises ValueError that names settings which this version does not know or can no longer follow.
        """
        values = {FORMER_NAMES.get(name, name): value for name, value in json.loads(text).items()}
        retired = {name: values.pop(name) for name in list(values) if name in RETIRED or name in IGNORED}
        if gone := [name for name, value in retired.items() if RETIRED.get(name, value) != value]:
            raise ValueError(f"the settings {gone} have been retired; commit {LAST_READER} is the last that reads them")
        unknown = set(values) - {each.name for each in fields(cls)}
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}: written by another version of dfa_utils")
        return cls(**values)


def _check_number(name: str, number, least: float, most: float, whole: bool) -> None:
    """ValueError, naming the field, unless it is a number from `least` to `most`, and whole if it must be."""
    right_type = isinstance(number, Integral if whole else Real) and not isinstance(number, bool)
    if not right_type or not math.isfinite(number) or not least <= number <= most:
        wanted = "a whole number" if whole else "a number"
        raise ValueError(f"{name} must be {wanted} from {least:g} to {most:g}, got {number!r}")
