"""What the notebooks need around their lessons: the data set, a trained detector, sound players and widgets.

Each widget comes after a static figure or sentence, so that a printed page loses nothing. DFA_WIDGETS=off leaves the
widgets out, for notebooks that run unattended.
"""

import inspect
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from string import ascii_uppercase
from zipfile import ZipFile

import anywidget
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Audio, Markdown, display

from dfa_utils import toy
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import newest_run
from dfa_utils.config import Config
from dfa_utils.dataset import fingerprint
from dfa_utils.inference import Detector
from dfa_utils.layouts import DataError
from dfa_utils.plots import NAMES
from dfa_utils.support import progress_bar, wav_bytes
from dfa_utils.train import fit

DRIVE = Path("/content/drive")  # where Colab mounts Google Drive
LOCAL = Path("/content/data")  # the local disk of a Colab machine
CLONE = "deepfake-audio"  # the folder into which the first cell clones the project in Colab


def data_root(data: str = "toy") -> Path:
    """The folder of the data set that `data` names; the environment variable DFA_DATA takes precedence.

    "toy": 600 clips of simulated voices, made at the first call and kept in the cache folder. "drive", in Colab only:
    for-rerecorded from Google Drive; trained detectors are then saved on the Drive as well, unless DFA_RUNS is set.
    Anything else is a path. Raises DataError for a path that does not exist, for a Drive without the data set, and for
    "drive" outside Colab.
    """
    data = os.environ.get("DFA_DATA") or data
    if data in ("toy", "drive"):
        return toy.cached_root() if data == "toy" else _from_drive()
    root = Path(data).expanduser()
    if not root.exists():
        raise DataError(f"{root.resolve()} does not exist; set DATA or DFA_DATA to the absolute path of the data set")
    return root


def results_folder() -> Path:
    """`research/results` of the checkout: the tables of measurements that notebooks 06 and 07 read.

    Raises DataError where the current folder is not in a checkout of the project.
    """
    here = Path.cwd()
    for home in (here, *here.parents, here / CLONE):
        if (folder := home / "research" / "results").is_dir():
            return folder
    raise DataError(f"{here}: no research/results here or above; open the notebook in a checkout of the project")


def is_toy(manifest: pd.DataFrame) -> bool:
    """Whether these clips are the simulated voices of the package."""
    return bool((manifest.system == toy.REAL_SYSTEM).any())


def class_names(manifest: pd.DataFrame) -> tuple[str, str]:
    """The words for the two classes; on the toy data they say that the voices are simulated."""
    return ("real (simulated voice)", "fake (vocoded)") if is_toy(manifest) else NAMES


def banner(manifest: pd.DataFrame) -> Markdown:
    """What the reader must know about these data before the first number."""
    if not is_toy(manifest):
        note = "Sentences with numbers are computed from *these* clips; the other text was written for the toy data."
        return Markdown(f"> **{len(manifest):,} clips** from your data set. {note}")
    return Markdown(
        f"> **Toy data.** {len(manifest)} two-second clips of *simulated* voices, made by a program. They are good for "
        "learning how everything works. Their numbers say nothing about real deepfakes. To work on real speech, set "
        "`DATA` in the first cell."
    )


def get_detector(manifest: pd.DataFrame) -> tuple[Detector, str]:
    """The newest CNN trained on exactly these data, or one that is trained now; and a sentence that says which."""
    if run := newest_run(fingerprint(manifest), model="cnn"):
        return Detector.load(run), f"The newest detector trained on this data set: `{run.name}`."
    run = fit(Config().scaled_to(int((manifest.split == "training").sum())), manifest).folder
    return Detector.load(run), f"No detector had been trained on this data set, so we trained one now: `{run.name}`."


def describe(detector: Detector, which: str) -> Markdown:
    """The sentence `which`, then the detector's fingerprint, its EER on validation and its threshold."""
    known = f"EER on validation was {detector.info['eer']:.1%}, its " if "eer" in detector.info else ""
    threshold = f"threshold, fixed on validation, is {detector.threshold:.3f}."
    return Markdown(f"{which} Fingerprint `{detector.fingerprint}`. Its {known}{threshold}")


def player(waveform, sample_rate: int) -> Audio:
    """A player for samples [T]; their level is not changed."""
    return Audio(np.asarray(waveform).clip(-1, 1), rate=sample_rate, normalize=False)


def explore(draw: Callable, **options: Sequence) -> None:
    """Call `draw` with its defaults, then show a slider for each of `options`; each move calls `draw` again.

    `options` gives the values that a parameter of `draw` may take. Figures and the returned value are shown.
    """
    defaults = {name: p.default for name, p in inspect.signature(draw).parameters.items()}
    _show(draw, **defaults)
    if not _widgets_are_on():
        return
    sliders = {
        name: ipywidgets.SelectionSlider(options=v, value=defaults[name], description=name, continuous_update=False)
        for name, v in options.items()
    }

    def _redraw(_):
        _show(draw, **defaults | {name: slider.value for name, slider in sliders.items()})

    redraw_below = _place(_redraw, *sliders.values())
    for slider in sliders.values():
        slider.observe(redraw_below, "value")


def listening_test(waveforms: Sequence, labels: Sequence[int], verdicts: Sequence[str], sample_rate: int) -> None:
    """A blind test: the reader calls each waveform [T] real or fake, and is then compared with the detector.

    `labels` are 0 (real) or 1 (fake); `verdicts` are the detector's words for the same clips. They are shown only when
    the reader asks for them.
    """
    if not _widgets_are_on():
        return
    button = ipywidgets.Button(description="Compare")
    layout, audio = {"flex_flow": "row wrap", "align_items": "center"}, {"format": "wav", "layout": {"width": "17em"}}
    rows = []
    for letter, waveform in zip(ascii_uppercase, waveforms, strict=False):
        sound = ipywidgets.Audio(value=player(waveform, sample_rate).data, autoplay=False, loop=False, **audio)
        choice = ipywidgets.ToggleButtons(options=["?", *NAMES], style={"button_width": "4em"})
        rows.append(ipywidgets.HBox([ipywidgets.Label(letter), sound, choice], layout=layout))

    def _compare(_):
        display(*result_of_test([row.children[-1].value for row in rows], labels, verdicts))

    button.on_click(_place(_compare, *rows, button))


def result_of_test(answers: Sequence, labels: Sequence, verdicts: Sequence) -> tuple[Markdown, pd.DataFrame]:
    """The result of a blind test: how many clips the reader and the detector got right, and a table of the clips."""
    letters = list(ascii_uppercase[: len(labels)])
    table = pd.DataFrame({"truth": [NAMES[y] for y in labels], "you": answers, "detector": verdicts}, letters)
    you, detector = ((table[who] == table.truth).sum() for who in ("you", "detector"))
    return Markdown(f"You: **{you} of {len(table)}** right. The detector: **{detector} of {len(table)}**."), table


def ask(predict: Callable) -> None:
    """Let the reader choose a file or record five seconds, in Jupyter and in Colab, and show `predict(path)`.

    The recording stays on the computer that runs the notebook, and is deleted after `predict`. Files above 8 MB are
    refused: give their path to `predict` instead.
    """
    if not _widgets_are_on():
        return

    def _judge(_, content, buffers):
        with tempfile.TemporaryDirectory() as folder:
            display(_answer(predict, _save(Path(folder), content, buffers[0])))
        asker.send({"kind": "judged"})  # so that the page takes its status away

    asker = anywidget.AnyWidget(_esm=Path(__file__).with_name("ask.js").read_text(encoding="utf-8"))
    asker.on_msg(_place(_judge, asker))


def _place(function: Callable, *widgets: ipywidgets.Widget) -> Callable:
    """Show widgets with an area below them; returns `function`, made to show its result in that area."""
    output = ipywidgets.Output()
    display(ipywidgets.VBox([*widgets, output]))
    return output.capture(clear_output=True, wait=True)(function)


def _from_drive() -> Path:
    """Mount Google Drive and copy for-rerecorded, a folder or a zip, to the local disk, which is far faster to read."""
    if "google.colab" not in sys.modules:
        raise DataError('DATA = "drive" works in Colab only; here, give the path of the data set')
    from google.colab import drive

    drive.mount(str(DRIVE))
    drives, target = DRIVE / "MyDrive", LOCAL / "for-rerecorded"
    os.environ.setdefault("DFA_RUNS", str(drives / CLONE / "runs"))
    if target.exists():
        return target
    found = sorted(p for depth in ("*", "*/*") for p in drives.glob(depth) if _is_data_set(p))
    if not found:
        raise DataError(f"{drives}: no folder or zip whose name begins with for-rerec here or one level below; add it")
    partial = target.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    (_unpack if found[0].is_file() else _copy)(found[0], partial)
    return partial.rename(target)


def _is_data_set(path: Path) -> bool:
    return path.name.lower().startswith("for-rerec") and (path.is_dir() or path.suffix.lower() == ".zip")


def _copy(source: Path, target: Path) -> None:
    with progress_bar(desc=f"copying {source.name}", unit=" files") as bar:
        shutil.copytree(source, target, copy_function=lambda *paths: bar.update(bool(shutil.copyfile(*paths))))


def _unpack(source: Path, target: Path) -> None:
    """Unpack a zip; DataError if its files would fill the disk, as those of a hostile or damaged archive might."""
    with ZipFile(source) as archive:
        size, free = sum(member.file_size for member in archive.infolist()), shutil.disk_usage(target.parents[1]).free
        if size > 0.9 * free:
            raise DataError(
                f"{source}: would unpack to {size / 1e9:,.1f} GB, and the disk has {free / 1e9:,.1f} GB left"
            )
        archive.extractall(target, progress_bar(archive.infolist(), f"unpacking {source.name}"))


def _save(folder: Path, content: dict, data: bytes) -> Path:
    """Write what came from the browser: a chosen file as it is, or float samples at `rate` Hz as a wav."""
    path = folder / Path(content["name"]).name
    path.write_bytes(wav_bytes(np.frombuffer(data, "<f4"), int(content["rate"])) if "rate" in content else data)
    return path


def _answer(predict: Callable, path: Path):
    """What a notebook shows of the answer: its own HTML, or its text; or why there is none."""
    try:
        answer = predict(path)
    except AudioError as error:
        return Markdown(f"This file cannot be judged. {error}".replace(str(path), path.name))
    return answer if hasattr(answer, "_repr_html_") else Markdown(f"**{answer}**".replace(str(path), path.name))


def _widgets_are_on() -> bool:
    return os.environ.get("DFA_WIDGETS", "").lower() != "off"


def _show(draw: Callable, **values) -> None:
    result = draw(**values)
    plt.show()
    if result is not None:
        display(result)
