"""A page in the browser, served from this computer, that judges a recording; made with gradio (extra `app`)."""

from dfa_utils.app.page import build, serve, settings

__all__ = ["build", "serve", "settings"]
