"""Hundreds of thousands of damaged files: `fuzz.py [--audio N] [--checkpoints N]`.

Valid files are damaged at random: bytes are changed, removed, repeated or replaced by those of another file, numbers of
the header made extreme. They go to `stream_audio`, to `Detector.load`, or, ONNX files, to web/without_torch.py. Each
must give finite samples or a working detector, or the error that is documented; anything else, a crash of the process,
or more than SECONDS is a finding, printed with the number that repeats it: `fuzz.py --repeat audio NUMBER`.
"""

import argparse
import faulthandler
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from common import ROOT, write

from dfa_utils.audio import AudioError, stream_audio
from dfa_utils.checkpoint import RELEASED, CheckpointError
from dfa_utils.export import export_onnx
from dfa_utils.inference import Detector
from dfa_utils.speech import SPEECH_CHECK
from web.without_torch import Detector as ExportedDetector

MARK = "@ "  # before our own lines; libraries print others
SECONDS = 20  # that one input may take
FORMATS = {
    "WAV": ("PCM_U8", "PCM_16", "PCM_24", "FLOAT", "DOUBLE", "ULAW", "ALAW", "IMA_ADPCM", "MS_ADPCM", "GSM610"),
    "WAVEX": ("PCM_16",),
    "RF64": ("PCM_16",),
    "W64": ("PCM_16", "IMA_ADPCM"),
    "AIFF": ("PCM_16", "FLOAT", "ULAW"),
    "AU": ("PCM_16", "ULAW", "G721_32"),
    "CAF": ("PCM_16", "ALAC_16"),
    "FLAC": ("PCM_16", "PCM_24"),
    "OGG": ("VORBIS", "OPUS"),
    "MP3": ("MPEG_LAYER_III",),
    "NIST": ("PCM_16",),
    "VOC": ("PCM_16",),
    "IRCAM": ("FLOAT",),
    "AVR": ("PCM_16",),
    "PAF": ("PCM_16",),
    "MAT5": ("FLOAT",),
    "SVX": ("PCM_16",),
}
BY_FFMPEG = 0.1  # share of m4a and webm among the audio inputs; FFmpeg takes many times as long to start
CLIP = ROOT / "data" / "toy" / "testing" / "real" / "voice15-005.wav"
EXTREMES = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)


def audio_seeds() -> tuple[list[bytes], list[bytes]]:
    """Valid files of a tenth of a second: for libsndfile, and for FFmpeg."""
    wave, found = 0.3 * np.random.default_rng(0).standard_normal((1_600, 1)), []
    for form, subtypes in FORMATS.items():
        for subtype in subtypes:
            for channels in (1, 2) if form in ("WAV", "FLAC", "OGG", "MP3") and subtype != "GSM610" else (1,):
                rate = 8_000 if subtype in ("GSM610", "G721_32") else 16_000
                file = io.BytesIO()
                soundfile.write(file, wave.repeat(channels, axis=1), rate, format=form, subtype=subtype)
                found.append(file.getvalue())
    return found, [(ROOT / "tests" / name).read_bytes() for name in ("tone.m4a", "tone.webm")]


def checkpoint_seeds() -> list[bytes]:
    """The released detector, the speech check, and the detector as ONNX."""
    with tempfile.TemporaryDirectory() as folder:
        exported = export_onnx(Detector.load(), Path(folder) / "a.onnx").read_bytes()
    return [RELEASED.read_bytes(), SPEECH_CHECK.read_bytes(), exported]


def damage(content: bytes, other: bytes, head: int, rng: np.random.Generator) -> bytes:
    """The content with one to four changes, half of them within the first `head` bytes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        end = min(head, len(data)) if rng.random() < 0.5 else len(data)
        place, size = int(rng.integers(max(end, 1))), int(rng.integers(1, 200))
        match rng.integers(8):
            case 0 | 1:
                data[place : place + 1] = bytes([rng.integers(256)])
            case 2 | 3:
                extreme, width = int(rng.choice(EXTREMES)), int(rng.choice([1, 2, 4, 8]))
                order = "little" if rng.random() < 0.5 else "big"
                data[place : place + width] = (extreme % 256**width).to_bytes(width, order)
            case 4:
                del data[place : place + size]
            case 5:
                data[place:place] = data[place : place + size]
            case 6:
                start = int(rng.integers(len(other)))
                data[place : place + size] = other[start : start + size]
            case 7:
                del data[int(rng.integers(len(data) + 1)) :]
    return bytes(data)


def audio_input(number: int, seeds) -> tuple[bytes, str]:
    """The damaged file with this number, and its suffix."""
    rng = np.random.default_rng([1, number])
    kind = int(rng.random() < BY_FFMPEG)
    content, other = (seeds[kind][rng.integers(len(seeds[kind]))] for _ in range(2))
    return damage(content, other, 200, rng), (".wav", ".m4a")[kind]


def checkpoint_input(number: int, seeds) -> tuple[bytes, str]:
    """The damaged file with this number, and its suffix."""
    rng = np.random.default_rng([2, number])
    which = int(rng.integers(len(seeds)))
    content = seeds[which]
    head = 2_000 if which == 2 else 8 + int.from_bytes(content[:8], "little")
    return damage(content, seeds[rng.integers(len(seeds))], head, rng), (".onnx" if which == 2 else ".safetensors")


def try_audio(path: Path) -> str:
    """The outcome of a file: "samples" or the kind of its AudioError."""
    try:
        finite = all(np.isfinite(block).all() for block in stream_audio(path))
    except AudioError as error:
        return error.kind if str(path) in str(error) else f"FINDING: the error does not name the file: {error}"
    return "samples" if finite else "FINDING: samples that are not finite"


def try_checkpoint(path: Path) -> str:
    """The outcome of a file: "detector" or "refused"."""
    load, refusal = (ExportedDetector, ValueError) if path.suffix == ".onnx" else (Detector.load, CheckpointError)
    try:
        detector = load(path)
    except refusal as error:
        return "refused" if path.name in str(error) else f"FINDING: the error does not name the file: {error}"
    try:
        result = detector.predict(CLIP)
    except (AudioError, ValueError) as error:
        return "no finite score, and says so" if "finite score" in str(error) else f"FINDING: {error}"
    return "detector" if 0 <= result.score <= 1 else f"FINDING: score {result.score}"


KINDS = {
    "audio": (audio_seeds, audio_input, try_audio),
    "checkpoints": (checkpoint_seeds, checkpoint_input, try_checkpoint),
}


def work(kind: str, start: int, end: int) -> None:
    """Try inputs start to end; print a line for each: its number and outcome."""
    make_seeds, make_input, attempt = KINDS[kind]
    seeds = make_seeds()
    signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(TimeoutError(f"more than {SECONDS} s")))
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as folder:
        for number in range(start, end):
            print(f"{MARK}{number}", flush=True)
            content, suffix = make_input(number, seeds)
            path = Path(folder) / f"{number}{suffix}"
            path.write_bytes(content)
            signal.alarm(SECONDS)
            faulthandler.dump_traceback_later(2 * SECONDS, exit=True)  # signals do not interrupt a library
            try:
                outcome = attempt(path)
            except Exception as error:
                outcome = f"FINDING {type(error).__name__}: {' '.join(str(error).split())[:150]}"
            signal.alarm(0)
            faulthandler.cancel_dump_traceback_later()
            path.unlink()
            print(f"{MARK}{number} {outcome}", flush=True)


def fuzz(kind: str, count: int) -> dict:
    """Try `count` inputs in a process of their own; after a crash a new one continues."""
    outcomes, findings, start = Counter(), [], 0
    while start < count:
        command = [sys.executable, __file__, "--work", kind, str(start), str(count)]
        begun_at, begun = start, -1
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
            for line in filter(lambda line: line.startswith(MARK), process.stdout):
                number, _, outcome = line.strip().removeprefix(MARK).partition(" ")
                begun, start = int(number), int(number) + bool(outcome)
                outcomes[outcome.split(":")[0]] += bool(outcome)
                if outcome.startswith("FINDING"):
                    findings.append(f"{number}: {outcome}")
                    print(findings[-1], flush=True)
        if begun == start < count:  # the process died over this one
            findings.append(f"{start}: FINDING the process died")
            outcomes["FINDING"] += 1
            print(findings[-1], flush=True)
            start += 1
        if start == begun_at:
            raise RuntimeError(f"the work cannot begin; to see why: {' '.join(command)}")
    return {"inputs": sum(outcomes.values()), "findings": findings, **dict((+outcomes).most_common())}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--audio", type=int, default=200_000)
    parser.add_argument("--checkpoints", type=int, default=10_000)
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    parser.add_argument("--repeat", nargs=2, metavar=("KIND", "NUMBER"))
    options = parser.parse_args()
    if options.work:
        work(options.work[0], *map(int, options.work[1:]))
    elif options.repeat:
        make_seeds, make_input, attempt = KINDS[options.repeat[0]]
        content, suffix = make_input(int(options.repeat[1]), make_seeds())
        path = Path(tempfile.mkdtemp()) / f"fuzz{suffix}"
        path.write_bytes(content)
        print(path)
        try:
            print(attempt(path))
        except Exception:
            traceback.print_exc()
    else:
        results = {kind: fuzz(kind, getattr(options, kind)) for kind in KINDS if getattr(options, kind)}
        print(json.dumps(results, indent=1))
        write("fuzz", results)
