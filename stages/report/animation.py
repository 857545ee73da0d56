"""Points that move step by step: a player inside the page, and pictures that move in a file."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from string import Template

import numpy as np
from PIL import Image, ImageDraw, ImageFont

LEVELS = 4095  # places of a coordinate
SIDE, TITLE = 280, 18  # pixels
INK, PAPER, GREY = (59, 111, 182), (255, 255, 255), (84, 93, 107)
MOST = 3  # runs side by side in a file

PLAYER = Template("""<figure class="moving" id="$id"><canvas width="$width" height="$height" role="img"
aria-label="$label"></canvas> <div><button type="button" class="play">play</button>
<button type="button" class="stop" title="to the next tenth step">next ten</button>
<label>$word <input type="range" min="0" max="$last" value="0"></label> <output>$first</output>$file</div>
<figcaption>$label. Play, or move the slider by mouse or arrow keys; space plays and pauses.</figcaption>
<script type="application/json">$data</script></figure>
""")
FILE = ' <a download="gradient-flow.gif" href="data:image/gif;base64,{}">GIF</a>'


def player(
    title: str, frames: Mapping[str, np.ndarray], said: Sequence[str], word: str = "step", gif: bytes | None = None
) -> str:
    """A canvas with the points of several runs `(steps, n, 2)` side by side, their steps in one rhythm; a step is a `word`,
    of which `said` says which. Beside it a `gif` to keep, if there is one.
    """
    low, high = corners(frames)
    places = [base64.b64encode(quantised(of, low, high).astype("<u2").tobytes()).decode() for of in frames.values()]
    columns = min(len(frames), 4)
    rows = -(-len(frames) // columns)
    return PLAYER.substitute(
        id=f"moving-{''.join(c if c.isalnum() else '-' for c in title)}", width=240 * columns, height=rows * (240 + 22),
        last=len(said) - 1, first=said[0], word=word, label=escape(title),
        file=FILE.format(base64.b64encode(gif).decode()) if gif else "",
        data=json.dumps({"names": list(frames), "said": list(said), "places": places}).replace("<", "\\u003c"),
    )  # fmt: skip


def together(frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The runs with as many steps as most have, in the plane of their first two coordinates."""
    lengths = [len(of) for of in frames.values()]
    most = max(lengths, key=lengths.count)
    return {name: of[:, :, :2] for name, of in frames.items() if len(of) == most}


def file(frames: Mapping[str, np.ndarray], kind: str) -> bytes:
    """The first MOST runs of those that the player shows, as a moving picture."""
    return moving_picture(dict(list(together(frames).items())[:MOST]), kind)


def corners(frames: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """A square around nearly all points."""
    points = np.concatenate([of.reshape(-1, 2) for of in frames.values()])
    low, high = np.quantile(points, [0.002, 0.998], axis=0)
    middle, half = (low + high) / 2, 0.55 * (high - low).max()
    return middle - half, middle + half


def quantised(x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Places of points in a box, whole numbers up to LEVELS; those outside are at its edge."""
    return np.round(np.clip((x - low) / (high - low), 0, 1) * LEVELS).astype(np.uint16)


def moving_picture(frames: Mapping[str, np.ndarray], kind: str, milliseconds: int = 80) -> bytes:
    """The points of several runs `(steps, n, 2)` side by side, as a GIF or an animated PNG (`kind`: GIF or PNG), which waits
    at the end. Same points, same bytes.
    """
    low, high = corners(frames)
    places = {name: quantised(of, low, high) for name, of in frames.items()}
    pictures = [_picture({name: of[k] for name, of in places.items()}) for k in range(min(map(len, frames.values())))]
    waits = [milliseconds] * (len(pictures) - 1) + [20 * milliseconds]
    buffer, (first, *rest) = io.BytesIO(), pictures
    first.save(buffer, kind, save_all=True, append_images=rest, duration=waits, loop=0)
    return buffer.getvalue()


def _picture(places: Mapping[str, np.ndarray]) -> Image.Image:
    picture = Image.new("P", (SIDE * len(places), SIDE + TITLE), 0)
    picture.putpalette([*PAPER, *INK, *GREY])
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default_imagefont()
    for k, (name, of) in enumerate(places.items()):
        pen.text((SIDE * k + 6, 3), name, fill=2, font=font)
        for x, y in of.tolist():
            left, top = SIDE * k + x * (SIDE - 4) // LEVELS, TITLE + (LEVELS - y) * (SIDE - 4) // LEVELS
            pen.rectangle((left, top, left + 1, top + 1), fill=1)
    return picture
