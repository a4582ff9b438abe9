"""One training epoch: our data path and loop, against those of a plain notebook, and against its arithmetic alone.

Plain: each clip is read with torchaudio.load and turned into a spectrogram in `__getitem__`, every epoch, by a
DataLoader with two workers; the same CNN, optimizer and batch size, as PyTorch makes them: float32, channels first. To
show the part of the data path, also with our arithmetic: channels last, and bf16 on a processor with AMX. Data path
alone: everything up to the spectrograms, without the CNN.
"""

import torch
import torchaudio
from common import make_clips, scratch, time_in_turns, training_state, write
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, make_loader
from dfa_utils.features import TOP_DB, standardise
from dfa_utils.models import CNN
from dfa_utils.train import _fast_precision, train_one_epoch

COUNT, config = 640, Config()


class PlainDataset(Dataset):
    """What public notebooks do."""

    def __init__(self, manifest):
        self.paths, self.labels = manifest.path.tolist(), manifest.label.tolist()
        self.mel = MelSpectrogram(config.sample_rate, config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels)
        self.to_db = AmplitudeToDB("power", top_db=TOP_DB)

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        waveform, _ = torchaudio.load(self.paths[index])
        return self.to_db(self.mel(waveform[:, : config.clip_samples])), self.labels[index]


def plain_epoch(loader, network, bf16):
    """Forward, backward, step over all batches."""
    optimizer = torch.optim.AdamW(network.train().parameters(), lr=config.learning_rate)
    for spectrograms, labels in loader:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            logits = network(standardise(spectrograms)).float()
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def go_through(batches):
    """The data path alone."""
    for _ in batches:
        pass


with scratch() as folder:
    manifest = make_clips(folder, COUNT)
    training = manifest[manifest.split == "training"]
    plain = DataLoader(PlainDataset(training), batch_size=config.batch_size, shuffle=True, num_workers=2)
    ours = make_loader(ClipDataset(training, config, train=True))
    precision = _fast_precision(torch.device("cpu"))
    state = training_state(config, precision)
    front_end, in_memory = state.detector.front_end, list(ours)
    seconds = time_in_turns(
        {
            "plain: data path": lambda: go_through(plain),
            "ours: data path": lambda: go_through(front_end(waveforms) for waveforms, _ in ours),
            "ours: waveforms": lambda: go_through(ours),
            "plain: epoch": lambda: plain_epoch(plain, CNN(config), False),
            "plain: epoch with our arithmetic": lambda: plain_epoch(
                plain, CNN(config).to(memory_format=torch.channels_last), precision == "bf16"
            ),
            "ours: epoch": lambda: train_one_epoch(state, ours),
            "ours: epoch, waveforms in memory": lambda: train_one_epoch(state, in_memory),
        }
    )
    figures = {f"{name} (ms a clip)": round(1e3 * s / COUNT, 3) for name, s in seconds.items()}
    figures["data path: plain / ours"] = round(seconds["plain: data path"] / seconds["ours: data path"], 2)
    figures["epoch: plain / ours"] = round(seconds["plain: epoch"] / seconds["ours: epoch"], 2)
    figures["epoch: ours / in memory"] = round(seconds["ours: epoch"] / seconds["ours: epoch, waveforms in memory"], 3)
    write("epoch", figures | {"precision": precision, "clips": COUNT})
