"""A detector in one safetensors file: its tensors, and its config and figures as JSON in the header. No pickle."""

import hashlib
import json
import logging
import os
from dataclasses import fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from dfa_utils.backends.borrowed import frozen_tensors, hash_of
from dfa_utils.backends.ensemble import Ensemble
from dfa_utils.config import Config
from dfa_utils.models import build_model
from dfa_utils.support.figures import CheckpointError, check_figures
from dfa_utils.support.files import write_atomically

log = logging.getLogger(__name__)
SHIPPED = Path(__file__).parent / "weights" / "detector.safetensors"
FORMAT = "1"  # of the header; counts up when an older version cannot read it any more
TRAINING_STATE = "optimizer."  # tensors under this prefix belong to the training loop, not to the detector
COMPUTED = "front_ends."  # tensors under this name follow from the config: they are not stored


def runs_folder() -> Path:
    """Where training runs lie: $DFA_RUNS; else `runs` in the checkout around the current folder, or in the latter."""
    here = Path.cwd()
    home = next((p for p in [here, *here.parents] if (p / "dfa_utils" / "__init__.py").is_file()), here)
    return Path(os.environ.get("DFA_RUNS") or home / "runs")


def save_checkpoint(path, model: nn.Module, info: dict, tensors: dict | None = None, compact: bool = False) -> None:
    """Write model, config (of an ensemble all), `info` (what JSON can hold) and further `tensors` atomically.

    With `compact`, a tensor of the model that half precision holds exactly (see `round_to_half`) is stored in it.
    """
    learnt = {name: value.detach().cpu().contiguous() for name, value in learnt_tensors(model).items()}
    if compact:
        learnt = {name: value.half() if _fits_half(value) else value for name, value in learnt.items()}
    state = learnt | (tensors or {})
    header = {"format": FORMAT, "config": model.config.to_json(), "info": json.dumps(info)}
    if frozen := frozen_tensors(model):
        header["borrowed"] = hash_of(frozen)
    if isinstance(model, Ensemble):
        header["members"] = json.dumps([config.to_json() for config in configs_of(model)])
    write_atomically(path, save(state, metadata=header))


def round_to_half(model: nn.Module) -> None:
    """Round what was learnt to half precision, in place; the model goes on computing in its own."""
    for value in learnt_tensors(model).values():
        if value.is_floating_point():
            value.copy_(value.half())


def load_checkpoint(path, device="cpu") -> tuple[nn.Module, dict]:
    """Read a detector, in evaluation mode on `device`, and its `info`.

    `path` is a file, a run's folder (its best.safetensors) or a folder of runs (the newest). Raises CheckpointError.
    """
    file = find_checkpoint(path)
    header, tensors = read_tensors(file)
    try:
        model, info = _build(header), json.loads(header["info"])
        check_figures(info)
        restore(model, tensors)
        _check_borrowed(model, header)
    except ImportError as error:
        raise ImportError(f"{file}: {error}") from error
    except (RuntimeError, ValueError, TypeError, LookupError, AttributeError, OverflowError) as error:
        raise CheckpointError(
            f"{file}: config and weights do not fit this version; train it again ({error})"
        ) from error
    return model.to(device).eval(), info


def restore(model: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    """Put a checkpoint's tensors into a model made from its config; RuntimeError where they do not fit."""
    learnt = {name: value for name, value in tensors.items() if not name.startswith(TRAINING_STATE)}
    kept = learnt_tensors(model)
    fixed = {name: value for name, value in model.state_dict().items() if name not in kept}
    model.load_state_dict(fixed | learnt)


def learnt_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors of a detector that neither follow from its config nor are borrowed and frozen, by name."""
    frozen = frozen_tensors(model)
    return {name: value for name, value in model.state_dict().items() if COMPUTED not in name and name not in frozen}


def configs_of(model: nn.Module) -> list[Config]:
    """The config of a detector; of an ensemble that of each member."""
    return [part.config for part in getattr(model, "members", [model])]


def fingerprint_of(model: nn.Module, figures: tuple) -> str:
    """12 hex digits that change with everything that a detector's score or verdict follows from, and nothing else.

    Hashed are the learnt tensors, the settings of every member that differ from their defaults, and the `figures`:
    calibration, threshold and bounds of `uncertain`; not what is computed from settings, which differs in the last bit
    between processors, and not the check that there is speech.
    """
    digest = hashlib.sha256(repr(figures).encode())
    for config in configs_of(model):
        changed = {f.name: getattr(config, f.name) for f in fields(config) if getattr(config, f.name) != f.default}
        digest.update(repr(sorted(changed.items())).encode())
    for name, value in sorted((learnt_tensors(model) | frozen_tensors(model)).items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def _fits_half(value: torch.Tensor) -> bool:
    return value.is_floating_point() and torch.equal(value.half().to(value), value)


def _build(header: dict[str, str]) -> nn.Module:
    """The detector that a header describes, with fresh weights."""
    if "members" in header:
        return Ensemble([build_model(config=Config.from_json(text)) for text in json.loads(header["members"])])
    config = Config.from_json(header["config"])
    return build_model(config=config, borrow=config.frozen_layers > 0)


def _check_borrowed(model: nn.Module, header: dict[str, str]) -> None:
    """ValueError where the frozen weights, which lie elsewhere, are not those that the detector was trained on."""
    frozen = frozen_tensors(model)
    if frozen and hash_of(frozen) != header.get("borrowed"):
        raise ValueError(f"the weights in {model.config.borrowed} are not those it was trained on; fetch them anew")


def read_tensors(file: Path) -> tuple[dict[str, str], dict[str, torch.Tensor]]:
    """Header and tensors of a checkpoint file; CheckpointError if it is damaged or not one of ours."""
    try:
        with safe_open(file, framework="pt") as content:
            header = content.metadata() or {}
            names = content.keys()
            tensors = {name: content.get_tensor(name).clone() for name in names}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{file}: damaged or not a safetensors file ({error}); copy it again or retrain"
        ) from error
    if not all(_is_object(header.get(name, "")) for name in ("config", "info")):
        raise CheckpointError(
            f"{file}: no settings in its header, so damaged or not written by dfa_utils; choose another file"
        )
    if header.get("format", FORMAT) != FORMAT:
        raise CheckpointError(f"{file}: written by a newer version of dfa_utils; update the package")
    return header, tensors


def _is_object(text: str) -> bool:
    """Whether it is JSON of names and values."""
    try:
        return isinstance(json.loads(text), dict)
    except ValueError:
        return False


def find_checkpoint(path) -> Path:
    """The checkpoint file that `path` stands for; CheckpointError, with the way to train one, if there is none."""
    path = Path(path)
    if path.is_file():
        return path
    found = [*path.glob("best.safetensors"), *path.glob("*/best.safetensors")]
    if not found:
        raise CheckpointError(
            f"{path}: no checkpoint there. Train one: python -m dfa_utils train --data ROOT, or run "
            "notebooks/03_train_cnn.ipynb; then give its folder. Without a checkpoint, the released detector answers"
        )
    return max(found, key=lambda file: file.stat().st_mtime_ns)


def newest_run(data: str, folder=None) -> Path | None:
    """The newest run, finished or not, that was trained on the data with this fingerprint, or None."""
    found = [path for path in Path(folder or runs_folder()).glob("*/best.safetensors") if _data_of(path) == data]
    return max(found, key=lambda p: p.stat().st_mtime_ns).parent if found else None


def _data_of(path: Path) -> str | None:
    try:
        return json.loads(read_tensors(path)[0]["info"]).get("data")
    except CheckpointError as error:
        log.warning("passed over: %s", error)
        return None


def flatten_state(state: dict) -> tuple[dict[str, torch.Tensor], list]:
    """An optimizer's state as named tensors and its settings as what JSON can hold."""
    tensors = {
        f"{TRAINING_STATE}{i}.{k}": v.cpu().contiguous().clone()
        for i, s in state["state"].items()
        for k, v in s.items()
    }
    return tensors, state["param_groups"]


def unflatten_state(tensors: dict[str, torch.Tensor], groups: list) -> dict:
    """The inverse of `flatten_state`, from all tensors of a checkpoint."""
    state: dict[int, dict] = {}
    for name, value in tensors.items():
        if name.startswith(TRAINING_STATE):
            index, key = name.removeprefix(TRAINING_STATE).split(".")
            state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": groups}
