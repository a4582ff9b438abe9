"""Every setting of a detector, with its unit, in one frozen dataclass."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from itertools import pairwise
from numbers import Integral, Real

SCALES = ("mel", "linear")
CENTRES = ("clip", "band")
AT_MOST = {  # beyond all use; a stranger's checkpoint could ask for more memory than there is
    "sample_rate": 768_000,
    "clip_seconds": 60,
    "hop_seconds": 60,
    "n_fft": 65_536,
    "hop_length": 65_536,
    "n_mels": 1_024,
    "channels": 1_024,
    "width": 2_048,
    "depth": 64,
    "heads": 64,
    "layer_decay": 1,
    "batch_size": 65_536,
    "seed": 2**60,
}
MOST = 10**9  # of any other whole number
LONGEST = 16  # channels, and views
MOST_WEIGHTS = 2**25  # in all convolutions, and in all filter banks
MAY_BE_ZERO = {"f_min", "dropout", "weight_decay", "seed", "augment", "mask_bands", "mask_frames", "frozen_layers"}
VIEW = ("n_fft", "hop_length", "n_mels", "f_min", "f_max")  # what tells one of a detector's spectrograms from another


@dataclass(frozen=True)
class Config:
    """Settings of the front end, the network and its training; a checkpoint carries the one it was made with.

    Raises ValueError, naming the field, for a value that cannot work.
    """

    # Waveform
    sample_rate: int = 16_000  # Hz; every clip is resampled to it
    clip_seconds: float = 2.0  # s; what the network looks at in one go (Fake-or-Real's for-rerec clips last 2 s)
    hop_seconds: float = 1.0  # s; step between the windows of a longer file

    # Mel spectrogram
    n_fft: int = 512  # samples; 32 ms, short enough for single glottal pulses of a low voice to show
    hop_length: int = 160  # samples; 10 ms a frame
    n_mels: int = 80  # bands
    scale: str = "mel"  # how the bands lie: "mel" (Slaney), or "linear", which keeps the detail high up
    f_min: float = 20.0  # Hz
    f_max: float = 8_000.0  # Hz; vocoders leave much of their trace high up
    top_db: float = 80.0  # dB; what lies further below a clip's loudest point is floored
    db_scale: float = 20.0  # dB; divides the mean-free spectrogram, so that the network sees values of about 1
    centre: str = "clip"  # whose mean is taken from it: the "clip"'s, or each "band"'s own, with which a channel goes
    views: tuple[tuple[float, ...], ...] = ()  # further spectrograms, if the model takes them; each the values of VIEW

    # Network
    model: str = "cnn"  # a name in dfa_utils.models.BACK_ENDS, or "timm:NAME"
    channels: tuple[int, ...] = (24, 32, 64, 96, 128)  # feature maps after the stem and after each block
    dropout: float = 0.2  # share of features dropped before the last layer
    width: int = 144  # numbers of a token, in the models that read tokens
    depth: int = 4  # layers of these
    heads: int = 4  # of attention in each; they share the width
    borrowed: str = ""  # where a borrowed model's weights lie: a folder, a file, a name on the hub; "": start at random
    frozen_layers: int = 0  # of a borrowed model, from the input on: they stay as they are

    # Training
    epochs: int = 12  # passes over the larger class
    batch_size: int = 32  # clips, half of them real
    learning_rate: float = 2e-3  # peak of the one-cycle schedule
    layer_decay: float = 1.0  # each layer of a borrowed model learns so many times as fast as the one after it
    accumulate: int = 1  # batches whose gradients make one step
    recompute: bool = False  # inner values are computed again for the gradient: less memory, a third more time
    weight_decay: float = 1e-2
    gradient_norm: float = 1.0  # gradients are clipped to this length
    patience: int = 12  # epochs without a lower validation loss, after the rate's peak, before training stops
    seed: int = 0

    # What training clips go through
    augment: tuple[tuple[str, float], ...] = ()  # (a name in effects.augment.AUGMENTATIONS, share of clips)
    mask_bands: int = 0  # SpecAugment: bands that each of two masks hides at most
    mask_frames: int = 0  # SpecAugment: frames that each of two masks hides at most

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "augment", tuple((str(name), float(share)) for name, share in self.augment))
        object.__setattr__(self, "views", tuple(map(tuple, self.views)))
        for field in fields(self):
            self._check(field.name, getattr(self, field.name), field.default)
        for number in self.channels:
            _check_number("channels", number, whole=True)
        for _, share in self.augment:
            _check_number("augment", share, whole=False)
        if not 1 <= len(self.channels) <= LONGEST:
            raise ValueError(f"channels must be 1 to {LONGEST} numbers, got {len(self.channels)}")
        if not self.f_min < self.f_max <= self.sample_rate / 2:
            raise ValueError(f"f_max must lie above f_min and at or below {self.sample_rate / 2} Hz, got {self.f_max}")
        if self.scale not in SCALES:
            raise ValueError(f"scale must be one of {', '.join(SCALES)}, got {self.scale!r}")
        if self.centre not in CENTRES:
            raise ValueError(f"centre must be one of {', '.join(CENTRES)}, got {self.centre!r}")
        if min(self.clip_samples, self.hop_samples) < 1:
            raise ValueError(
                f"clip_seconds and hop_seconds must be a sample or more, got {self.clip_seconds}, {self.hop_seconds}"
            )
        if self.width % (2 * self.heads):
            raise ValueError(f"width must be a multiple of twice the heads, got {self.width} and {self.heads} heads")
        if self.batch_size % 2:
            raise ValueError(f"batch_size must be even (half real, half fake), got {self.batch_size}")
        if len(self.views) > LONGEST or any(len(view) != len(VIEW) for view in self.views):
            raise ValueError(f"views must be up to {LONGEST} of ({', '.join(VIEW)}), got {self.views}")
        filters = sum(view.n_fft * view.n_mels for view in self.spectrograms)  # each view is checked as it is made
        weights = sum(9 * c_in * c_out for c_in, c_out in pairwise(self.channels))
        tokens = 20 * self.depth * self.width**2
        if max(filters, weights, tokens) > MOST_WEIGHTS:
            raise ValueError(
                f"channels, depth * width^2, or n_fft * n_mels of all views, make more than {MOST_WEIGHTS:,} weights"
            )

    @staticmethod
    def _check(name, value, default):
        """One field that is a word or a number, as its default says; tuples are checked number by number."""
        if isinstance(default, str) and not isinstance(value, str):
            raise ValueError(f"{name} must be a word, got {value!r}")
        if isinstance(default, bool):
            if not isinstance(value, bool):
                raise ValueError(f"{name} must be True or False, got {value!r}")
        elif isinstance(default, int | float):
            _check_number(name, value, whole=isinstance(default, int))

    @property
    def spectrograms(self) -> "list[Config]":
        """The settings of each spectrogram that the detector sees, without further views."""
        views = [dict(zip(VIEW, view, strict=True)) for view in self.views]
        return [replace(self, views=(), **view) for view in [{}, *views]] if views else [self]

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

        About 25,000 clip presentations, within 12 to 40 epochs: the fixture gets many short epochs, Fake-or-Real 12.
        """
        epochs = min(40, max(12, round(25_000 / max(n_clips, 1))))
        return replace(self, epochs=epochs, batch_size=16 if n_clips < 500 else 32)

    @property
    def digest(self) -> str:
        """Six hex digits that change with any setting."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:6]

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The inverse of `to_json`; ValueError names fields that this version does not know."""
        values = json.loads(text)
        unknown = set(values) - {field.name for field in fields(cls)}
        if unknown:
            raise ValueError(f"unknown settings {sorted(unknown)}: written by another version of dfa_utils")
        return cls(**values)


def _check_number(name: str, number, whole: bool) -> None:
    """ValueError, naming the field, unless it is a number, whole if it must be, and neither too small nor too large."""
    if not isinstance(number, Integral if whole else Real) or isinstance(number, bool):
        raise ValueError(f"{name} must be {'a whole number' if whole else 'a number'}, got {number!r}")
    if not math.isfinite(number) or number < 0 or (number == 0 and name not in MAY_BE_ZERO):
        raise ValueError(f"{name} must be {'at least' if name in MAY_BE_ZERO else 'above'} 0, got {number}")
    if number > (most := AT_MOST.get(name, MOST if isinstance(number, Integral) else math.inf)):
        raise ValueError(f"{name} must be at most {most}, got {number}")
