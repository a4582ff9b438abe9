"""web/without_torch.py: the MB that it needs on disk, and the seconds to its first verdict, beside those with torch."""

import subprocess
import sys
import time
import venv
from statistics import median

from common import ROOT, scratch, write

from dfa_utils.export import export_onnx
from dfa_utils.inference import Detector

PACKAGES = ("numpy", "soundfile", "onnxruntime")
CLIP = ROOT / "data" / "toy" / "testing" / "real" / "voice15-005.wav"


def seconds_to_verdict(*command) -> float:
    """Median of five calls on one clip."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run([*command, CLIP], check=True, capture_output=True, cwd=ROOT)
        taken.append(time.perf_counter() - start)
    return round(median(taken), 2)


with scratch() as folder:
    file = export_onnx(Detector.load(), folder / "a.onnx")
    venv.create(folder / "env", with_pip=True)
    python = folder / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", *PACKAGES], check=True, stderr=subprocess.DEVNULL)
    installed = [path for path in (folder / "env").rglob("site-packages/*") if path.name not in ("pip", "setuptools")]
    sizes = [file.stat().st_size for path in installed for file in (path, *path.rglob("*")) if file.is_file()]
    write(
        "without_torch",
        {
            "packages": list(PACKAGES),
            "on disk (MB)": round(sum(sizes) / 1e6),
            "exported detector (MB)": round(file.stat().st_size / 1e6, 1),
            "first verdict (s)": seconds_to_verdict(python, "web/without_torch.py", file),
            "first verdict with torch (s)": seconds_to_verdict(sys.executable, "-m", "dfa_utils", "predict"),
        },
    )
