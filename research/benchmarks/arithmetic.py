"""The time of a training epoch and of a scoring pass by kind of work, measured with torch.profiler."""

import time

from common import make_clips, scratch, threads, training_state, write
from torch.profiler import ProfilerActivity, profile

from dfa_utils.config import Config
from dfa_utils.dataset import ClipDataset, make_loader
from dfa_utils.inference import Detector
from dfa_utils.models import build_model
from dfa_utils.train import train_one_epoch

COUNT, config = 320, Config()
KINDS = {
    "convolution": ("conv",),
    "FFT": ("_fft", "stft"),
    "pooling": ("max_pool", "amax", "mean"),
    "batch norm": ("batch_norm",),
    "ReLU": ("relu", "threshold", "clamp_min"),
    "matrix product (mel bands, head)": ("mm", "linear"),
    "optimizer": ("optimizer", "_foreach", "lerp", "addcdiv", "addcmul"),
}


def shares(function) -> dict[str, float]:
    """Percent of the wall time of function() spent in each kind of operator; the rest is Python, decoding, copies."""
    function()
    with profile(activities=[ProfilerActivity.CPU]) as record:
        start = time.perf_counter()
        function()
        wall = time.perf_counter() - start
    seconds = dict.fromkeys(KINDS, 0.0)
    other = {}
    for event in record.key_averages():
        kind = next((kind for kind, marks in KINDS.items() if any(mark in event.key.lower() for mark in marks)), None)
        if kind:
            seconds[kind] += event.self_cpu_time_total / 1e6
        else:
            other[event.key] = event.self_cpu_time_total / 1e6
    result = {kind: round(100 * s / wall, 1) for kind, s in seconds.items()}
    result |= {name: round(100 * s / wall, 1) for name, s in sorted(other.items(), key=lambda item: -item[1])[:6]}
    return result | {"convolution and FFT": round(100 * (seconds["convolution"] + seconds["FFT"]) / wall, 1)}


with scratch() as folder, threads(1):
    manifest = make_clips(folder, COUNT)
    state = training_state(config)
    batches = make_loader(ClipDataset(manifest[manifest.split == "training"], config, train=True))
    detector, paths = Detector(build_model(), {}), manifest.path.tolist()
    write(
        "arithmetic",
        {
            "training, one thread (% of the time)": shares(lambda: train_one_epoch(state, batches)),
            "scoring from files, one thread (% of the time)": shares(lambda: list(detector.predict_files(paths))),
        },
    )
