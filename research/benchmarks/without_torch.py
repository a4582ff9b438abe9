"""(o) The install without torch: MB on disk, and seconds from the call to the first verdict, beside that with torch."""

import subprocess
import sys
import time
import venv
from statistics import median

from common import ROOT, scratch, write

from dfa_utils.export import export_onnx
from dfa_utils.inference import Detector

PACKAGES = ("numpy", "soundfile", "onnxruntime", "tqdm")
CLIP = ROOT / "data" / "toy" / "testing" / "real" / "voice15-005.wav"


def seconds_to_verdict(python, *options, folder) -> float:
    """Median of five calls of `predict` on one clip."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        command = [python, "-m", "dfa_utils", "predict", *options, CLIP]
        subprocess.run(command, check=True, capture_output=True, cwd=folder)
        taken.append(time.perf_counter() - start)
    return round(median(taken), 2)


with scratch() as folder:
    file = export_onnx(Detector.load(), folder / "a.onnx")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    for what in (PACKAGES, ("--no-deps", ROOT)):
        subprocess.run([python, "-m", "pip", "install", "--quiet", *what], check=True, stderr=subprocess.DEVNULL)
    installed = [path for path in (folder / "env").rglob("site-packages/*") if path.name not in ("pip", "setuptools")]
    sizes = [file.stat().st_size for path in installed for file in (path, *path.rglob("*")) if file.is_file()]
    write(
        "without_torch",
        {
            "packages": list(PACKAGES),
            "on disk (MB)": round(sum(sizes) / 1e6),
            "exported detector (MB)": round(file.stat().st_size / 1e6, 1),
            "first verdict (s)": seconds_to_verdict(python, "--checkpoint", file, folder=folder),
            "first verdict with torch (s)": seconds_to_verdict(sys.executable, folder=folder),
        },
    )
