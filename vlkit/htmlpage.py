"""Pages of pictures and words in one file each, that open anywhere and ask nothing of the internet."""

import base64
import html
import io

import numpy as np
from PIL import Image

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 74rem; padding: 0 1rem; color: #222 }
section { border-top: 1px solid #ccc; padding: 1rem 0 }
h2 { font-size: 1.1rem; margin: 0 0 .4rem } .right { color: #1d6b34 } .wrong { color: #a3241d }
.row { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0 } figcaption { font-size: .85rem; color: #555 }
img { display: block; width: 14rem; max-width: 100%; image-rendering: pixelated } small img, .words img { width: 8rem }
table { border-collapse: collapse; margin: .5rem 0 } td { padding: .1rem .6rem .1rem 0; font-variant-numeric: tabular-nums }
"""


def document(title: str, intro: str, body: str) -> str:
    """The whole page; `intro` and `body` are HTML already."""
    return (
        f'<!doctype html>\n<html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>\n<h1>{html.escape(title)}</h1>\n'
        f"<p>{intro}</p>\n{body}\n</html>\n"
    )


def figure(picture: np.ndarray, caption: str) -> str:
    """A picture (height, width, 3) uint8, within the page, and the words beneath it."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, format="png")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<figure><img alt="" src="data:image/png;base64,{data}"><figcaption>{html.escape(caption)}</figcaption></figure>'
