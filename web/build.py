"""Build the page that judges recordings in the browser: python web/build.py [FOLDER] (default: build/site).

The folder holds the page, the released detector as an ONNX graph, onnxruntime-web and some examples. Any static host
can serve it, such as GitHub Pages or `python -m http.server`. Run `npm ci --prefix web --ignore-scripts` once before.
"""

import importlib.util
import json
import shutil
import sys
from pathlib import Path

import onnx
import soundfile

from dfa_utils import Detector
from dfa_utils.checkpoint import RELEASED
from dfa_utils.display import MEANING, SUSPICIOUS, WEIGHT
from dfa_utils.evaluation import load_scores
from dfa_utils.export import export_onnx
from dfa_utils.inference import PIECE_SECONDS, SUPPORT
from dfa_utils.speech import HIGH, LEAST_SECONDS, LEAST_SHARE, NOTHING

WEB = Path(__file__).resolve().parent
ROOT = WEB.parent
SCORES = ROOT / "research" / "results" / "scores.csv.gz"  # those of the released detector
PACKAGES = WEB / "node_modules"
PAGE = ["index.html", "style.css", "icon.svg", "src"]
LIBRARIES = [  # of node_modules, into the folder lib; onnxruntime without WebGPU
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "mpg123-decoder/dist/mpg123-decoder.min.js",
]
SENTENCE = "Please transfer the money before noon, and do not tell anybody."
TOY = {
    "simulated-voice.wav": ("A simulated voice", "real/voice18-077.wav"),
    "vocoded-voice.wav": ("The same voice through a vocoder", "fake/voice18-065.wav"),
}


def main(arguments: list[str]) -> int:
    """Build into the folder that is given; the exit status: 1 if something is missing, which a sentence names."""
    folder = Path(arguments[0] if arguments else ROOT / "build" / "site")
    if not all((PACKAGES / name).is_file() for name in LIBRARIES):
        return _fail("web/node_modules is missing or old; run npm ci --prefix web --ignore-scripts")
    if folder.exists() and any(folder.iterdir()) and not (folder / "detector.json").exists():
        return _fail(f"{folder} holds other files, which the build would remove; give another folder")
    copy_page(folder)
    export_detector(folder)
    make_examples(folder / "examples")
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {size / 1e6:.1f} MB. To look at it, open http://localhost:8000 after")
    print(f"python -m http.server --bind 127.0.0.1 --directory {folder}")
    return 0


def _fail(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return 1


def copy_page(folder: Path) -> None:
    """The page itself, the runtime, the model card and the licences; files of an earlier build are removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in PAGE:
        copy = shutil.copytree if (WEB / name).is_dir() else shutil.copy
        copy(WEB / name, folder / name)
    (folder / "lib").mkdir()
    for name in LIBRARIES:
        shutil.copy(PACKAGES / name, folder / "lib")
    shutil.copy(RELEASED.with_name("MODEL_CARD.md"), folder / "model-card.md")
    (folder / "notice.txt").write_text(notice(), encoding="utf-8")


def notice() -> str:
    """Whose code the page holds, and its licences."""
    terms = (ROOT / "LICENSE").read_text(encoding="utf-8")
    owner = terms.splitlines()[2]
    parts = [
        f"The page:\n\n{terms}",
        "The detector (detector.onnx): for research and education only; see model-card.md.\n",
        f"{version('onnxruntime-web')}:\n\n{terms.replace(owner, 'Copyright (c) Microsoft Corporation')}",
        f"{version('mpg123-decoder')}:\n\n{terms.replace(owner, 'Copyright (c) Ethan Halsall')}",
        "mpg123-decoder holds libmpg123, under the GNU LGPL 2.1; its source and that licence: mpg123.de.\n",
    ]
    return "\n".join(parts)


def version(package: str) -> str:
    """Name and version of a package in node_modules."""
    figures = json.loads((PACKAGES / package / "package.json").read_text(encoding="utf-8"))
    return f"{package} {figures['version']}"


def export_detector(folder: Path) -> None:
    """detector.onnx, and detector.json: its metadata, and the limits and words that page and package share."""
    detector = Detector.load()
    path = export_onnx(detector, folder / "detector.onnx")
    figures = json.loads(onnx.load(path).metadata_props[0].value)
    figures["detector"] = f"{detector.fingerprint}-onnx"
    figures["piece_samples"] = PIECE_SECONDS * figures["sample_rate"]
    figures["speech"] = {"least_seconds": LEAST_SECONDS, "least_share": LEAST_SHARE, "high": HIGH, "nothing": NOTHING}
    figures |= {"meaning": MEANING, "weight": WEIGHT, "suspicious": SUSPICIOUS, "support": list(SUPPORT.items())}
    figures["tested"] = verdicts_on_testing(detector)
    (folder / "detector.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


def verdicts_on_testing(detector: Detector) -> dict[str, float]:
    """How many clips `testing` has; the shares of real clips called fake, of fakes called real, and of "uncertain"."""
    scores, _ = load_scores(SCORES)
    scores = scores[scores.split == "testing"]
    low, high = detector.uncertain_band or (detector.threshold, detector.threshold)
    shares = {
        "false_positives": scores.score[scores.label == 0] >= high,
        "missed": scores.score[scores.label == 1] < low,
        "uncertain": scores.score.between(low, high, inclusive="left"),
    }
    return {"clips": len(scores)} | {name: float(which.mean()) for name, which in shares.items()}


def make_examples(folder: Path) -> None:
    """Two toy voices and, if hibari-tts is installed, a sentence of a neural one; list.json names them."""
    folder.mkdir()
    titles = {name: title for name, (title, _) in TOY.items()}
    for name, (_, source) in TOY.items():
        shutil.copy(ROOT / "data" / "toy" / "testing" / source, folder / name)
    if importlib.util.find_spec("hibari"):
        from hibari import Hibari

        soundfile.write(folder / "neural-voice.wav", Hibari()(SENTENCE, seed=0), 24_000, subtype="PCM_16")
        titles["neural-voice.wav"] = "A neural text-to-speech voice"
    listed = [{"file": name, "title": title} for name, title in titles.items()]
    (folder / "list.json").write_text(json.dumps(listed, indent=1), encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
