"""Points that move step by step: a player inside the page, and pictures that move in a file."""

import base64
import io
import json
from collections.abc import Mapping
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
<label>step <input type="range" min="0" max="$last" value="0" aria-label="step"></label> <output>0</output> <a
download="gradient-flow.gif" href="$gif">GIF</a></div> <figcaption>$label. Play, or move the slider by mouse or arrow keys;
space plays and pauses.</figcaption> <script type="application/json">$data</script></figure>
""")

SCRIPT = """<script>
for (const figure of document.querySelectorAll("figure.moving")) {
  const {names, last, seconds, places} = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d");
  const range = figure.querySelector("input"), output = figure.querySelector("output"), play = figure.querySelector(".play");
  const numbers = places.map(text => new Uint16Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer));
  const columns = Math.min(names.length, 4), side = canvas.width / columns;
  let timer = null, until = last;
  function draw(step) {
    pen.fillStyle = "#fff"; pen.fillRect(0, 0, canvas.width, canvas.height);
    names.forEach((name, k) => {
      const x0 = (k % columns) * side, y0 = Math.floor(k / columns) * (side + 22), n = numbers[k].length / 2 / (last + 1);
      pen.fillStyle = "#545d6b"; pen.font = "13px system-ui, sans-serif"; pen.fillText(name, x0 + 6, y0 + 15);
      pen.fillStyle = "rgba(59, 111, 182, .55)";
      for (let i = 0; i < n; i++) {
        const at = 2 * (step * n + i);
        pen.fillRect(x0 + numbers[k][at] / 4095 * (side - 8) + 3, y0 + 22 + (1 - numbers[k][at + 1] / 4095) * (side - 8), 2,
        2);
      }
    });
    range.value = step; output.textContent = step + (seconds ? ", time " + (step * seconds).toFixed(2) : "");
  }
  function pause() { clearInterval(timer); timer = null; play.textContent = "play"; }
  function start(end) {
    if (+range.value >= last) draw(0);
    until = end; play.textContent = "pause";
    timer = setInterval(() => { draw(+range.value + 1); if (+range.value >= until) pause(); }, 80);
  }
  play.onclick = () => timer ? pause() : start(last);
  figure.querySelector(".stop").onclick = () => {
    pause(); const from = +range.value >= last ? 0 : +range.value; start(Math.min(last, (Math.floor(from / 10) + 1) * 10));
  };
  range.oninput = () => { pause(); draw(+range.value); };
  range.onkeydown = event => { if (event.key === " ") { event.preventDefault(); play.click(); } };
  draw(0);
}
</script>"""


def player(title: str, frames: Mapping[str, np.ndarray], tau: Mapping[str, float]) -> str:
    """A canvas with the points of several runs `(steps, n, dim)` side by side, their steps in one rhythm: the runs with as
    many steps as most have.
    """
    shown = together(frames)
    most = len(next(iter(shown.values())))
    low, high = corners(shown)
    places = [base64.b64encode(quantised(of, low, high).astype("<u2").tobytes()).decode() for of in shown.values()]
    taus = {tau[name] for name in shown}
    columns = min(len(shown), 4)
    rows = -(-len(shown) // columns)
    width = 240 * columns
    picture = base64.b64encode(file(frames, "GIF")).decode()
    data = {"names": list(shown), "last": most - 1, "seconds": taus.pop() if len(taus) == 1 else 0, "places": places}
    return PLAYER.substitute(
        id=f"moving-{''.join(c if c.isalnum() else '-' for c in title)}", width=width, height=rows * (240 + 22),
        last=most - 1, label=escape(title), gif=f"data:image/gif;base64,{picture}",
        data=json.dumps(data).replace("<", "\\u003c"),
    )  # fmt: skip


def together(frames: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The runs with as many steps as most have, in the plane of the first two coordinates."""
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
