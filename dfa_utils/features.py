"""From a waveform to a mel spectrogram in dB, for a whole batch at a time, on the model's device."""

import numpy as np
import torch
from torch import nn
from torchaudio.functional import linear_fbanks
from torchaudio.transforms import AmplitudeToDB, FrequencyMasking, MelSpectrogram, TimeMasking

from dfa_utils.config import Config

CPU_CLIPS = 8  # clips per STFT on a CPU; more would not fit its cache
TOP_DB = 80.0  # dB; the floor is this far below the loudest point of a clip
DB_UNIT = 20.0  # dB; divides the mean-free spectrogram, so that the network sees values of about 1


class LogMel(nn.Module):
    """Waveform -> mel spectrogram in dB. The result does not depend on gain, DC offset, or the rest of the batch.

    Shape: [B, T] -> [B, 1, n_mels, 1 + T // hop_length]; a clip shorter than n_fft is repeated to n_fft samples.
    Slaney's mel scale and area norm, and reflected edges, as in librosa; with frequency_scale="linear" the triangles
    are evenly spaced in Hz, each of height 1. 0 dB is the power of a clip whose RMS is 1.
    Raises ValueError for other shapes, and for clips without samples.
    """

    def __init__(self, config: Config):
        super().__init__()
        self.config = config
        settings = {name: getattr(config, name) for name in ("n_fft", "hop_length", "n_mels", "f_min", "f_max")}
        self.mel = MelPower(config.sample_rate, **settings, mel_scale="slaney", norm="slaney")
        if config.frequency_scale == "linear":
            bank = linear_fbanks(config.n_fft // 2 + 1, config.f_min, config.f_max, config.n_mels, config.sample_rate)
            self.mel.mel_scale.fb.copy_(bank)
        self.to_db = AmplitudeToDB("power", top_db=TOP_DB)

    @property
    def hertz(self) -> np.ndarray:
        """The centre of each band in Hz, [n_mels]: what the rows of the spectrogram mean."""
        return band_corners(self.config)[1:-1]

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        if waveform.ndim != 2 or waveform.shape[1] == 0:
            raise ValueError(f"LogMel takes waveforms [B, T] with T > 0, got {tuple(waveform.shape)}")
        with torch.autocast(waveform.device.type, enabled=False):  # a spectrum in bf16 loses its quiet parts
            at_once = CPU_CLIPS if waveform.device.type == "cpu" else len(waveform)
            return torch.cat([self._decibels(clips) for clips in waveform.float().split(at_once)])

    def _decibels(self, waveform: torch.Tensor) -> torch.Tensor:
        waveform = normalise_waveform(waveform)
        power = self.mel(waveform.repeat(1, 1 + (self.mel.n_fft - 1) // waveform.shape[1]))  # [B, n_mels, frames]
        return self.to_db(power.unsqueeze(1))  # with the 1, each clip has its own floor, not the batch


class SpecAugment(nn.Module):
    """In training, sets two random blocks of up to `bands` bands and two of up to `frames` frames to the mean.

    Shape: [B, 1, n_mels, frames] of mean 0 -> the same; the places differ from clip to clip. In evaluation mode, or
    with 0, nothing happens. Park et al., "SpecAugment", Interspeech 2019, without the time warping.
    """

    def __init__(self, bands: int, frames: int):
        super().__init__()
        masks = [FrequencyMasking(bands, iid_masks=True)] * 2 * (bands > 0)
        masks += [TimeMasking(frames, iid_masks=True)] * 2 * (frames > 0)
        self.masks = nn.Sequential(*masks)

    def forward(self, spectrogram: torch.Tensor) -> torch.Tensor:
        return self.masks(spectrogram) if self.training else spectrogram


def standardise(db: torch.Tensor, mean: str = "clip") -> torch.Tensor:
    """Subtract the mean of each clip from its spectrogram [B, 1, n_mels, frames] in dB and divide by DB_UNIT.

    With mean="band" each band loses its own mean over time, and with it whatever stays the same throughout the clip,
    such as the colour of a microphone (cepstral mean subtraction: Atal 1974).
    """
    return (db - db.mean(dim=(2, 3) if mean == "clip" else 3, keepdim=True)) / DB_UNIT


def normalise_waveform(waveform: torch.Tensor) -> torch.Tensor:
    """Remove the mean and set the RMS of each clip [..., T] to 1; silence stays silence."""
    waveform = waveform - waveform.mean(dim=-1, keepdim=True)
    rms = waveform.square().mean(dim=-1, keepdim=True).sqrt()
    return waveform / rms.clamp(min=1e-8)


def band_corners(config: Config) -> np.ndarray:
    """Corners [n_mels + 2] in Hz of the triangular filters: filter k rises from corner k and falls to corner k + 2."""
    import librosa

    if config.frequency_scale == "mel":
        return librosa.mel_frequencies(config.n_mels + 2, fmin=config.f_min, fmax=config.f_max)
    return np.linspace(config.f_min, config.f_max, config.n_mels + 2)


class MelPower(MelSpectrogram):
    """torchaudio's MelSpectrogram for power 2, without the root of |z|, which would only be squared again.

    Shape: [B, T] -> [B, n_mels, frames].
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, power=None, **kwargs)

    def forward(self, waveform: torch.Tensor) -> torch.Tensor:
        spectrum = self.spectrogram(waveform)  # complex [B, 1 + n_fft // 2, frames]
        return self.mel_scale(torch.addcmul(spectrum.real.square(), spectrum.imag, spectrum.imag))
