"""The page of `dfa_utils.app` as Hugging Face Spaces start it: python app.py."""

from web.page import build, settings

demo = build()

if __name__ == "__main__":
    demo.launch(**settings())
