"""The page itself, and the server."""

from functools import partial
from pathlib import Path

from dfa_utils.inference import Detector
from web.answer import LONGEST, answer

LARGEST = 50  # MB of a file
WAITING = 16  # visitors that may wait; one is answered at a time
TITLE = "Is this voice synthetic?"
INTRODUCTION = f"""# {TITLE}
A small neural network listens for traces of synthesis. Give it a recording of up to {LONGEST / 60:g} minutes and
{LARGEST} MB. The computer that serves this page judges it, and deletes it as soon as the answer is made.

*Real* means that no trace was found. A verdict is no evidence by itself, and no ground for a decision about a person.
The released detector is for research and education only."""
OWN_THINGS_ONLY = (  # nothing is asked of any other computer, whatever gradio's page names
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob: ws: wss:"
)


def build(checkpoint=None):
    """The page as gradio's Blocks, with the detector that `Detector.load(checkpoint)` gives.

    Raises ImportError with the cure without gradio, and what `Detector.load` raises.
    """
    gradio, detector = _gradio(), Detector.load(checkpoint)
    with gradio.Blocks(title=TITLE, analytics_enabled=False, delete_cache=(60, 600)) as page:
        gradio.Markdown(INTRODUCTION)
        recording = gradio.Audio(
            sources=["upload", "microphone"], type="filepath", label="A recording", editable=False, buttons=[]
        )
        button = gradio.Button("Judge it", variant="primary")
        verdict = gradio.HTML()
        judge = partial(_answer_and_forget, detector, Path(page.GRADIO_CACHE))
        button.click(judge, recording, verdict, api_visibility="private")
    return page.queue(max_size=WAITING, default_concurrency_limit=1)


def settings() -> dict:
    """What `launch` of the page needs so that nothing is kept, counted or asked of other computers."""
    gradio = _gradio()
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    return {
        "theme": gradio.themes.Default(**fonts),
        "max_file_size": f"{LARGEST}mb",
        "app_kwargs": {"middleware": [_middleware()]},
        "footer_links": [],
        "share": False,
        "ssr_mode": False,
    }


def serve(checkpoint=None, host: str = "127.0.0.1", port: int = 7860) -> None:
    """Serve the page until it is stopped. Raises what `build` raises, and OSError where the port is taken."""
    build(checkpoint).launch(server_name=host, server_port=port, quiet=True, **settings())


def _answer_and_forget(detector: Detector, cache: Path, path: str | None) -> str:
    """What `answer` says; then the file that was sent is gone."""
    try:
        return answer(detector, path)
    finally:
        if path and cache.resolve() in Path(path).resolve().parents:
            Path(path).unlink(missing_ok=True)


def _middleware():
    """What adds OWN_THINGS_ONLY to each answer of the server."""
    from starlette.middleware import Middleware

    return Middleware(_Policy)


class _Policy:
    """ASGI middleware: one header more."""

    def __init__(self, app):
        self.app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], (b"content-security-policy", OWN_THINGS_ONLY.encode())]
            await send(message)

        await self.app(scope, receive, send_with_policy)


def _gradio():
    try:
        import gradio
    except ModuleNotFoundError as error:
        raise ImportError("the page is made with gradio: pip install gradio") from error
    return gradio
