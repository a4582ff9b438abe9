"""The training loop: accelerate for the device and the processes, a state on disk after every epoch, exact resume.

Order, crops and dropout follow from (seed, epoch) alone, so a killed run continues as if nothing had happened.
"""

import json
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from tqdm.auto import tqdm

from dfa_utils import metrics
from dfa_utils.checkpoint import TRAINING_STATE, read_tensors, runs_folder, save_checkpoint, write_atomically
from dfa_utils.config import Config
from dfa_utils.data import ClipDataset, fingerprint, make_loader, set_epoch
from dfa_utils.models import build_model


@dataclass
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

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought nothing better."""
        done = len(self.epochs)
        return done >= config.epochs or (done > 0 and done - 1 - self.best >= config.patience)


def fit(config: Config, manifest: pd.DataFrame, folder=None) -> Run:
    """Train a detector on the training split, watch it on the validation split, and return the run.

    A run that was stopped goes on where it was; a finished one is returned as it is. `folder` defaults to one named
    after model and data below `runs_folder()`. Raises ValueError if it holds a run with other settings or other data.
    """
    folder = Path(folder or runs_folder() / f"{config.model}-{fingerprint(manifest)}-seed{config.seed}")
    with torch.random.fork_rng():
        trainer = Trainer(config, manifest, folder)
        bar = tqdm(total=config.epochs, initial=len(trainer.run.epochs), desc="training")
        while not trainer.run.is_finished(config):
            row = trainer.do_epoch()
            bar.set_postfix(loss=row["loss"], eer=row["eer"])
            bar.update()
        bar.close()
    return trainer.run


class Trainer:
    """Everything one run needs; `do_epoch` trains, validates and saves."""

    def __init__(self, config: Config, manifest: pd.DataFrame, folder: Path):
        self.config, self.run, self.data = config, Run(folder), fingerprint(manifest)
        bf16 = torch.cuda.is_available() and torch.cuda.is_bf16_supported()
        self.accelerator = Accelerator(mixed_precision="bf16" if bf16 else "no")
        split = {name: manifest[manifest.split == name] for name in ("training", "validation")}
        self.train_loader = make_loader(ClipDataset(split["training"], config, train=True))
        loaders = self.train_loader, make_loader(ClipDataset(split["validation"], config))
        model = build_model(config=config)
        optimizer = torch.optim.AdamW(model.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer, self.training, self.validation = self.accelerator.prepare(
            model, optimizer, *loaders
        )
        steps = config.epochs * len(self.training)
        self.schedule = OneCycleLR(optimizer, config.learning_rate, total_steps=steps)
        if (folder / "last.safetensors").exists():
            self._resume(folder / "last.safetensors")

    def do_epoch(self) -> dict:
        """One pass over the training split and one over the validation split; then everything is on disk."""
        epoch = len(self.run.epochs)
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        set_epoch(self.train_loader, epoch)
        row = {"epoch": epoch + 1, **self._train(), **self._validate()}
        self.run.epochs.append(row)
        if self.accelerator.is_main_process:
            self._save(better=self.run.best == epoch)
        self.accelerator.wait_for_everyone()
        return row

    def _train(self) -> dict:
        self.model.train()
        results = [self._step(waveforms, labels) for waveforms, labels in self.training]
        logits, labels = (torch.cat(parts) for parts in zip(*results, strict=True))
        return {"train_" + name: value for name, value in _loss_and_accuracy(logits, labels).items()}

    def _step(self, waveforms, labels):
        """Forward, backward, clip, update; the logits [B, 2] and labels [B] of all processes."""
        logits = self.model(waveforms)
        self.accelerator.backward(cross_entropy(logits, labels))
        self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()
        return self.accelerator.gather_for_metrics((logits.detach().float(), labels))

    @torch.inference_mode()
    def _validate(self) -> dict:
        self.model.eval()
        batches = [self.accelerator.gather_for_metrics((self.model(x).float(), y)) for x, y in self.validation]
        logits, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
        rate, self.threshold = metrics.eer(labels.cpu(), logits.softmax(dim=1)[:, 1].cpu())
        return {**_loss_and_accuracy(logits, labels), "eer": rate}

    def _save(self, better: bool) -> None:
        """First the best checkpoint, then the state to resume from, then the table: any kill between is mended."""
        folder, model = self.run.folder, self.accelerator.unwrap_model(self.model)
        info = {"data": self.data, "threshold": self.threshold, **self.run.epochs[-1]}
        if better:
            save_checkpoint(folder / "best.safetensors", model, info)
        tensors, groups = _flatten(self.optimizer.state_dict())
        info |= {"epochs": self.run.epochs, "groups": groups, "schedule": self.schedule.state_dict()}
        save_checkpoint(folder / "last.safetensors", model, info, tensors)
        write_atomically(folder / "history.csv", self.run.history.to_csv(index=False).encode())

    def _resume(self, path: Path) -> None:
        header, tensors = read_tensors(path)
        info = json.loads(header["info"])
        if header["config"] != self.config.to_json() or info["data"] != self.data:
            raise ValueError(f"{path.parent} holds a run with other settings or other data; choose another folder")
        state = {name: value for name, value in tensors.items() if not name.startswith(TRAINING_STATE)}
        self.accelerator.unwrap_model(self.model).load_state_dict(state)
        self.optimizer.load_state_dict(_unflatten(tensors, info["groups"]))
        self.schedule.load_state_dict(info["schedule"])
        self.run.epochs = info["epochs"]


def newest_run(data: str, folder=None) -> Path | None:
    """The newest finished or unfinished run trained on the data with this fingerprint, or None."""
    found = []
    for path in Path(folder or runs_folder()).glob("*/best.safetensors"):
        if json.loads(read_tensors(path)[0]["info"]).get("data") == data:
            found.append(path)
    return max(found, key=lambda p: p.stat().st_mtime_ns).parent if found else None


def _loss_and_accuracy(logits: torch.Tensor, labels: torch.Tensor) -> dict:
    right = (logits.argmax(dim=1) == labels).float()
    return {"loss": cross_entropy(logits, labels).item(), "accuracy": right.mean().item()}


def _flatten(state: dict) -> tuple[dict[str, torch.Tensor], list]:
    """An optimizer's state as named tensors and its settings as what JSON can hold."""
    tensors = {f"{TRAINING_STATE}{i}.{k}": v.cpu().clone() for i, s in state["state"].items() for k, v in s.items()}
    return tensors, state["param_groups"]


def _unflatten(tensors: dict[str, torch.Tensor], groups: list) -> dict:
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith(TRAINING_STATE):
            index, key = name.removeprefix(TRAINING_STATE).split(".")
            state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": groups}
