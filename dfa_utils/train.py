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

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn

from dfa_utils import metrics
from dfa_utils.backends.borrowed import groups_by_layer
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
from dfa_utils.display.curves import run_html
from dfa_utils.effects.augment import Augmentation
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.models import build_model
from dfa_utils.support.files import write_atomically
from dfa_utils.support.parallel import progress_bar

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
    """Train a detector on the training split, watch it on the validation split, and return the run.

    A run that was stopped goes on where it was; a finished one is returned as it is. `folder` defaults to one named
    after model, data and settings below `runs_folder()`. Batches of training waveforms go through what `config.augment`
    says. Raises ValueError if the folder holds a run with other settings, other data or another number of processes,
    and if the loss is no number any more.
    """
    data = fingerprint(manifest)
    folder = Path(folder or runs_folder() / f"{config.model}-{data}-{config.digest}")
    with torch.random.fork_rng():
        trainer = Trainer(config, manifest, folder, data)
        bar = progress_bar(total=config.epochs, initial=len(trainer.run.epochs), desc="training")
        while not trainer.run.is_finished(config):
            row = trainer.do_epoch()
            bar.set_postfix(loss=row["loss"], eer=row["eer"])
            bar.update()
        bar.total = bar.n  # an early stop is no failure
        bar.close()
    return trainer.run


class Trainer:
    """Everything one run needs; `do_epoch` trains, validates and saves. `data` is the manifest's fingerprint."""

    def __init__(self, config: Config, manifest: pd.DataFrame, folder: Path, data: str):
        self.config, self.run, self.data = config, Run(folder), data
        self.augment = Augmentation(config.augment, config.sample_rate)
        self.accelerator, self.validation = Accelerator(), manifest[manifest.split == "validation"]
        self.precision = "bf16" if _has_bf16(self.accelerator.device) else "fp32"  # a run keeps the one it began with
        self.generator = torch.Generator(self.accelerator.device)
        self.loader = make_loader(ClipDataset(manifest[manifest.split == "training"], config, train=True))
        model = build_model(config=config)
        groups = groups_by_layer(model, config.learning_rate, config.layer_decay)
        optimizer = torch.optim.AdamW(groups, lr=config.learning_rate, weight_decay=config.weight_decay)
        self.model, self.optimizer, self.batches = self.accelerator.prepare(model, optimizer, self.loader)
        steps = config.epochs * math.ceil(len(self.batches) / config.accumulate)
        highest = [group["lr"] for group in groups]
        self.schedule = OneCycleLR(optimizer, highest, total_steps=steps, pct_start=WARM_UP)
        if (folder / "last.safetensors").exists():
            if not (folder / "best.safetensors").exists():
                raise CheckpointError(f"{folder}: best.safetensors is gone; delete the folder and train anew")
            self._resume(folder / "last.safetensors")

    def do_epoch(self) -> dict:
        """One pass over the training split and one over the validation split; then everything is on disk."""
        epoch = len(self.run.epochs)
        torch.manual_seed(self.config.seed * 1_000_003 + epoch)
        self.generator.manual_seed((self.config.seed * 1_000_003 + epoch) * 1_009 + self.accelerator.process_index)
        set_epoch(self.loader, epoch)
        row = {"epoch": epoch + 1, **self._train()}
        self._settle_batch_norm()
        row |= self._validate()
        self.run.epochs.append(row)
        if self.accelerator.is_main_process:
            self._save(better=self.run.best == epoch)
        self.accelerator.wait_for_everyone()
        return row

    def _train(self) -> dict:
        self.model.train()
        last = len(self.batches) - 1
        results = [
            self._learn(*batch, step=(i + 1) % self.config.accumulate == 0 or i == last)
            for i, batch in enumerate(self.batches)
        ]
        logits, labels = (torch.cat(parts) for parts in zip(*results, strict=True))
        loss = cross_entropy(logits, labels).item()
        if not math.isfinite(loss):
            raise ValueError(f"the training loss became {loss}; start again with a lower learning rate")
        return {"train_loss": loss, "train_accuracy": (logits.argmax(dim=1) == labels).float().mean().item()}

    def _learn(self, waveforms, labels, step: bool):
        """Augment, forward, backward, with `step` clip and update; logits [B, 2] and labels [B] of all processes."""
        waveforms = self.augment(waveforms, self.generator)
        with torch.autocast(waveforms.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            logits = self.model(waveforms).float()
        self.accelerator.backward(cross_entropy(logits, labels) / self.config.accumulate)
        if step:
            self.accelerator.clip_grad_norm_(self.model.parameters(), self.config.gradient_norm)
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.schedule.step()
        return self.accelerator.gather((logits.detach(), labels))

    def _settle_batch_norm(self) -> None:
        """Average batch norm's statistics anew with the weights as they are now (Wu & Johnson 2021, "precise BN").

        Its running averages lag behind the weights while the learning rate is high: validation would jump for no
        reason that lies in the network.
        """
        batches, device = islice(self.loader, NORM_BATCHES), self.accelerator.device
        clips = (self.augment(waveforms.to(device), self.generator) for waveforms, _ in batches)
        update_bn(clips, self.accelerator.unwrap_model(self.model))

    def _validate(self) -> dict:
        """Score every validation clip as `Detector.predict` does; the threshold follows."""
        model = self.accelerator.unwrap_model(self.model)
        broadcast(list(model.buffers()))  # batch norm's running means, which differ between processes
        scored = score_clips(Detector(model, {}), self.validation)
        labels, scores = scored.label.to_numpy(), scored.score.to_numpy()
        rate, self.threshold = metrics.eer(labels, scores)
        return {"loss": metrics.log_loss(labels, scores), "accuracy": metrics.accuracy(labels, scores), "eer": rate}

    def _save(self, better: bool) -> None:
        """First the best checkpoint, then the state to resume from, then the table: any kill between is mended."""
        folder, model = self.run.folder, self.accelerator.unwrap_model(self.model)
        info = {"data": self.data, "precision": self.precision, "threshold": self.threshold, **self.run.epochs[-1]}
        if better:
            save_checkpoint(folder / "best.safetensors", model, info)
        tensors, groups = flatten_state(self.optimizer.state_dict())
        info |= {"epochs": self.run.epochs, "groups": groups, "schedule": self.schedule.state_dict()}
        info["processes"] = self.accelerator.num_processes
        save_checkpoint(folder / "last.safetensors", model, info, tensors)
        self._write_history()

    def _keep_precision(self, begun: str) -> None:
        if begun != self.precision:
            warnings.warn(
                f"{self.run.folder} was begun in {begun} and goes on in it, though this processor would take "
                f"{self.precision}: epochs may take longer, and differ in the last digits from those of one machine",
                stacklevel=5,
            )
        self.precision = begun

    def _write_history(self) -> None:
        write_atomically(self.run.folder / "history.csv", self.run.history.to_csv(index=False).encode())

    def _resume(self, path: Path) -> None:
        header, tensors = read_tensors(path)
        info = json.loads(header["info"])
        theirs = json.loads(header["config"]) | {name: info.get(name) for name in ("data", "processes")}
        mine = json.loads(self.config.to_json()) | {"data": self.data, "processes": self.accelerator.num_processes}
        if other := [name for name in mine if mine[name] != theirs.get(name)]:
            raise ValueError(
                f"{path.parent}: holds a run with another {', '.join(other)}; give the same, or choose another folder"
            )
        self._keep_precision(info.get("precision", self.precision))
        try:
            restore(self.accelerator.unwrap_model(self.model), tensors)
            self.optimizer.load_state_dict(unflatten_state(tensors, info["groups"]))
            self.schedule.load_state_dict(info["schedule"])
            self.run.epochs = info["epochs"]
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(
                f"{path}: cannot be continued ({reason}); delete {path.parent}, train anew"
            ) from error
        if self.accelerator.is_main_process:
            self._write_history()


def _has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster here: on a GPU that has it, and on a processor with AMX; AVX-512 alone is no help."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return device.type == "cpu" and bool(able.get("amx_bf16"))
