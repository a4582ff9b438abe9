"""Widgets of the notebooks. Each shows something that stays without them: on paper, in HTML, and where they are off.

DFA_WIDGETS=off leaves the widgets out, for notebooks that nobody watches while they run.


MERGED: Sound in a notebook: a player, and a human sentence from the network.

MERGED: The data set that a notebook works on: the toy data, for-rerecorded from Google Drive, or another folder.

MERGED: The detectors that the notebooks work with, and how they are introduced: the same sentence in every notebook."""

import inspect
import os
import shutil
import sys
import tempfile
import threading
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_uppercase

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import soundfile
import torch
from IPython.display import Audio, Markdown, clear_output, display

from dfa_utils import toy
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import newest_run
from dfa_utils.config import Config
from dfa_utils.dataset import fingerprint
from dfa_utils.inference import Detector
from dfa_utils.layouts import DataError
from dfa_utils.plots import NAMES
from dfa_utils.support import progress_bar
from dfa_utils.train import fit

WAIT = 5.0  # s; how long a notebook waits for the network


def player(waveform, sample_rate: int) -> Audio:
    """A player for samples [T]; the level is left as it is."""
    return Audio(waveform.numpy().clip(-1, 1), rate=sample_rate, normalize=False)


def human_sentence(name: str = "libri1", wait: float = WAIT) -> Path | None:
    """A recording of a person reading aloud (LibriSpeech, CC BY 4.0), as librosa offers it; kept once it is there.

    None where it has not come within `wait` seconds: without a network, or over a slow one.
    """
    import librosa
    import pooch

    pooch.get_logger().setLevel("WARNING")  # else it announces the download as an error would be
    found: list[Path] = []

    def _fetch():
        try:
            found.append(Path(librosa.example(name)))
        except OSError:  # no network: all errors of requests are OSErrors
            return

    thread = threading.Thread(target=_fetch, daemon=True)
    thread.start()
    thread.join(wait)
    return found[0] if found else None


DRIVE = Path("/content/drive")
LOCAL = Path("/content/data")


def data_root(data: str | Path = "toy") -> Path:
    """The folder of the data set that `data` means; $DFA_DATA, where it is set, wins.

    "toy": 600 clips of simulated voices, made at the first call and kept in the cache folder. "drive", in Colab:
    for-rerecorded from Google Drive; trained detectors then go to the Drive too, unless $DFA_RUNS says where. Anything
    else is a path. Raises DataError for a path that does not exist, a Drive without the data set, and "drive" outside
    Colab.
    """
    if named := os.environ.get("DFA_DATA"):
        return _existing(named, "DFA_DATA")
    if data == "toy":
        return toy.cached_root()
    return _from_drive() if data == "drive" else _existing(data, "DATA")


def is_toy(manifest: pd.DataFrame) -> bool:
    """Whether these clips are the simulated voices of the package."""
    return bool((manifest.system == toy.REAL_SYSTEM).any())


def class_names(manifest: pd.DataFrame) -> tuple[str, str]:
    """The words for the two classes: on the toy data they say that no human speaks."""
    return ("real (simulated voice)", "fake (vocoded)") if is_toy(manifest) else NAMES


def banner(manifest: pd.DataFrame) -> Markdown:
    """What the reader must know about these data before the first number."""
    if is_toy(manifest):
        return Markdown(
            f"> **Toy data.** {len(manifest)} two-second clips of *simulated* voices, made by a program. They are good "
            "for learning how everything works. Their numbers say nothing about real deepfakes. To work on real "
            "speech, set `DATA` in the first cell."
        )
    return Markdown(
        f"> **{len(manifest):,} clips** from your data set. Sentences with numbers are made from *these* clips; the "
        "other text was written with the toy data and Fake-or-Real in mind."
    )


def _existing(named: str | Path, setting: str) -> Path:
    root = Path(named).expanduser()
    if not root.exists():
        raise DataError(f"{setting} means {root.resolve()}, which does not exist; set it to an absolute path")
    return root


def _from_drive() -> Path:
    """Mount Google Drive and copy for-rerecorded, a folder or a zip, to the local disk, which is far faster to read."""
    if "google.colab" not in sys.modules:
        raise DataError('DATA = "drive" works in Colab only; here, give the path of the data set')
    from google.colab import drive

    drive.mount(str(DRIVE))
    os.environ.setdefault("DFA_RUNS", str(DRIVE / "MyDrive" / "deepfake-audio" / "runs"))
    target = LOCAL / "for-rerecorded"
    if target.exists():
        return target
    drives = DRIVE / "MyDrive"
    found = sorted(p for depth in ("*", "*/*") for p in drives.glob(depth) if _is_data_set(p))
    if not found:
        raise DataError(
            f"no folder or zip whose name begins with for-rerec in {drives}, nor one level below; put it there"
        )
    partial = target.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    _copy(found[0], partial)
    return partial.rename(target)


def _is_data_set(path: Path) -> bool:
    return path.name.lower().startswith("for-rerec") and (path.is_dir() or path.suffix.lower() == ".zip")


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        for file in progress_bar([p for p in source.rglob("*") if p.is_file()], f"copying {source.name}"):
            (target / file.relative_to(source)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target / file.relative_to(source))
    else:
        with zipfile.ZipFile(source) as archive:
            _refuse_too_large(archive, source, target)
            for member in progress_bar(archive.infolist(), f"unpacking {source.name}"):
                archive.extract(member, target)


def _refuse_too_large(archive: zipfile.ZipFile, source: Path, target: Path) -> None:
    """DataError where the files would fill the disk, as those of a hostile or damaged archive."""
    size, free = sum(member.file_size for member in archive.infolist()), shutil.disk_usage(target.parents[1]).free
    if size > 0.9 * free:
        raise DataError(f"{source}: would unpack to {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left")


def run_on(manifest: pd.DataFrame) -> tuple[Path, str]:
    """The newest run trained on exactly these data, else one trained now; and a sentence that says which."""
    run = newest_run(fingerprint(manifest))
    if run:
        return run, f"The newest detector trained on this data set: `{run.name}`."
    config = Config().scaled_to(int((manifest.split == "training").sum()))
    run = fit(config, manifest).folder
    return run, f"No detector had been trained on this data set, so one was trained just now: `{run.name}`."


def introduce(detector: Detector, which: str) -> Markdown:
    """Which detector this is, and what was known of it when its training ended."""
    rate = detector.info.get("eer")
    known = "" if rate is None else f"EER on validation was {rate:.1%}, its "
    return Markdown(
        f"{which} Fingerprint `{detector.fingerprint}`. Its {known}threshold, fixed on validation, is "
        f"{detector.threshold:.3f}."
    )


SCRIPT = Path(__file__).with_name("ask.js")


def explore(draw: Callable, **options: Sequence) -> None:
    """Call `draw` with its own defaults, then offer a slider for each of `options`: a move calls `draw` anew.

    `options` gives the values that a parameter of `draw` may take. What `draw` returns is displayed; figures are shown.
    """
    defaults = {name: p.default for name, p in inspect.signature(draw).parameters.items()}
    _show(draw, **defaults)
    if not _are_on():
        return
    import ipywidgets

    output = ipywidgets.Output()
    look = {
        "layout": {"width": "auto", "max_width": "28em"},  # at most the page's width
        "style": {"description_width": f"{1 + max(map(len, options))}ch"},
    }
    sliders = {
        name: ipywidgets.SelectionSlider(
            options=list(values), value=defaults[name], description=name, continuous_update=False, **look
        )
        for name, values in options.items()
    }

    def _redraw(_):
        with output:
            clear_output(wait=True)
            _show(draw, **defaults | {name: slider.value for name, slider in sliders.items()})

    for slider in sliders.values():
        slider.observe(_redraw, "value")
    display(ipywidgets.VBox([*sliders.values(), output]))


def listening_test(waveforms: Sequence, labels: Sequence[int], verdicts: Sequence[str], sample_rate: int) -> None:
    """A blind test: the reader calls each waveform [T] real or fake, and is then held against `verdicts`.

    `labels` are 0 (real) or 1 (fake); `verdicts` are the detector's words for the same clips. The verdicts are not
    shown before the reader asks.
    """
    if not _are_on():
        return
    import ipywidgets

    output, button = ipywidgets.Output(), ipywidgets.Button(description="Compare")
    rows, choices = [], []
    for letter, waveform in zip(ascii_uppercase, waveforms, strict=False):
        sound = player(torch.as_tensor(waveform), sample_rate).data
        heard = ipywidgets.Audio(value=sound, format="wav", autoplay=False, loop=False, layout={"width": "17em"})
        choices.append(ipywidgets.ToggleButtons(options=["?", *NAMES], style={"button_width": "4em"}))
        parts = [ipywidgets.Label(letter), heard, choices[-1]]
        rows.append(ipywidgets.HBox(parts, layout={"flex_flow": "row wrap", "align_items": "center"}))

    def _compare(_):
        with output:
            clear_output(wait=True)
            display(Markdown(result_of_test([choice.value for choice in choices], labels, verdicts)))

    button.on_click(_compare)
    display(ipywidgets.VBox([*rows, button, output]))


def result_of_test(answers: Sequence[str], labels: Sequence[int], verdicts: Sequence[str]) -> str:
    """What a blind test showed, as Markdown: how many the reader and the detector called rightly, and each clip."""
    truth = [NAMES[label] for label in labels]
    lines = [
        f"| {letter} | {' | '.join(row)} |"
        for letter, row in zip(ascii_uppercase, zip(truth, answers, verdicts, strict=True), strict=False)
    ]
    right = [sum(a == b for a, b in zip(words, truth, strict=True)) for words in (answers, verdicts)]
    head = f"You: **{right[0]} of {len(truth)}** right. The detector: **{right[1]} of {len(truth)}**."
    return "\n".join([head, "", "| clip | truth | you | detector |", "|---|---|---|---|", *lines])


def ask(predict: Callable) -> None:
    """Let the reader choose a file or record five seconds, in Jupyter and in Colab; `predict(path)` is shown.

    The recording stays on the machine on which this notebook's Python runs. Large files (above 8 MB) are refused: give
    their path to `predict` instead.
    """
    if not _are_on():
        return
    import anywidget
    import ipywidgets

    output, folder = ipywidgets.Output(), Path(tempfile.mkdtemp())

    def _receive(_, content, buffers):
        with output:
            clear_output(wait=True)
            display(_judge(predict, _keep(folder, content, buffers[0])))
        asker.send({"kind": "judged"})

    asker = anywidget.AnyWidget(_esm=SCRIPT.read_text(encoding="utf-8"))
    asker.on_msg(_receive)
    display(ipywidgets.VBox([asker, output]))


def _keep(folder: Path, content: dict, data: bytes) -> Path:
    """What came from the browser as a file: a chosen file as it is, or float samples at `rate` Hz as a wav."""
    path = folder / Path(content["name"]).name
    if "rate" in content:
        soundfile.write(path, np.frombuffer(data, "<f4"), int(content["rate"]))
    else:
        path.write_bytes(data)
    return path


def _judge(predict: Callable, path: Path):
    """What a notebook shows of the answer: as it shows itself, or as text; or why there is none."""
    try:
        answer = predict(path)
    except AudioError as error:
        return Markdown(f"This file cannot be judged. {error}".replace(str(path), path.name))
    return answer if hasattr(answer, "_repr_html_") else Markdown(f"**{answer}**".replace(str(path), path.name))


def _are_on() -> bool:
    return os.environ.get("DFA_WIDGETS", "").lower() != "off"


def _show(draw: Callable, **values) -> None:
    result = draw(**values)
    plt.show()
    if result is not None:
        display(result)
