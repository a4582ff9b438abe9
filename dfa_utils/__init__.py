"""Helper package of the deepfake-audio notebooks: `.wav -> mel spectrogram (dB) -> CNN -> real (0) / fake (1)`.

`score` always means P(fake), in [0, 1]: higher = more likely fake. Label 1 = fake.
"""

import importlib
import sys

# name: the module that it is imported from when it is first used, in the order of the pipeline
_PUBLIC = {"Config": "config", "AudioError": "audio", "load_audio": "audio", "scan": "dataset", "audit": "auditing"}
_PUBLIC |= {"ClipDataset": "dataset", "LogMel": "features", "CNN": "models", "build_model": "models", "fit": "train"}
_PUBLIC |= {"Detector": "inference", "Prediction": "inference", "evaluate": "evaluation"}
__all__ = list(_PUBLIC)


def __getattr__(name):
    """A public name; before it, or a module taken from the package, is imported, torchaudio must be usable."""
    if not name.startswith("_"):
        _check_torchaudio()
    if name not in _PUBLIC:
        raise AttributeError(f"module 'dfa_utils' has no attribute {name!r}")
    return getattr(importlib.import_module(f"dfa_utils.{_PUBLIC[name]}"), name)


def __dir__():
    return sorted({*globals(), *_PUBLIC})


def _check_torchaudio() -> None:
    """Raise ImportError, with the cure, if torchaudio is missing or does not fit the installed torch."""
    try:
        import torchaudio  # noqa: F401 -- here, because it takes a second and `dfa --help` does not need it
    except ModuleNotFoundError as error:
        cure = "activate the project's environment first: source .venv/bin/activate (`make run` creates it)"
        raise ImportError(f"{error.name} is not installed for {sys.executable}. In each terminal, {cure}") from error
    except (ImportError, OSError, RuntimeError) as error:
        cure = 'python -m pip install torch==2.11.0 torchaudio==2.11.0 "torchcodec==0.11.*"'
        reason = f"({error}). torchaudio 2.11 is its last release and needs torch 2.11"
        raise ImportError(f"torch and torchaudio do not fit together here {reason}; in a terminal: {cure}") from error
