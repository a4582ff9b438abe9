"""Every setting of a detector, with its unit and its range, in one frozen dataclass."""

import hashlib
import json
from dataclasses import Field, dataclass, field, fields, replace
from itertools import pairwise
from numbers import Integral, Real

MOST_CHANNELS = 16  # entries of `channels`
MOST_WEIGHTS = 2**25  # of all convolutions, and of the filter bank; a hostile checkpoint could exhaust memory


def within(default, least, most):
    """A field of `Config` for a number, or several, from `least` to `most`; whole numbers have whole defaults."""
    return field(default=default, metadata={"range": (least, most)})


def one_of(*words):
    """A field of `Config` for one of these words; the first is the default."""
    return field(default=words[0], metadata={"words": words})


@dataclass(frozen=True)
class Config:
    """Settings of the front end, the network and its training; each checkpoint carries its own.

    Raises ValueError, which names the field, for a value that cannot work.
    """

    # Waveform
    sample_rate: int = within(16_000, 1_000, 768_000)  # Hz; every clip is resampled to it
    clip_seconds: float = within(2.0, 1e-3, 60)  # s; length of a window (Fake-or-Real's for-rerec clips last 2 s)
    hop_seconds: float = within(1.0, 1e-3, 60)  # s; step between the windows of a longer recording

    # Mel spectrogram
    n_fft: int = within(512, 1, 65_536)  # samples; 32 ms resolve the single glottal pulses of a low voice
    hop_length: int = within(160, 1, 65_536)  # samples; 10 ms per frame
    n_mels: int = within(80, 1, 1_024)  # bands
    frequency_scale: str = one_of("mel", "linear")  # spacing of bands; "linear" keeps detail at high frequencies
    f_min: float = within(20.0, 0, 384_000)  # Hz
    f_max: float = within(8_000.0, 1e-3, 384_000)  # Hz; vocoders leave many of their traces at high frequencies
    mean_subtraction: str = one_of("clip", "band")  # of the whole, or of each band, which also removes the microphone

    # Network
    model: str = "cnn"  # a name in dfa_utils.models.BACK_ENDS, or "timm:NAME"
    channels: tuple[int, ...] = within((24, 32, 64, 96, 128), 1, 1_024)  # feature maps after the stem, each block
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
    augment: tuple[tuple[str, float], ...] = ()  # (name in augment.AUGMENTATIONS, share of clips)
    mask_bands: int = within(0, 0, 1_024)  # SpecAugment: most bands that each of two masks hides
    mask_frames: int = within(0, 0, 10**6)  # SpecAugment: most frames that each of two masks hides

    def __post_init__(self):
        object.__setattr__(self, "channels", tuple(self.channels))
        object.__setattr__(self, "augment", tuple((str(name), float(share)) for name, share in self.augment))
        for setting in fields(self):
            _check(setting, getattr(self, setting.name))
        self._check_together()

    def _check_together(self) -> None:
        """Refuse settings that are possible one by one but not together, and lists of the wrong length."""
        nyquist, count = self.sample_rate / 2, len(self.channels)
        shares = [share for _, share in self.augment]
        _require(1 <= count <= MOST_CHANNELS, f"channels must be 1 to {MOST_CHANNELS} numbers, got {count}")
        _require(all(0 <= share <= 1 for share in shares), f"augment must have shares from 0 to 1, got {shares}")
        _require(self.batch_size % 2 == 0, f"batch_size must be even (half real, half fake), got {self.batch_size}")
        _require(self.f_min < self.f_max <= nyquist, f"f_max must be above f_min, up to {nyquist} Hz, got {self.f_max}")
        weights = sum(9 * c_in * c_out for c_in, c_out in pairwise(self.channels))
        _require(self.n_fft * self.n_mels <= MOST_WEIGHTS, f"n_fft * n_mels must be up to {MOST_WEIGHTS:,}")
        _require(weights <= MOST_WEIGHTS, f"channels must make up to {MOST_WEIGHTS:,} weights, not {weights:,}")

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

        The network sees about 25,000 clips in 12 to 40 epochs: many short epochs for the fixture, 12 for Fake-or-Real.
        """
        epochs = min(40, max(12, round(25_000 / max(n_clips, 1))))
        return replace(self, epochs=epochs, batch_size=16 if n_clips < 500 else 32)

    @property
    def digest(self) -> str:
        """Six hex digits that change with any setting."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()[:6]

    @property
    def changed(self) -> dict:
        """The settings that differ from their defaults."""
        return {name: value for name, value in vars(self).items() if value != getattr(Config, name)}

    def to_json(self) -> str:
        """All fields as one JSON object."""
        return json.dumps(vars(self))

    @classmethod
    def from_json(cls, text: str) -> "Config":
        """The inverse of `to_json`; raises ValueError that names the settings which this version does not know."""
        values = dict(json.loads(text))
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        _require(not unknown, f"unknown settings {unknown}: written by another version of dfa_utils")
        return cls(**values)


def _check(setting: Field, value) -> None:
    """Refuse a value that is not of the type of its default, or outside its range."""
    name, default, words = setting.name, setting.default, setting.metadata.get("words")
    if "range" in setting.metadata:
        (least, most), whole = setting.metadata["range"], not isinstance(default, float)
        wanted = f"{name} must be a {'whole ' if whole else ''}number from {least:g} to {most:g}"
        for x in value if isinstance(default, tuple) else (value,):
            is_number = isinstance(x, Integral if whole else Real) and not isinstance(x, bool)
            _require(is_number and least <= x <= most, f"{wanted}, got {x!r}")
    elif words:
        _require(value in words, f"{name} must be one of {', '.join(words)}, got {value!r}")
    elif isinstance(default, str):
        _require(isinstance(value, str), f"{name} must be a word, got {value!r}")


def _require(holds: bool, message: str) -> None:
    if not holds:
        raise ValueError(message)
