"""What the notebooks need around the lesson: the data root, a player, a banner, a detector to work with."""

import base64
import inspect
import os
import shutil
import sys
import zipfile
from pathlib import Path

import pandas as pd
from IPython.display import Audio, Code, Markdown

from dfa_utils.config import Config
from dfa_utils.dataset import fingerprint
from dfa_utils.datasets import toy
from dfa_utils.datasets.layouts import DataError
from dfa_utils.inference import Detector
from dfa_utils.plots import NAMES
from dfa_utils.support.parallel import progress_bar
from dfa_utils.train import fit, newest_run

DRIVE = Path("/content/drive")
LOCAL = Path("/content/data")
RECORDER = """(async () => {
  const stream = await navigator.mediaDevices.getUserMedia({audio: true});
  const recorder = new MediaRecorder(stream), parts = [];
  recorder.ondataavailable = event => parts.push(event.data);
  recorder.start();
  await new Promise(done => setTimeout(done, MILLISECONDS));
  await new Promise(done => { recorder.onstop = done; recorder.stop(); });
  stream.getTracks().forEach(track => track.stop());
  const reader = new FileReader();
  await new Promise(done => { reader.onload = done; reader.readAsDataURL(new Blob(parts)); });
  return reader.result;
})()"""  # the answer is a data URL


def data_root(use_drive: bool = False) -> Path:
    """The data set to work on: $DFA_DATA; else, with `use_drive`, for-rerecorded from Google Drive; else data/toy.

    Raises DataError for a $DFA_DATA that is no folder, and for a Drive without the data set.
    """
    if named := os.environ.get("DFA_DATA"):
        root = Path(named).expanduser()
        if not root.exists():
            raise DataError(f"DFA_DATA means {root.resolve()}, which does not exist; set it to an absolute path")
        return root
    return _from_drive() if use_drive else _toy()


def is_toy(manifest: pd.DataFrame) -> bool:
    """Whether these clips are the simulated voices of the fixture."""
    return bool((manifest.system == toy.REAL_SYSTEM).any())


def class_names(manifest: pd.DataFrame) -> tuple[str, str]:
    """The words for the two classes: on the fixture they say that no human speaks."""
    return ("real (simulated voice)", "fake (vocoded)") if is_toy(manifest) else NAMES


def banner(manifest: pd.DataFrame) -> Markdown:
    """What the reader must know about these data before the first number."""
    if is_toy(manifest):
        return Markdown(
            f"> **Toy data.** {len(manifest)} two-second clips of *simulated* voices, made by the package. They "
            "show how everything works; their numbers mean nothing for real deepfakes. Set `DFA_DATA`, or `USE_DRIVE` "
            "in Colab, to work on real speech."
        )
    return Markdown(
        f"> **{len(manifest):,} clips** from your data set. Sentences with numbers are made from *these* clips; the "
        "other prose was written with the toy data and Fake-or-Real in mind."
    )


def player(waveform, sample_rate: int) -> Audio:
    """A player for samples [T]; the level is left as it is."""
    return Audio(waveform.numpy().clip(-1, 1), rate=sample_rate, normalize=False)


def source(thing) -> Code:
    """The code of a class or function of the package, as it runs."""
    return Code(inspect.getsource(thing), language="python")


def upload() -> Path:
    """In Colab: let the user choose a file of theirs; its path. Elsewhere RuntimeError: give the path itself."""
    _require_colab("upload")
    from google.colab import files

    return Path(next(iter(files.upload())))


def record(seconds: float = 5.0, path="recording.webm") -> Path:
    """In Colab: record the browser's microphone to a webm file (decoded by FFmpeg). Elsewhere RuntimeError."""
    _require_colab("record")
    from google.colab import output

    content = output.eval_js(RECORDER.replace("MILLISECONDS", str(int(1000 * seconds))))
    Path(path).write_bytes(base64.b64decode(content.split(",", 1)[1]))
    return Path(path)


def run_on(manifest: pd.DataFrame) -> tuple[Path, str]:
    """The newest run trained on exactly these data, else one trained now; and a sentence that says which."""
    run = newest_run(fingerprint(manifest))
    if run:
        return run, f"The newest detector trained on this data set: `{run.name}`."
    config = Config().scaled_to(int((manifest.split == "training").sum()))
    run = fit(config, manifest).folder
    return run, f"No detector had been trained on this data set, so one was trained just now: `{run.name}`."


def detector_for(manifest: pd.DataFrame) -> tuple[Detector, str]:
    """The detector that ships with the package, or on the fixture that of `run_on`; and which of them it is."""
    if not is_toy(manifest):
        return Detector.load(), "The detector that ships with `dfa_utils`."
    run, sentence = run_on(manifest)
    return Detector.load(run), sentence


def _require_colab(what: str) -> None:
    if "google.colab" not in sys.modules:
        raise RuntimeError(f"{what} works in Colab only; here, record or save a file and set MY_FILE to its path")


def _toy() -> Path:
    """The committed fixture, looked for around the notebook and the package; made anew where there is none."""
    around = [Path.cwd(), *Path.cwd().parents, Path(__file__).parents[1], *Path.cwd().glob("*/")]
    found = next((p / "data" / "toy" for p in around if (p / "data" / "toy" / "manifest.csv").is_file()), None)
    return found or toy.write(Path.cwd() / "data" / "toy")


def _from_drive() -> Path:
    """Mount Google Drive and copy for-rerecorded, a folder or a zip, to the local disk, which is far faster to read."""
    from google.colab import drive

    drive.mount(str(DRIVE))
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
            for member in progress_bar(archive.infolist(), f"unpacking {source.name}"):
                archive.extract(member, target)
