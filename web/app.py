"""A page, made with Gradio, that judges recordings on the computer that serves it: `python app.py` starts it."""

import argparse
import socket
import sys
import warnings
from functools import partial
from pathlib import Path

import gradio
import numpy as np
import torch
from starlette.middleware import Middleware

from dfa_utils.audio import AudioError, stream_audio
from dfa_utils.display import block, heading, paragraph
from dfa_utils.explain import grad_cam
from dfa_utils.inference import PIECE_SECONDS, Detector, Prediction
from dfa_utils.plots import plot_map
from dfa_utils.report import picture
from dfa_utils.windows import cut_windows, find_sounds, in_pieces

LONGEST_MINUTES = 10  # of a recording
LARGEST_MEGABYTES = 50  # of a file
WAITING = 16  # visitors that may wait; one is answered at a time
TITLE = "Is this voice synthetic?"
INTRODUCTION = f"""# {TITLE}
A small neural network listens for traces of synthesis. Give it a recording of up to {LONGEST_MINUTES} minutes and
{LARGEST_MEGABYTES} MB. The computer that serves this page judges it, and deletes it as soon as it has answered.

*Real* means that no trace was found. A verdict alone is not evidence, and no basis for a decision about a person.
The released detector is for research and education only."""
POLICY = (  # the page may load nothing from other computers, although Gradio's own page names some
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob: ws: wss:"
)


def main(arguments: list[str] | None = None) -> int:
    """Serve the page until it is stopped. The exit status: 2 if it cannot be served, and a sentence says why."""
    parser = argparse.ArgumentParser(prog="app.py", description="Serve a page that judges recordings.")
    parser.add_argument("--checkpoint", help="a checkpoint file, or a folder of runs (default: the released one)")
    parser.add_argument("--host", help="address to listen on; 0.0.0.0: all (default: 127.0.0.1, this computer only)")
    parser.add_argument("--port", type=int, help="(default: the first free one from 7860)")
    options = parser.parse_args(arguments)
    try:
        refuse_taken(options.host or "127.0.0.1", options.port or 0)
        page = build(Detector.load(options.checkpoint))
        page.launch(server_name=options.host, server_port=options.port, prevent_thread_lock=True, **settings())
    except (ValueError, OSError) as error:
        no_port = "no port from 7860 on is free; choose one with --port"
        print(f"error: {no_port if 'empty port' in str(error) else error}", file=sys.stderr)  # Gradio names no --port
        return 2
    print(f"Open {page.local_url} in a browser. Ctrl+C stops the app.", flush=True)
    page.block_thread()
    return 0


def refuse_taken(host: str, port: int) -> None:
    """Raise ValueError, with the cure, if this computer cannot listen at `host` on `port` (0: on any port)."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        socket.create_server((host.strip("[]"), port), family=family).close()
    except (OSError, OverflowError) as error:
        why = str(getattr(error, "strerror", error)).split(" (while")[0]
        place, cure = (f"{host}:{port}", "--port, or leave it out") if port else (host, "--host")
        raise ValueError(f"cannot listen at {place} ({why}); choose another {cure}") from error


def build(detector: Detector) -> gradio.Blocks:
    """The page."""
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gradio.Markdown(INTRODUCTION)
        sources = ["upload", "microphone"]
        recording = gradio.Audio(sources=sources, type="filepath", label="A recording", editable=False, buttons=[])
        button = gradio.Button("Judge it", variant="primary")
        verdict = gradio.HTML()
        judge = partial(answer_and_delete, detector, Path(page.GRADIO_CACHE))
        button.click(judge, recording, verdict, api_visibility="private")
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def settings() -> dict:
    """The options of `launch` with which nothing is kept, counted, or loaded from other computers."""
    return {
        "theme": gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        "max_file_size": f"{LARGEST_MEGABYTES}mb",
        "app_kwargs": {"middleware": [Middleware(_Policy)]},
        "footer_links": [],
        "share": False,
        "quiet": True,
        "ssr_mode": False,
    }


def answer_and_delete(detector: Detector, uploads: Path, path: str | None) -> str:
    """The `answer` about a file, which is deleted if it is one of the uploads."""
    try:
        return answer(detector, path)
    finally:
        if path and uploads.resolve() in Path(path).resolve().parents:
            Path(path).unlink(missing_ok=True)


def answer(detector: Detector, path: str | None) -> str:
    """The verdict on a recording and the evidence for it as HTML, or one sentence that says why there is none.

    A sentence says what is left out of the recording, such as a second sound track.
    """
    if path is None:
        return block(paragraph("Choose a recording first, or make one."))
    name = Path(path).name
    try:
        with warnings.catch_warnings(record=True) as left_out:
            warnings.simplefilter("always")
            samples = read(path, detector.model.config.sample_rate)
        ((_, found),) = detector.predict_recordings([(name, [samples])])
        if isinstance(found, AudioError):
            raise found
    except AudioError as error:
        return block(paragraph(f"This file cannot be judged. {str(error).replace(str(path), name)}."))
    notes = [block(paragraph(f"{warning.message}.".replace(str(path), name))) for warning in left_out]
    return found._repr_html_() + "".join(notes) + evidence(detector, samples, found)


def read(path, rate: int) -> np.ndarray:
    """Samples [T] at `rate` Hz. Raises AudioError, also for a recording of more than LONGEST_MINUTES."""
    blocks = []
    for samples in stream_audio(path, rate):
        blocks.append(samples)
        if sum(map(len, blocks)) > LONGEST_MINUTES * 60 * rate:
            raise AudioError(f"{path}: longer than {LONGEST_MINUTES} minutes; cut it, or use the command line", "long")
    return np.concatenate(blocks)


def evidence(detector: Detector, samples: np.ndarray, prediction: Prediction) -> str:
    """The spectrogram of the most suspicious window, coloured by what speaks for fake and for real, as HTML.

    Grad-CAM explains convolutional networks, so it is "" for other models.
    """
    network = detector.model
    if network.config.model != "cnn":
        return ""
    waveform = torch.from_numpy(most_suspicious_window(samples, prediction, detector.model.config))[None]  # [1, T]
    with torch.no_grad():
        decibels = network.front_end(waveform)[0, 0]  # [bands, frames]
    contributions = grad_cam(network, waveform)[0]
    hop, hertz = network.config.hop_length / network.config.sample_rate, network.front_end.hertz
    start = prediction.times[prediction.scores.argmax()]
    words = f"window from {start:.1f} s, P(fake) {prediction.scores.max():.2f}"
    return block(
        heading(f"Where in the {words}"),
        paragraph("Red speaks for fake and blue for real (Grad-CAM)."),
        picture(lambda ax: plot_map(decibels, contributions, hop, hertz, ax), f"spectrogram of the {words}"),
        paragraph("This shows where the network looks, not that it is right.", "soft"),
    )


def most_suspicious_window(samples: np.ndarray, prediction: Prediction, config) -> np.ndarray:
    """The window [config.clip_samples] of a recording [T] that got the highest score, cut as the detector cuts it."""
    size, hop = config.clip_samples, config.hop_samples
    pieces = in_pieces([samples], PIECE_SECONDS * config.sample_rate)
    windows = [window for piece in pieces for _, window in cut_windows(piece, find_sounds(piece, size), size, hop)]
    return windows[prediction.scores.argmax()]


class _Policy:
    """ASGI middleware that adds POLICY to every answer."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", POLICY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)
