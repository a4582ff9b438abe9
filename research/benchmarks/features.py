"""Milliseconds for the mel spectrogram in dB of a 2 s clip, on one thread: LogMel, torchaudio, librosa."""

import librosa
import torch
from common import threads, time_in_turns, write
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from dfa_utils.config import Config
from dfa_utils.features import TOP_DB, LogMel

COUNT, config = 64, Config()
waves = 0.1 * torch.randn(COUNT, config.clip_samples, generator=torch.Generator().manual_seed(0))
settings = {"n_fft": config.n_fft, "hop_length": config.hop_length, "n_mels": config.n_mels}
front_end, to_db = LogMel(config), AmplitudeToDB("power", top_db=TOP_DB)
mel = MelSpectrogram(config.sample_rate, **settings)
ways = {
    "LogMel, batches of 32": lambda: [front_end(batch) for batch in waves.split(32)],
    "LogMel, clip by clip": lambda: [front_end(wave[None]) for wave in waves],
    "torchaudio, clip by clip": lambda: [to_db(mel(wave)[None]) for wave in waves],
    "librosa, clip by clip": lambda: [
        librosa.power_to_db(librosa.feature.melspectrogram(y=wave, sr=config.sample_rate, **settings))
        for wave in waves.numpy()
    ],
}
with threads(1):
    seconds = time_in_turns(ways)
write("features", {f"{name} (ms a clip)": round(1e3 * s / COUNT, 3) for name, s in seconds.items()})
