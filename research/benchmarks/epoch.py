"""(c) One training epoch: our data path and its loop, against a plain notebook's, and against its own arithmetic.

Plain: each clip is read with torchaudio.load and turned into a spectrogram in `__getitem__`, every epoch, by a
DataLoader with two workers; the same CNN, optimizer and batch size, as PyTorch makes them: float32, channels first. So
that the data path's part shows, also with our arithmetic: channels last, and bf16 on a processor with AMX. Data path
alone: everything up to the spectrograms, without the CNN.
"""

import torch
import torchaudio
from common import make_clips, scratch, time_in_turns, write
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset
from torchaudio.transforms import AmplitudeToDB, MelSpectrogram

from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, make_loader
from dfa_utils.features import standardise
from dfa_utils.models import CNN
from dfa_utils.train import Trainer

COUNT, config = 640, Config()


class PlainDataset(Dataset):
    """What public notebooks do."""

    def __init__(self, manifest):
        self.paths, self.labels = manifest.path.tolist(), manifest.label.tolist()
        self.mel = MelSpectrogram(config.sample_rate, config.n_fft, hop_length=config.hop_length, n_mels=config.n_mels)
        self.to_db = AmplitudeToDB("power", top_db=config.top_db)

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
            logits = network(standardise(spectrograms, config.db_scale)).float()
        loss = cross_entropy(logits, labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def go_through(batches):
    """The data path alone."""
    for _ in batches:
        pass


def train_on(trainer, batches):
    """One epoch of the trainer's own loop on these batches."""
    trainer.batches = batches
    trainer.schedule.last_epoch = 0  # the schedule allows for a fixed number of steps
    trainer._train()


with scratch() as folder:
    manifest = make_clips(folder, COUNT)
    training = manifest[manifest.split == "training"]
    plain = DataLoader(PlainDataset(training), batch_size=config.batch_size, shuffle=True, num_workers=2)
    ours = make_loader(ClipDataset(training, config, train=True))
    trainer = Trainer(config, manifest, folder / "run", "benchmark")
    front_end, in_memory = trainer.model.front_end, list(ours)
    seconds = time_in_turns(
        {
            "plain: data path": lambda: go_through(plain),
            "ours: data path": lambda: go_through(front_end(waveforms) for waveforms, _ in ours),
            "ours: waveforms": lambda: go_through(ours),
            "plain: epoch": lambda: plain_epoch(plain, CNN(config), False),
            "plain: epoch with our arithmetic": lambda: plain_epoch(
                plain, CNN(config).to(memory_format=torch.channels_last), trainer.precision == "bf16"
            ),
            "ours: epoch": lambda: train_on(trainer, ours),
            "ours: epoch, waveforms in memory": lambda: train_on(trainer, in_memory),
        }
    )
    figures = {f"{name} (ms a clip)": round(1e3 * s / COUNT, 3) for name, s in seconds.items()}
    figures["data path: plain / ours"] = round(seconds["plain: data path"] / seconds["ours: data path"], 2)
    figures["epoch: plain / ours"] = round(seconds["plain: epoch"] / seconds["ours: epoch"], 2)
    figures["epoch: ours / in memory"] = round(seconds["ours: epoch"] / seconds["ours: epoch, waveforms in memory"], 3)
    write("epoch", figures | {"precision": trainer.precision, "clips": COUNT})
