"""A detector in one ONNX file, scored by onnxruntime, without torch. `export` writes it."""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dfa_utils.checkpoint import CheckpointError, check_figures

FORMAT = 1  # of the metadata; counts up when an older version cannot read them any more
SETTINGS = ("sample_rate", "clip_samples", "hop_samples")
LONGEST_WINDOW = 2**21  # samples; longer ones would fill memory
OUTPUTS = ["logit", "measures"]  # those of the graph's outputs that are read here


class Windowing(NamedTuple):
    """How recordings are cut for an exported detector; the names are those of `Config`."""

    sample_rate: int  # Hz
    clip_samples: int
    hop_samples: int


class OnnxScorer:
    """The graph in a file *.onnx, and what its metadata say: `config`, a `Windowing`; `info`, threshold and bounds.

    `limit` is the logit from which on a window holds no speech, `fingerprint` that of the exported detector, `threads`
    how many onnxruntime may use (None: one a core). Raises CheckpointError for a file that is missing, damaged, not
    written by dfa_utils or by a newer version of it; ImportError with the cure where onnxruntime is not installed.
    """

    def __init__(self, path, threads: int | None = None):
        try:
            import onnxruntime
        except ImportError as error:
            raise ImportError(
                f"{path}: to score an .onnx file, install onnxruntime: pip install onnxruntime"
            ) from error
        self.path = path = Path(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or 0
        try:
            content = path.read_bytes()
            self.session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except Exception as error:  # onnxruntime's own kinds have no common base but this
            raise CheckpointError(
                f"{path}: damaged, or no ONNX file; export it again ({_first_line(error)})"
            ) from error
        try:
            self._read(self.session.get_modelmeta().custom_metadata_map)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"{path}: not exported by this version of dfa_utils; export it again ({error})"
            ) from error

    def _read(self, metadata: dict[str, str]) -> None:
        """ValueError, KeyError or TypeError where the metadata are not ours, or make no sense."""
        figures = json.loads(metadata["dfa_utils"])
        if figures["format"] > FORMAT:
            raise ValueError("a newer version wrote it")
        windowing = [figures[name] for name in SETTINGS]
        if not all(type(number) is int and 0 < number <= LONGEST_WINDOW for number in windowing):
            raise ValueError(
                f"{', '.join(SETTINGS)} must be whole numbers from 1 to {LONGEST_WINDOW:,}, got {windowing}"
            )
        self.config = Windowing(*windowing)
        check_figures(figures)
        self.info = {name: figures[name] for name in ("threshold", "uncertain") if name in figures}
        self.limit, self.fingerprint = figures["limit"], f"{figures['fingerprint']}-onnx"
        if [node.name for node in self.session.get_outputs()][1:] != OUTPUTS:
            raise ValueError(f"its outputs must be score, {', '.join(OUTPUTS)}")

    def score(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The calibrated logit of P(fake) [B] of each window [B, T], and its measures [B, 3].

        Raises CheckpointError where the graph cannot be computed, as that of a damaged file.
        """
        try:
            logits, measures = self.session.run(OUTPUTS, {"waveform": windows})
        except Exception as error:  # onnxruntime's own kinds have no common base but this
            raise CheckpointError(f"{self.path}: damaged; export it again ({_first_line(error)})") from error
        if (logits.shape, measures.shape) != ((len(windows),), (len(windows), 3)):
            raise CheckpointError(f"{self.path}: damaged: its outputs have other shapes; export it again")
        return logits, measures


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
