"""A detector in one safetensors file: its tensors, and its config and figures as JSON in the header. No pickle."""

import hashlib
import json
import logging
import math
import os
from collections.abc import Iterable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import nn

from dfa_utils.config import Config
from dfa_utils.models import build_model
from dfa_utils.support import write_atomically

log = logging.getLogger(__name__)
RELEASED = Path(__file__).parent / "weights" / "detector.safetensors"
FORMAT = 2  # of the header; counts up when an older version cannot read it any more
TRAINING_STATE = "optimizer."  # tensors under this prefix belong to the training loop, not to the detector
COMPUTED = "front_end."  # tensors under this prefix (`SpectrogramDetector.front_end`) follow from the config


class CheckpointError(ValueError):
    """A detector's file that cannot be used; the message names it and the cure."""


def runs_folder() -> Path:
    """Where training runs go: $DFA_RUNS, or `runs` in the checkout around the current folder, or `runs` in that."""
    here = Path.cwd()
    home = next((p for p in [here, *here.parents] if (p / "dfa_utils" / "__init__.py").is_file()), here)
    return Path(os.environ.get("DFA_RUNS") or home / "runs")


def save_checkpoint(path, model: nn.Module, info: dict, tensors: dict | None = None) -> None:
    """Write model, config, `info` (what JSON can hold) and further `tensors` in one step."""
    header = {"format": str(FORMAT), "config": model.config.to_json(), "info": json.dumps(info)}
    everything = learnt_tensors(model) | (tensors or {})
    content = {name: value.detach().cpu().contiguous() for name, value in everything.items()}
    write_atomically(path, save(content, metadata=header))


def load_checkpoint(path, device="cpu") -> tuple[nn.Module, dict]:
    """Read a detector, in evaluation mode on `device`, and its `info`.

    `path` is a file, a run's folder (its best.safetensors) or a folder of runs (the newest). Raises CheckpointError,
    and ImportError if the model needs a package that is not installed.
    """
    file = find_checkpoint(path)
    header, tensors = read_tensors(file)
    try:
        model = build_model(config=Config.from_json(header["config"]), pretrained=False)
        info = json.loads(header["info"])
        check_info(info)
        restore(model, tensors)
    except ImportError as error:
        raise ImportError(f"{file}: {error}") from error
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise CheckpointError(f"{file}: cannot be used by this version ({error}); train the detector again") from error
    return model.to(device).eval(), info


def check_info(info: dict) -> None:
    """ValueError unless the numbers that a verdict depends on, as far as they are there, make sense."""
    slope, offset, half = (*info.get("calibration", (1.0, 0.0)), 0.0)[:3]
    low, high = info.get("uncertain") or (0.0, 1.0)
    real, fake = info.get("evidence") or (1, 1)
    numbers = slope, offset, half, low, high, real, fake, info.get("threshold", 0.5), info.get("limit", 0.0)
    if not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
        raise ValueError("calibration, threshold, limit, evidence and the bounds of `uncertain` must be finite numbers")
    if low > high or half < 0 or min(real, fake) < 1:
        raise ValueError("`uncertain` must be in order, `evidence` 1 or more, and the half of `calibration` 0 or more")


def restore(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put a checkpoint's tensors into a model made from its config; raises RuntimeError where they do not fit."""
    learnt = {name: value for name, value in tensors.items() if not name.startswith(TRAINING_STATE)}
    computed = {name: value for name, value in model.state_dict().items() if name.startswith(COMPUTED)}
    model.load_state_dict(computed | learnt)


def learnt_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a detector that do not follow from its config, by name."""
    return {name: value for name, value in model.state_dict().items() if not name.startswith(COMPUTED)}


def fingerprint_of(model: nn.Module, figures: tuple) -> str:
    """12 hex digits that change with everything that a detector's score or verdict follows from, and nothing else.

    Hashed are the learnt tensors, the settings that differ from their defaults, and the `figures`: calibration,
    threshold, bounds of `uncertain`, and the clips behind them. What is computed from settings is not, as it differs in
    the last bit between processors; nor is the speech check.
    """
    digest = hashlib.sha256(repr(figures).encode())
    digest.update(repr(sorted(model.config.changed.items())).encode())
    for name, value in sorted(learnt_tensors(model).items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of a checkpoint file; CheckpointError if it is damaged or not one of ours."""
    return read_header(file), load(file.read_bytes())


def read_header(file: Path) -> dict[str, str]:
    """Format, config and info of a checkpoint file, without its tensors; raises as `read_tensors`."""
    try:
        with safe_open(file, framework="pt") as content:
            header = content.metadata() or {}
        if not all(isinstance(json.loads(header[name]), dict) for name in ("config", "info")):
            raise ValueError("no settings in its header")
        version = int(header.get("format", 1))
    except (SafetensorError, OSError, ValueError, KeyError) as error:
        cure = "copy it again or choose another file"
        raise CheckpointError(f"{file}: damaged, or not a checkpoint of dfa_utils ({error}); {cure}") from error
    if version > FORMAT:
        raise CheckpointError(f"{file}: written by a newer version of dfa_utils; update the package")
    return header


def find_checkpoint(path) -> Path:
    """The checkpoint file that `path` stands for; CheckpointError, with the way to train one, if there is none."""
    path = Path(path)
    if path.suffix == ".onnx":
        cure = f"score files with python web/without_torch.py {path} FILES"
        raise CheckpointError(f"{path}: an exported detector; {cure}")
    if path.is_file():
        return path
    found = _newest_first([*path.glob("best.safetensors"), *path.glob("*/best.safetensors")])
    if not found:
        cure = "train one (python -m dfa_utils train --data ROOT, or notebook 03) and give its folder"
        raise CheckpointError(f"{path}: no checkpoint there; {cure}, or give none to use the released detector")
    return found[0]


def newest_run(data: str, model: str = "cnn", folder=None) -> Path | None:
    """The newest run, finished or not, of this kind of model on the data with this fingerprint, or None."""
    for path in _newest_first(Path(folder or runs_folder()).glob("*/best.safetensors")):
        try:
            header = read_header(path)
        except CheckpointError as error:
            log.warning("skipped: %s", error)
            continue
        if json.loads(header["info"]).get("data") == data and json.loads(header["config"]).get("model") == model:
            return path.parent
    return None


def _newest_first(paths: Iterable[Path]) -> list[Path]:
    return sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True)
