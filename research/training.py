"""Train a CNN for long on what people really receive: python -m research.training --data ROOT --run FOLDER.

Six versions of every clip are computed once and kept as spectrograms in half precision: the clip itself, one after
CHANNELS, two as `received` leaves them, and two after both. A batch draws pages by the inverse square root of their
size, so that no page of a hundred clips dominates. Training continues after the last epoch that was saved. With
--start and --teachers a network continues from another one, and imitates the mean of several.
"""

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn

from dfa_utils.audio import fit_length, load_audio
from dfa_utils.augment import CHANNELS, Augmentation
from dfa_utils.checkpoint import load_checkpoint, save_checkpoint
from dfa_utils.config import Config
from dfa_utils.dataset import scan
from dfa_utils.features import LogMel, standardise
from dfa_utils.models import SpectrogramDetector, build_model
from dfa_utils.support import atomic_file, progress_bar, write_atomically
from research.copies import copy_of
from research.received import received
from research.recipes import RELEASE

FRONT_END = ("sample_rate", "clip_seconds", "n_fft", "hop_length", "n_mels", "f_min", "f_max", "frequency_scale")
VERSIONS = {"clean": 0.2, "channels": 0.2, "received": 0.3, "received and channels": 0.3}  # share of what a batch sees
KEPT = ("clean", "channels", *2 * ("received", "received and channels"))  # the versions of a clip, in order
COPIES, SPEECH = 0.2, 0.1  # share of the fakes that are copies by vocoders, and of the reals that are further speech
SHORT, ROLLED = 0.15, 0.5  # share of clips that are cut to a fifth to three quarters and repeated; that are rotated
SMOOTHING, WARM_UP, MAX_GRAD_NORM = 0.03, 0.2, 1.0
IMITATION = 0.7  # weight of the teachers' answers in the loss, where there are teachers
EPOCH, CHUNK, NORM_BATCHES = 12_000, 64, 40  # clips per epoch; clips that one process prepares at once


def main(arguments=None) -> int:
    """Keep the versions of all clips, and train on them."""
    options = parser().parse_args(arguments)
    config = replace(RELEASE, epochs=max(options.epochs, 1), seed=options.seed, learning_rate=options.rate)
    config = replace(config, frequency_scale=options.frequency_scale)
    clips = training_clips(options.data, options.copies, options.speech)
    kept = {
        source: keep_versions(part.path.tolist(), Path(options.versions) / source, config, options.processes)
        for source, part in clips.groupby("source")
    }
    if options.epochs:
        torch.set_num_threads(options.threads)
        batches, teachers = (
            Batches(clips, kept, config.batch_size),
            [load_checkpoint(each)[0] for each in options.teachers],
        )
        train(config, batches, Path(options.run), options.start, teachers)
    return 0


def parser() -> argparse.ArgumentParser:
    """The options of the command."""
    top = argparse.ArgumentParser("python -m research.training", description="Train a CNN on kept versions of clips.")
    top.add_argument("--data", required=True, metavar="ROOT", help="a data set with a column source_repo")
    top.add_argument("--run", required=True, metavar="FOLDER", help="for last.safetensors, the state and history.csv")
    top.add_argument("--versions", required=True, metavar="FOLDER", help="for the spectrograms, 190 kB a clip")
    top.add_argument("--copies", metavar="FOLDER", help="what research.copies wrote")
    top.add_argument("--speech", metavar="FOLDER", help="what research.debian_speech wrote")
    top.add_argument("--epochs", type=int, default=90, help=f"of {EPOCH:,} clips each; 0: only keep the versions")
    top.add_argument("--rate", type=float, default=RELEASE.learning_rate, help="peak of the learning rate")
    top.add_argument("--seed", type=int, default=0)
    top.add_argument("--start", metavar="FILE", help="the weights of a detector to begin with, instead of random ones")
    top.add_argument("--teachers", nargs="*", default=[], metavar="FILE", help="detectors whose mean is imitated")
    top.add_argument("--frequency-scale", default="mel", choices=("mel", "linear"))
    top.add_argument("--processes", type=int, default=2, help="that compute versions")
    top.add_argument("--threads", type=int, default=1, help="of training")
    return top


def training_clips(root, copies: str | None = None, speech: str | None = None) -> pd.DataFrame:
    """The training clips with a column `source`: "data", "copies" (fakes) or "speech" (real), in a fixed order."""
    data = scan(root, check=False, splits=("training",)).assign(source="data")
    parts = [data[data.split == "training"]]
    if copies:
        real = parts[0][parts[0].label == 0]
        made = real.assign(path=[str(copy_of(path, Path(copies))) for path in real.path], label=1, source="copies")
        parts.append(made[[Path(path).exists() for path in made.path]])
    if speech:
        table = pd.read_csv(Path(speech) / "manifest.csv")
        table = table[table.split == "training"].assign(label=0, source="speech", system="")
        parts.append(table.assign(path=[str(Path(speech) / path) for path in table.path]))
    return pd.concat(parts, ignore_index=True)[["path", "label", "source", "source_repo", "speaker", "system"]]


def keep_versions(paths: list[str], folder: Path, config: Config, processes: int = 1) -> np.ndarray:
    """Spectrograms in dB [versions, N, n_mels, frames] float16 of clips, memory-mapped; those that are there stay.

    Each chunk of clips has a generator of its own, so the result does not depend on the number of processes. Raises
    ValueError if the folder holds the versions of other clips or settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    file, done = folder / "versions.npy", folder / "done.npy"
    chunks, names = -(-len(paths) // CHUNK), "\n".join(Path(path).name for path in paths)
    settings = {name: getattr(config, name) for name in FRONT_END}
    described = json.dumps({"clips": hashlib.sha256(names.encode()).hexdigest(), **settings})
    if not (folder / "about.json").exists():
        shape = (len(KEPT), len(paths), config.n_mels, 1 + config.clip_samples // config.hop_length)
        np.lib.format.open_memmap(file, "w+", np.float16, shape).flush()
        np.save(done, np.zeros(chunks, dtype=bool))
        write_atomically(folder / "about.json", described.encode())
    if (folder / "about.json").read_text() != described:
        raise ValueError(f"{folder}: holds the versions of other clips or settings; choose another folder")
    finished = np.load(done)
    todo = [(int(i), paths[i * CHUNK : (i + 1) * CHUNK]) for i in np.flatnonzero(~finished)]
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        work = pool.map(partial(_keep_chunk, file=file, config=config), todo)
        for i in progress_bar(work, total=len(todo), desc="versions"):
            finished[i] = True
            np.save(done, finished)
    return np.load(file, mmap_mode="r")


@torch.inference_mode()
def _keep_chunk(task: tuple[int, list[str]], file: Path, config: Config) -> int:
    torch.set_num_threads(1)
    number, paths = task
    draw, generator = np.random.default_rng(number), torch.Generator().manual_seed(number)
    front_end, augment = LogMel(config), Augmentation(CHANNELS, config.sample_rate)
    clips = np.stack([fit_length(load_audio(path, config.sample_rate).numpy(), config.clip_samples) for path in paths])
    kept = np.load(file, mmap_mode="r+")
    for version, name in enumerate(KEPT):
        waveforms = np.stack([received(clip, draw) for clip in clips]) if "received" in name else clips
        waveforms = torch.from_numpy(waveforms)
        waveforms = augment(waveforms, generator) if "channels" in name else waveforms
        kept[version, number * CHUNK : number * CHUNK + len(paths)] = front_end(waveforms)[:, 0].half().numpy()
    kept.flush()
    return number


@dataclass
class Batches:
    """Draws batches of spectrograms in dB [B, 1, n_mels, frames] and labels [B], half of them real."""

    clips: pd.DataFrame
    kept: dict[str, np.ndarray]  # of each source [versions, N, n_mels, frames], in the order of its clips
    size: int

    def __post_init__(self):
        self.pools, places = {}, self.clips.groupby("source").cumcount()
        for (label, source), part in self.clips.groupby(["label", "source"]):
            weights = (part.groupby("source_repo").path.transform("size") ** -0.5).to_numpy()
            self.pools[label, source] = places[part.index].to_numpy(), weights / weights.sum()
        self.chances = np.array([VERSIONS[name] / KEPT.count(name) for name in KEPT])

    def draw(self, count: int, draw: np.random.Generator) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield `count` batches."""
        labels, half = torch.arange(self.size) * 2 // self.size, self.size // 2
        for _ in range(count):
            chosen = self._choose(0, "speech", SPEECH, half, draw) + self._choose(1, "copies", COPIES, half, draw)
            versions = draw.choice(len(KEPT), self.size, p=self.chances)
            drawn = [self.kept[source][k, i] for (source, i), k in zip(chosen, versions, strict=True)]
            batch = np.stack(drawn).astype(np.float32)  # [B, n_mels, frames]
            for clip in batch:  # [n_mels, frames]
                if draw.random() < SHORT:
                    frames = int(clip.shape[1] * draw.uniform(0.2, 0.75))
                    clip[:] = clip[:, np.arange(clip.shape[1]) % frames]
                if draw.random() < ROLLED:
                    clip[:] = np.roll(clip, draw.integers(clip.shape[1]), axis=1)
            yield torch.from_numpy(batch)[:, None], labels

    def _choose(self, label: int, extra: str, share: float, count: int, draw: np.random.Generator) -> list[tuple]:
        """(Source, index) of `count` clips of a class; a share comes from the extra source where there is one."""
        extras = draw.binomial(count, share) if (label, extra) in self.pools else 0
        chosen = []
        for source, number in (("data", count - extras), (extra, extras)):
            if number:
                places, chances = self.pools[label, source]
                chosen += [(source, i) for i in draw.choice(places, number, p=chances)]
        return chosen


def train(config: Config, batches: Batches, folder: Path, start: str | None = None, teachers: Sequence = ()) -> Path:
    """Train for config.epochs epochs and return last.safetensors; an interrupted training continues.

    `start` is the checkpoint of a detector to begin with. With `teachers` the network learns to give the mean of their
    answers as well as the right ones (distillation: Hinton, Vinyals and Dean 2015, arXiv 1503.02531). Batch norm's
    statistics are computed at the end, by the final weights (Wu and Johnson 2021).
    """
    detector, history, steps = build_model(config=config), [], EPOCH // config.batch_size
    if start:
        detector.load_state_dict(load_checkpoint(start)[0].state_dict())
    optimizer = torch.optim.AdamW(detector.parameters(), config.learning_rate, weight_decay=config.weight_decay)
    schedule = OneCycleLR(optimizer, config.learning_rate, config.epochs * steps, pct_start=WARM_UP)
    state, precision = folder / "state.pt", torch.bfloat16 if bf16_is_faster(detector, config) else torch.float32
    if state.exists():
        saved = torch.load(state, weights_only=True)
        for part, values in zip((detector, optimizer, schedule), saved["parts"], strict=True):
            part.load_state_dict(values)
        history, precision = saved["history"], getattr(torch, saved["precision"])
    for epoch in range(len(history), config.epochs):
        started, losses, seed = time.monotonic(), [], config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        detector.train()
        for spectrograms, labels in batches.draw(steps, np.random.default_rng(seed)):
            spectrograms = spectrograms.to(memory_format=torch.channels_last)
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == torch.bfloat16):
                logits = detector.classify(spectrograms).float()
                targets = taught(teachers, spectrograms) if teachers else None
            loss = cross_entropy(logits, labels, label_smoothing=SMOOTHING)
            if teachers:
                loss = (1 - IMITATION) * loss + IMITATION * cross_entropy(logits, targets)
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(detector.parameters(), MAX_GRAD_NORM)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        history.append({"epoch": epoch + 1, "loss": float(np.mean(losses)), "seconds": time.monotonic() - started})
        save_state(state, (detector, optimizer, schedule), history, precision)
        write_atomically(folder / "history.csv", pd.DataFrame(history).to_csv(index=False).encode())
        print(f"{folder.name} epoch {epoch + 1}: loss {np.mean(losses):.4f}", flush=True)
    settle_batch_norm(detector, batches)
    save_checkpoint(folder / "last.safetensors", detector.eval(), {"seed": config.seed, "precision": str(precision)})
    return folder / "last.safetensors"


@torch.no_grad()
def taught(teachers: Sequence[SpectrogramDetector], spectrograms: torch.Tensor) -> torch.Tensor:
    """The probabilities [B, 2] by the mean of the teachers' logits."""
    return torch.stack([each.classify(spectrograms).float() for each in teachers]).mean(dim=0).softmax(dim=1)


def settle_batch_norm(detector: SpectrogramDetector, batches: Batches) -> None:
    """Compute batch norm's statistics by the weights as they are now."""
    drawn = batches.draw(NORM_BATCHES, np.random.default_rng(0))
    update_bn((standardise(each, detector.config.mean_subtraction) for each, _ in drawn), detector.back_end)


def save_state(path: Path, parts: tuple, history: list[dict], precision: torch.dtype) -> None:
    """Write what training continues from, in one step; a training goes on in the precision that it began with."""
    with atomic_file(path) as file:
        state = {"parts": [each.state_dict() for each in parts], "history": history}
        torch.save(state | {"precision": str(precision).removeprefix("torch.")}, file)


def bf16_is_faster(detector: SpectrogramDetector, config: Config) -> bool:
    """Whether a training step in bf16 takes at most 0.8 of the time of one in float32, on this machine, measured."""
    network, took = detector.back_end.train(), {}
    batch = torch.randn(config.batch_size, 1, config.n_mels, 200).to(memory_format=torch.channels_last)
    for dtype in (torch.float32, torch.bfloat16) * 4:
        started = time.monotonic()
        with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16):
            loss = network(batch).float().square().mean()
        loss.backward()
        took[dtype] = min(took.get(dtype, np.inf), time.monotonic() - started)
    network.zero_grad(set_to_none=True)
    return took[torch.bfloat16] < 0.8 * took[torch.float32]


if __name__ == "__main__":
    sys.exit(main())
