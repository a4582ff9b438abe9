"""Build the page that judges recordings in the browser: python site/build.py [FOLDER] (default: build/site).

The folder holds the page, the released detector as an ONNX graph, onnxruntime-web and some examples. Any static host
serves it, GitHub Pages as well as `python -m http.server`. It needs `npm ci --prefix site` once.
"""

import csv
import gzip
import importlib.util
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import soundfile

SITE = Path(__file__).resolve().parent
ROOT = SITE.parent
WEIGHTS = ROOT / "dfa_utils" / "weights"
PACKAGES = SITE / "node_modules"
PAGE = ["index.html", "style.css", "icon.svg", "src"]
LIBRARIES = [  # of node_modules, into the folder lib; onnxruntime without WebGPU
    "onnxruntime-web/dist/ort.wasm.bundle.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm",
    "mpg123-decoder/dist/mpg123-decoder.min.js",
]
SENTENCE = "Please transfer the money before noon, and do not tell anybody."
TOY = {
    "simulated-voice.wav": ("A simulated voice", "real/voice18-077.wav"),
    "vocoded-voice.wav": ("The same through a vocoder", "fake/voice18-065.wav"),
}


def main(arguments: list[str]) -> int:
    """Build into the folder that is given; the exit status: 1 where something is missing, and a sentence says what."""
    folder = Path(arguments[0] if arguments else ROOT / "build" / "site")
    if not all((PACKAGES / name).is_file() for name in LIBRARIES):
        print(
            "error: site/node_modules is missing or old; run npm ci --prefix site --ignore-scripts",
            file=sys.stderr,
        )
        return 1
    if folder.exists() and any(folder.iterdir()) and not (folder / "detector.json").exists():
        print(f"error: {folder} holds other files, which the build would remove; give another folder", file=sys.stderr)
        return 1
    copy_page(folder)
    export_detector(folder)
    make_examples(folder / "examples")
    files = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    size, packed = sum(map(len, files)), sum(len(gzip.compress(content)) for content in files)
    sizes = f"{size / 1e6:.1f} MB, {packed / 1e6:.1f} MB compressed"
    print(
        f"{folder}: {sizes}; look at it with: python -m http.server --bind 127.0.0.1 --directory {folder}, then open http://localhost:8000"
    )
    return 0


def copy_page(folder: Path) -> None:
    """The page itself, the runtime, the model card and the licences; what an earlier build left is removed."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name in PAGE:
        copy = shutil.copytree if (SITE / name).is_dir() else shutil.copy
        copy(SITE / name, folder / name)
    (folder / "lib").mkdir()
    for name in LIBRARIES:
        shutil.copy(PACKAGES / name, folder / "lib")
    shutil.copy(WEIGHTS / "MODEL_CARD.md", folder / "model-card.md")
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
    """detector.onnx; and in detector.json its metadata and name, what its verdicts mean, how they were on `testing`."""
    from dfa_utils import Detector
    from dfa_utils.display import MEANING
    from dfa_utils.export import export_onnx
    from dfa_utils.speech import HIGH, LEAST_SECONDS, LEAST_SHARE, NOTHING

    path = export_onnx(Detector.load(), folder / "detector.onnx")
    scorer = Detector.load(path).model
    figures = json.loads(scorer.session.get_modelmeta().custom_metadata_map["dfa_utils"])
    figures |= {"detector": scorer.fingerprint, "tested": verdicts_on_testing(figures), "meaning": MEANING}
    figures["speech"] = {"least_seconds": LEAST_SECONDS, "least_share": LEAST_SHARE, "high": HIGH, "nothing": NOTHING}
    (folder / "detector.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")


def verdicts_on_testing(figures: dict) -> dict[str, float]:
    """Of the clips of `testing`: how many, and the shares of reals called fake, fakes called real, and uncertain."""
    with open(WEIGHTS / "scores.csv", encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "testing"]
    scores, fake = np.array([(float(row["score"]), int(row["label"])) for row in rows]).T
    low, high = figures["uncertain"] or [figures["threshold"]] * 2
    shares = {
        "accused": (scores >= high)[fake == 0],
        "missed": (scores < low)[fake == 1],
        "uncertain": (low <= scores) & (scores < high),
    }
    return {"clips": len(rows)} | {name: float(which.mean()) for name, which in shares.items()}


def make_examples(folder: Path) -> None:
    """Two toy voices and, where hibari-tts is installed, a sentence of a neural one; list.json names them."""
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
