"""The training loop: accelerate for the device and the processes, a state on disk after every epoch, exact resume.

Order, crops, augmentation and dropout follow from (seed, epoch) alone, so a run that was killed continues as if nothing
had happened: on a CPU to the last bit, on a GPU up to the order in which its kernels add.
"""

import json
import math
import warnings
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from itertools import islice, product
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch.nn.functional import cross_entropy
from torch.optim.lr_scheduler import OneCycleLR
from torch.optim.swa_utils import update_bn

from dfa_utils import metrics
from dfa_utils.augment import Augmentation
from dfa_utils.calibrate import calibrated
from dfa_utils.checkpoint import TRAINING_STATE, CheckpointError, read_tensors, restore, runs_folder, save_checkpoint
from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, fingerprint, make_loader, set_epoch
from dfa_utils.display import run_html
from dfa_utils.evaluation import score_clips
from dfa_utils.inference import Detector
from dfa_utils.layouts import CLASSES
from dfa_utils.models import SpectrogramDetector, build_model
from dfa_utils.support import progress_bar, write_atomically

MAX_GRAD_NORM = 1.0  # longer gradients are clipped to this length
WARM_UP = 0.3  # share of the steps in which the learning rate rises
NORM_BATCHES = 10  # training batches that batch norm's statistics are computed from after each epoch


@dataclass(repr=False)
class Run:
    """A training run: its folder (best.safetensors, last.safetensors, history.csv) and one dict per epoch."""

    folder: Path
    epochs: list[dict] = field(default_factory=list)

    @property
    def history(self) -> pd.DataFrame:
        """One row per epoch: train_loss and train_accuracy (while training), loss, accuracy, eer (validation)."""
        return pd.DataFrame(self.epochs)

    @property
    def best(self) -> int:
        """Index of the epoch with the lowest validation loss; on few clips the EER would move in coarse steps."""
        return min(range(len(self.epochs)), key=lambda i: self.epochs[i]["loss"])

    def is_finished(self, config: Config) -> bool:
        """Whether all epochs are done, or the last `patience` of them brought no improvement.

        Patience begins when the learning rate is past its peak: on the way there the loss may well rise for a while.
        """
        done, risen = len(self.epochs), int(WARM_UP * config.epochs)
        return done >= config.epochs or (done > 0 and done - 1 - max(self.best, risen) >= config.patience)

    def __repr__(self) -> str:
        return f"Run({self.folder.name}, {len(self.epochs)} epochs)"

    def _repr_html_(self) -> str:
        return run_html(self.folder, self.epochs, self.best if self.epochs else 0)


def fit(config: Config, manifest: pd.DataFrame, folder=None) -> Run:
    """Train a detector on the training split, watch and calibrate it on the validation split, and return the run.

    A run that was stopped continues where it was; a finished one is returned as it is. `folder` defaults to one named
    after model, data and settings below `runs_folder()`. Training batches are augmented as `config.augment` says. The
    checkpoint gets a calibration and an uncertain band if validation has at least 9 clips of each class (see
    `calibrate`). Raises ValueError for a split without one of the classes, if the folder holds a run with other
    settings, other data or another number of processes, and if the loss becomes NaN or infinite.
    """
    _refuse_missing_classes(manifest)
    accelerator, data = Accelerator(), fingerprint(manifest)
    run = Run(Path(folder or runs_folder() / f"{config.model.replace(':', '-')}-{data}-{config.digest}"))
    augment, generator = Augmentation(config.augment, config.sample_rate), torch.Generator(accelerator.device)
    with torch.random.fork_rng():
        detector = build_model(config=config)
        optimizer = torch.optim.AdamW(detector.parameters(), config.learning_rate, weight_decay=config.weight_decay)
        loader = make_loader(ClipDataset(manifest[manifest.split == "training"], config, train=True))
        batches = accelerator.prepare(loader)  # the share of this process
        schedule = OneCycleLR(optimizer, config.learning_rate, config.epochs * len(batches), pct_start=WARM_UP)
        info = {"data": data, "processes": accelerator.num_processes, "precision": _fast_precision(accelerator.device)}
        state = _State(run, accelerator, detector, *accelerator.prepare(detector, optimizer), schedule, info)
        state.resume()
        with progress_bar(total=config.epochs, initial=len(run.epochs), desc="training") as bar:
            while not run.is_finished(config):
                epoch = len(run.epochs)
                seed = config.seed * 1_000_003 + epoch
                torch.manual_seed(seed)
                generator.manual_seed(seed * 1_009 + accelerator.process_index)
                set_epoch(loader, epoch)
                trained = train_one_epoch(state, _augmented(batches, augment, generator))
                settle_batch_norm(state, _augmented(islice(loader, NORM_BATCHES), augment, generator))
                validated, calibration = validate(state, manifest[manifest.split == "validation"])
                state.save({"epoch": epoch + 1, **trained, **validated}, calibration)
                bar.set_postfix(loss=validated["loss"], eer=validated["eer"])
                bar.update()
            bar.total = bar.n  # an early stop is no failure
    return run


def train_one_epoch(state: "_State", batches: Iterable) -> dict:
    """One pass over batches of (waveforms [B, T], labels [B]); their mean loss and accuracy, in training mode."""
    accelerator, results = state.accelerator, []
    state.model.train()
    for waveforms, labels in batches:
        with torch.autocast(waveforms.device.type, torch.bfloat16, enabled=state.info["precision"] == "bf16"):
            logits = state.model(waveforms).float()  # [B, 2]
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


def settle_batch_norm(state: "_State", batches: Iterable) -> None:
    """Recompute batch norm's statistics with the weights as they are now (Wu and Johnson 2021, "precise BN").

    Its running averages lag behind the weights while the learning rate is high, so validation would fluctuate.
    """
    update_bn(batches, state.detector)
    broadcast(list(state.detector.buffers()))  # each process augments in its own way


def validate(state: "_State", clips: pd.DataFrame) -> tuple[dict, dict]:
    """Score every clip as `Detector.predict` does: loss, accuracy at 0.5 and EER; and how to read these scores.

    The latter goes into the checkpoint's info: the threshold of the EER, and where the clips allow it, a calibration
    and an uncertain band.
    """
    detector = Detector(state.detector, {})
    labels, scores = score_clips(detector, clips)[["label", "score"]].to_numpy().T
    rate, threshold = metrics.eer(labels, scores)
    results = {"loss": metrics.log_loss(labels, scores), "accuracy": metrics.accuracy(labels, scores), "eer": rate}
    with suppress(ValueError):  # too few clips, or fakes that do not score higher than real clips
        return results, calibrated(detector, labels, scores)
    return results, {"threshold": threshold}


@dataclass
class _State:
    """What training changes, and how each epoch is saved and resumed."""

    run: Run
    accelerator: Accelerator
    detector: SpectrogramDetector
    model: torch.nn.Module  # the detector, as accelerate wraps it
    optimizer: torch.optim.Optimizer
    schedule: OneCycleLR
    info: dict  # fingerprint of the data, number of processes, precision ("bf16" or "fp32"): the same in all epochs

    def save(self, row: dict, calibration: dict) -> None:
        """Write the best checkpoint, then the table, then the state to resume from.

        The next call of `fit` recovers from a kill between any two.
        """
        run = self.run
        run.epochs.append(row)
        if self.accelerator.is_main_process:
            info, optimizer = self.info | calibration | row, self.optimizer.state_dict()
            if run.best == len(run.epochs) - 1:
                save_checkpoint(run.folder / "best.safetensors", self.detector, info)
            write_atomically(run.folder / "history.csv", run.history.to_csv(index=False).encode())
            info |= {"epochs": run.epochs, "groups": optimizer["param_groups"], "schedule": self.schedule.state_dict()}
            moments = optimizer["state"].items()
            tensors = {f"{TRAINING_STATE}{i}.{name}": x for i, each in moments for name, x in each.items()}
            save_checkpoint(run.folder / "last.safetensors", self.detector, info, tensors)
        self.accelerator.wait_for_everyone()

    def resume(self) -> None:
        """Continue after the last epoch that was saved, if there is one.

        Raises ValueError for a run with other settings, and CheckpointError for a damaged one.
        """
        folder, path = self.run.folder, self.run.folder / "last.safetensors"
        if not path.exists():
            return
        if not (folder / "best.safetensors").exists():
            raise CheckpointError(f"{folder}: best.safetensors is gone; delete the folder and train again")
        header, tensors = read_tensors(path)
        info = json.loads(header["info"])
        mine, theirs = asdict(self.detector.config) | self.info, info | asdict(Config.from_json(header["config"]))
        if other := [name for name in mine if mine[name] != theirs.get(name) and name != "precision"]:
            cure = "give the same, or choose another folder"
            raise ValueError(f"{folder}: holds a run with another {', '.join(other)}; {cure}")
        if theirs["precision"] != mine["precision"]:
            begun = self.info["precision"] = theirs["precision"]
            faster = f"though {mine['precision']} would be faster here; the last digits may change with the machine"
            warnings.warn(f"{folder} was begun in {begun} and continues in it, {faster}", stacklevel=3)
        try:
            restore(self.detector, tensors)
            moments = defaultdict(dict)
            for name in filter(lambda name: name.startswith(TRAINING_STATE), tensors):
                _, i, key = name.split(".")
                moments[int(i)][key] = tensors[name]
            self.optimizer.load_state_dict({"state": moments, "param_groups": info["groups"]})
            self.schedule.load_state_dict(info["schedule"])
            self.run.epochs += info["epochs"]
        except (RuntimeError, KeyError, ValueError) as error:
            reason = " ".join(str(error).split())
            raise CheckpointError(f"{path}: cannot be continued ({reason}); delete {folder} and train again") from error


def _augmented(batches: Iterable, augment: Augmentation, generator: torch.Generator) -> Iterator[tuple]:
    """The batches of (waveforms, labels) on the generator's device, the waveforms augmented."""
    for waveforms, labels in batches:
        yield augment(waveforms.to(generator.device), generator), labels.to(generator.device)


def _refuse_missing_classes(manifest: pd.DataFrame) -> None:
    for split, label in product(("training", "validation"), (0, 1)):
        if not ((manifest.split == split) & (manifest.label == label)).any():
            raise ValueError(f"no {CLASSES[label]} clip for {split}; both splits need clips of both classes")


def _fast_precision(device: torch.device) -> str:
    """ "bf16" on a GPU that has it and on a processor with AMX (AVX-512 alone does not help), else "fp32"."""
    able = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    on_cpu, on_gpu = device.type == "cpu" and able.get("amx_bf16"), device.type == "cuda"
    return "bf16" if on_cpu or (on_gpu and torch.cuda.is_bf16_supported(including_emulation=False)) else "fp32"
