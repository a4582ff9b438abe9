"""The training loop: accelerate for the device and the processes, a state on disk after every epoch, exact resume.

Order, crops and dropout follow from (seed, epoch) alone, so a killed run continues as if nothing had happened: on a CPU
to the last bit, on a GPU up to the order in which its kernels add.
"""

import json
import math
import warnings
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from dfa_utils import metrics
from dfa_utils.augment import Augmentation
from dfa_utils.calibrate import calibrated
from dfa_utils.checkpoint import (
    CheckpointError,
    flatten_state,
    read_tensors,
    restore,
    runs_folder,
    save_checkpoint,
    unflatten_state,
)
from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, fingerprint, make_loader, set_epoch
from dfa_utils.display import run_html
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.layouts import CLASSES
from dfa_utils.models import build_model
from dfa_utils.support import progress_bar, write_atomically

MAX_GRAD_NORM = 1.0  # longer gradients are clipped to this length
CALIBRATABLE = 9  # validation clips per class; fewer cannot promise that errors stay below 10 %
WARM_UP = 0.3  # share of the steps in which the learning rate rises
NORM_BATCHES = 10  # training batches of which batch norm's averages are taken after each epoch


@dataclass(repr=False)
class Run:
    """A training run: its folder (best.safetensors, last.safetensors, history.csv) and one dict an epoch."""

    folder: Path
    epochs: list[dict] = field(default_factory=list)

    @property
    def history(self) -> pd.DataFrame:
        """One row an epoch: train_loss and train_accuracy (while training), loss, accuracy, eer (validation)."""
        return pd.DataFrame(self.epochs)

    @property
    def best(self) -> int:
        """Index of the epoch with the lowest validation loss; on few clips the EER would move in coarse steps."""
        return min(range(len(self.epochs)), key=lambda i: self.epochs[i]["loss"])

    def write_history(self) -> None:
        """Write history.csv in one step."""
        write_atomically(self.folder / "history.csv", self.history.to_csv(index=False).encode())

    def __repr__(self) -> str:
        return f"Run({self.folder.name}, {len(self.epochs)} epochs)"

    def _repr_html_(self) -> str:
        return run_html(self.folder, self.epochs, self.best if self.epochs else 0)

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought nothing better.

        Patience begins when the learning rate is past its peak: on the way there the loss may well rise for a while.
        """
        done, risen = len(self.epochs), int(WARM_UP * config.epochs)
        return done >= config.epochs or (done > 0 and done - 1 - max(self.best, risen) >= config.patience)


def fit(config: Config, manifest: pd.DataFrame, folder=None) -> Run:
    """Train a detector on the training split, watch it on the validation split, calibrate it there, return the run.

    A run that was stopped continues where it was; a finished one is returned as it is. `folder` defaults to one named
    after model, data and settings below `runs_folder()`. Batches of training waveforms are augmented as
    `config.augment` says. The best checkpoint gets a calibration and a band of "uncertain" from the validation scores,
    where that has at least 9 clips of each class (`calibrate`). Raises ValueError for a split without one of the
    classes, if the folder holds a run with other settings, other data or another number of processes, and if the loss
    becomes NaN or infinite.
    """
    _refuse_missing_classes(manifest)
    data = fingerprint(manifest)
    folder = Path(folder or runs_folder() / f"{config.model.replace(':', '-')}-{data}-{config.digest}")
    with torch.random.fork_rng():
        state = _begin(config, manifest, Run(folder), data)
        with progress_bar(total=config.epochs, initial=len(state.run.epochs), desc="training") as bar:
            while not state.run.is_finished(config):
                state.seed_epoch()
                row = {"epoch": len(state.run.epochs) + 1, **train_one_epoch(state)}
                settle_batch_norm(state)
                row |= validate(state)
                state.save(row)
                bar.set_postfix(loss=row["loss"], eer=row["eer"])
                bar.update()
            bar.total = bar.n  # an early stop is no failure
    return state.run


def train_one_epoch(state: "_State") -> dict:
    """One pass over the training split; its mean loss and its accuracy, in training mode."""
    accelerator, results = state.accelerator, []
    state.model.train()
    for waveforms, labels in state.batches:
        with torch.autocast(waveforms.device.type, torch.bfloat16, enabled=state.precision == "bf16"):
            logits = state.model(state.augment(waveforms, state.generator)).float()  # [B, 2]
        accelerator.backward(cross_entropy(logits, labels))
        accelerator.clip_grad_norm_(state.model.parameters(), MAX_GRAD_NORM)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.schedule.step()
        results.append(accelerator.gather((logits.detach(), labels)))
    logits, labels = (torch.cat(parts) for parts in zip(*results, strict=True))
    loss = cross_entropy(logits, labels).item()
    if not math.isfinite(loss):
        raise ValueError(f"the training loss became {loss}; start again with a lower learning rate")
    return {"train_loss": loss, "train_accuracy": (logits.argmax(dim=1) == labels).float().mean().item()}


def settle_batch_norm(state: "_State") -> None:
    """Recompute batch norm's statistics with the weights as they are now (Wu and Johnson 2021, "precise BN").

    Its running averages lag behind the weights while the learning rate is high, so validation would fluctuate.
    """
    batches, device = islice(state.loader, NORM_BATCHES), state.accelerator.device
    clips = (state.augment(waveforms.to(device), state.generator) for waveforms, _ in batches)
    update_bn(clips, state.unwrapped)


def validate(state: "_State") -> dict:
    """Score every validation clip as `Detector.predict` does; loss, accuracy at 0.5, EER. The threshold is kept."""
    broadcast(list(state.unwrapped.buffers()))  # batch norm's running means, which differ between processes
    scored = score_clips(Detector(state.unwrapped, {}), state.validation)
    labels, scores = scored.label.to_numpy(), scored.score.to_numpy()
    rate, state.info["threshold"] = metrics.eer(labels, scores)
    if min(np.bincount(labels)) >= CALIBRATABLE:
        state.info |= calibrated(Detector(state.unwrapped, {}), labels, scores)
    return {"loss": metrics.log_loss(labels, scores), "accuracy": metrics.accuracy(labels, scores), "eer": rate}


@dataclass
class _State:
    """All that a run needs from one epoch to the next, and that is written after each."""

    config: Config
    run: Run
    validation: pd.DataFrame
    accelerator: Accelerator
    augment: Augmentation
    generator: torch.Generator  # of the augmentation
    loader: DataLoader
    batches: DataLoader  # the same, for this process's share of them
    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    schedule: OneCycleLR
    precision: str  # "bf16" or "fp32"; a run keeps the one it began with
    info: dict  # fingerprint of the data, threshold, calibration: what goes into the checkpoint

    @property
    def unwrapped(self) -> torch.nn.Module:
        """The detector itself, without what accelerate wraps around it."""
        return self.accelerator.unwrap_model(self.model)

    def seed_epoch(self) -> None:
        """Order, crops, augmentation and dropout of the coming epoch follow from (seed, epoch) alone."""
        epoch = len(self.run.epochs)
        seed = self.config.seed * 1_000_003 + epoch
        torch.manual_seed(seed)
        self.generator.manual_seed(seed * 1_009 + self.accelerator.process_index)
        set_epoch(self.loader, epoch)

    def save(self, row: dict) -> None:
        """First the best checkpoint, then the state to resume from, then the table.

        The next call of `fit` recovers from a kill between any two.
        """
        run = self.run
        run.epochs.append(row)
        if self.accelerator.is_main_process:
            info = {**self.info, "precision": self.precision, **row}
            if run.best == len(run.epochs) - 1:
                save_checkpoint(run.folder / "best.safetensors", self.unwrapped, info)
            tensors, groups = flatten_state(self.optimizer.state_dict())
            info |= {"epochs": run.epochs, "groups": groups, "schedule": self.schedule.state_dict()}
            info["processes"] = self.accelerator.num_processes
            save_checkpoint(run.folder / "last.safetensors", self.unwrapped, info, tensors)
            run.write_history()
        self.accelerator.wait_for_everyone()

    def resume(self, path: Path) -> None:
        """Continue the run whose state is at `path`; ValueError for another run, CheckpointError for a damaged one."""
        header, tensors = read_tensors(path)
        info = json.loads(header["info"])
        theirs = json.loads(header["config"]) | {name: info.get(name) for name in ("data", "processes")}
        mine = json.loads(self.config.to_json())
        mine |= {"data": self.info["data"], "processes": self.accelerator.num_processes}
        if other := [name for name in mine if mine[name] != theirs.get(name)]:
            raise ValueError(
                f"{path.parent}: holds a run with another {', '.join(other)}; give the same, or choose another folder"
            )
        if info.get("precision", self.precision) != self.precision:
            warnings.warn(
                f"{path.parent} was begun in {info['precision']} and continues in it, though this processor would use "
                f"{self.precision}: epochs may take longer, and the last digits differ from those of one machine",
                stacklevel=4,
            )
            self.precision = info["precision"]
        try:
            restore(self.unwrapped, tensors)
            self.optimizer.load_state_dict(unflatten_state(tensors, info["groups"]))
            self.schedule.load_state_dict(info["schedule"])
            self.run.epochs = info["epochs"]
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path}: cannot be continued ({reason}); delete {path.parent} and train again"
            ) from error
        if self.accelerator.is_main_process:
            self.run.write_history()


def _begin(config: Config, manifest: pd.DataFrame, run: Run, data: str) -> _State:
    """The state before the first epoch; or, of a run that was stopped, after its last one."""
    accelerator = Accelerator()
    loader = make_loader(ClipDataset(manifest[manifest.split == "training"], config, train=True))
    optimizer_of = {"lr": config.learning_rate, "weight_decay": config.weight_decay}
    model = build_model(config=config)
    optimizer = torch.optim.AdamW(model.parameters(), **optimizer_of)
    model, prepared, batches = accelerator.prepare(model, optimizer, loader)
    steps = config.epochs * len(batches)
    state = _State(
        config=config,
        run=run,
        validation=manifest[manifest.split == "validation"],
        accelerator=accelerator,
        augment=Augmentation(config.augment, config.sample_rate),
        generator=torch.Generator(accelerator.device),
        loader=loader,
        batches=batches,
        model=model,
        optimizer=prepared,
        schedule=OneCycleLR(optimizer, config.learning_rate, total_steps=steps, pct_start=WARM_UP),
        precision="bf16" if _has_bf16(accelerator.device) else "fp32",
        info={"data": data},
    )
    if (run.folder / "last.safetensors").exists():
        if not (run.folder / "best.safetensors").exists():
            raise CheckpointError(f"{run.folder}: best.safetensors is gone; delete the folder and train again")
        state.resume(run.folder / "last.safetensors")
    return state


def _refuse_missing_classes(manifest: pd.DataFrame) -> None:
    for split in ("training", "validation"):
        for label, name in enumerate(CLASSES):
            if not ((manifest.split == split) & (manifest.label == label)).any():
                raise ValueError(f"the {split} split holds no {name} clip; training needs both classes in both splits")


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster here: on a GPU that has it, and on a processor with AMX; AVX-512 alone is no help."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(able.get("amx_bf16"))
