"""What the notebooks need around their lessons: the data set, a trained detector, sound players and widgets.

Each widget comes after a static figure or sentence, so that a printed page loses nothing. DFA_WIDGETS=off leaves the
widgets out, for notebooks that run unattended.
"""

import inspect
import os
import shutil
import sys
import tarfile
import tempfile
import warnings
import zlib
from collections.abc import Callable, Sequence
from gzip import BadGzipFile
from operator import attrgetter
from pathlib import Path
from zipfile import BadZipFile, ZipFile

import anywidget
import ipywidgets
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Audio, Markdown, display

from dfa_utils import evaluation, toy
from dfa_utils.audio import AudioError
from dfa_utils.checkpoint import newest_run
from dfa_utils.config import Config
from dfa_utils.dataset import fingerprint, scan
from dfa_utils.inference import Detector
from dfa_utils.layouts import LAYOUT, DataError, find_sets
from dfa_utils.plots import NAMES
from dfa_utils.support import progress_bar, wav_bytes
from dfa_utils.train import fit

DRIVE = Path("/content/drive")  # where Colab mounts Google Drive
LOCAL = Path("/content/data")  # the local disk of a Colab machine
KAGGLE = Path("/kaggle/input")  # where Kaggle puts the data sets of a notebook
CLONE = "deepfake-audio"  # the folder into which the first cell clones the project in Colab
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz")
BROKEN = (BadZipFile, tarfile.TarError, BadGzipFile, EOFError, zlib.error, RuntimeError)  # RuntimeError: encrypted


def data_root(data: str = "toy") -> Path:
    """The folder of the data set that `data` names; the environment variable DFA_DATA takes precedence.

    "toy": 600 clips of simulated voices, made at the first call and kept in the cache folder. "drive": for-rerecorded,
    on Kaggle from the inputs of the notebook, in Colab from Google Drive; trained detectors are then saved on the Drive
    as well, unless DFA_RUNS is set. Anything else is a path, which may be on the Drive too. Raises DataError for a path
    that does not exist, where the data set is not found, for an archive that cannot be unpacked, and for "drive"
    elsewhere.
    """
    data = os.environ.get("DFA_DATA") or data
    if "google.colab" in sys.modules and (data == "drive" or Path(data).is_relative_to(DRIVE)):
        from google.colab import drive

        drive.mount(str(DRIVE))
    if data in ("toy", "drive"):
        return toy.cached_root() if data == "toy" else _from_drive()
    root = Path(data).expanduser()
    if not root.exists():
        raise DataError(f"{root.resolve()} does not exist; set DATA or DFA_DATA to the absolute path of the data set")
    return root


def usable_root(root, *needed: str) -> Path:
    """`root`, if it has usable real and fake clips in all splits `needed`, else the root of the toy data.

    In the second case a sentence says what is missing. Raises DataError where `root` is not a data set.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the notebook's own `scan` warns
        manifest = scan(root, splits=())
    present = set(zip(manifest.split, manifest.label, strict=True))
    gaps = [f"{NAMES[y]} clips for {split}" for split in needed for y in (0, 1) if (split, y) not in present]
    if not gaps:
        return Path(root)
    also = " Notebooks 01, 04 and 05 work with your data." if {("testing", 0), ("testing", 1)} <= present else ""
    why = f"This notebook needs both classes in {', '.join(needed)}, so it continues with the toy data.{also}"
    display(Markdown(f"> **`{Path(root).name}` has no usable {', '.join(gaps)}.** {why}"))
    return toy.cached_root()


def results_folder() -> Path:
    """`research/results` of the checkout: the tables of measurements that some notebooks read.

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
    """The newest CNN trained on exactly these data, or one that is trained now; and a sentence that says which.

    The released detector where training or validation lacks a class.
    """
    if not {"training", "validation"} <= set(evaluation.parts_of(manifest)):
        return Detector.load(), "Training or validation lacks a class, so the *released* detector judges these data."
    if run := newest_run(fingerprint(manifest), model="cnn"):
        return Detector.load(run), f"The newest detector trained on this data set: `{run.name}`."
    run = fit(Config().scaled_to(int((manifest.split == "training").sum())), manifest).folder
    return Detector.load(run), f"No detector had been trained on this data set, so we trained one now: `{run.name}`."


def describe(detector: Detector, which: str) -> Markdown:
    """The sentence `which`, then the detector's fingerprint, its EER on validation and its threshold."""
    known = f"EER on validation was {detector.info['eer']:.1%}, its " if "eer" in detector.info else ""
    threshold = f"threshold, fixed on validation, is {detector.threshold:.3f}."
    return Markdown(f"{which} Fingerprint `{detector.fingerprint}`. Its {known}{threshold}")


def player(waveform, sample_rate: int, stored: bool = True) -> Audio | None:
    """A player for samples [T]; their level is not changed.

    None if the recording is not ours to pass on (`stored` is False) and widgets are off: an executed notebook would
    contain it.
    """
    if not (stored or _widgets_are_on()):
        return None
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
    """for-rerecorded: on Kaggle in its place, from Google Drive copied to the local disk, which is faster to read."""
    if sets := [home for _, home in find_sets(KAGGLE, depth=5)]:
        chosen = [home for home in sets if "for-rerec" in str(home).lower()] or sets
        if len(chosen) > 1:
            raise DataError(f"{KAGGLE}: {len(sets)} data sets; set DATA to one of them: {', '.join(map(str, chosen))}")
        return chosen[0]
    if "google.colab" not in sys.modules:
        raise DataError('DATA = "drive" works in Colab, and on Kaggle with data; here, give the path of the data set')
    drives, target = DRIVE / "MyDrive", LOCAL / "for-rerecorded"
    os.environ.setdefault("DFA_RUNS", str(drives / CLONE / "runs"))
    return target if target.exists() else _fetch(drives, target)


def _fetch(drives: Path, target: Path) -> Path:
    """Copy or unpack the data set that is found on the Drive; nothing stays at `target` if it is incomplete."""
    found = [path for depth in ("*", "*/*") for path in sorted(drives.glob(depth)) if _is_data_set(path)]
    if not found:
        wanted = f"no folder with clips, and no archive ({', '.join(ARCHIVES)}), whose name begins with for-rerec"
        raise DataError(f"{drives}: {wanted} here or one level below; add it")
    partial = target.with_name("partial")
    shutil.rmtree(partial, ignore_errors=True)
    (_unpack if found[0].is_file() else _copy)(found[0], partial)
    if not find_sets(partial):
        raise DataError(f"{found[0]}: holds no data set; expected {LAYOUT}")
    return partial.rename(target)


def _is_data_set(path: Path) -> bool:
    """Whether this is for-rerecorded by its name: an archive, or a folder that holds a data set."""
    if not path.name.lower().replace("_", "-").startswith("for-rerec"):
        return False
    return bool(find_sets(path)) if path.is_dir() else path.name.lower().endswith(ARCHIVES)


def _copy(source: Path, target: Path) -> None:
    with progress_bar(desc=f"copying {source.name}", unit=" files") as bar:
        shutil.copytree(source, target, copy_function=lambda *paths: bar.update(bool(shutil.copyfile(*paths))))


def _unpack(source: Path, target: Path) -> None:
    """Unpack an archive, only its for-rerecorded if it has several variants.

    DataError if it is damaged, or if its files would fill the disk, as those of a hostile archive might.
    """
    is_zip = source.suffix.lower() == ".zip"
    try:
        with ZipFile(source) if is_zip else tarfile.open(source) as archive:
            members = archive.infolist() if is_zip else _members(archive)
            name, size = map(attrgetter, ("filename", "file_size") if is_zip else ("name", "size"))
            chosen = [member for member in members if "for-rerec" in name(member).lower()] or members
            unpacked, free = sum(map(size, chosen)) / 1e9, shutil.disk_usage(target.parents[1]).free / 1e9
            if unpacked > 0.9 * free:
                raise DataError(f"{source}: would unpack to {unpacked:,.1f} GB, and the disk has {free:,.1f} GB left")
            options = {} if is_zip else {"filter": "data"}  # nothing outside of its folder
            archive.extractall(target, progress_bar(chosen, f"unpacking {source.name}"), **options)
    except BROKEN as error:
        reason, _, _ = str(error).partition(":\n")  # without the errors of all formats that `tarfile` tried
        cure = "it is cut off or damaged; copy it to the Drive again"
        raise DataError(f"{source}: cannot be unpacked ({reason}); {cure}") from error


def _members(archive: tarfile.TarFile) -> list[tarfile.TarInfo]:
    """All members; ReadError also where the file is cut between two of them, which `tarfile` does not notice."""
    members = archive.getmembers()
    archive.fileobj.seek(archive.offset)
    if not archive.fileobj.read().startswith(bytes(512)):  # zeros mark the end; at its end gzip checks the whole
        raise tarfile.ReadError("its end is missing")
    return members


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
