"""Points that move on a canvas, by a slider, by a button, and by arrow keys and Space on the slider.

Nothing moves by itself. Where the reader's system asks for less motion, the buttons go to the end of the way at once.
"""

SCRIPT = r"""
for (const figure of document.querySelectorAll("figure.moving")) {
  const {names, said, places} = JSON.parse(figure.querySelector("script").textContent);
  const canvas = figure.querySelector("canvas"), pen = canvas.getContext("2d"), last = said.length - 1;
  const range = figure.querySelector("input"), output = figure.querySelector("output"), play = figure.querySelector(".play");
  const numbers = [], columns = Math.min(names.length, 4), side = canvas.width / columns;
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let timer = null, until = last;
  const read = text => new Uint16Array(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
  const draw = step => {
    pen.fillStyle = "#fff"; pen.fillRect(0, 0, canvas.width, canvas.height);
    names.forEach((name, k) => {
      const of = numbers[k] ??= read(places[k]), n = of.length / 2 / said.length;
      const x0 = (k % columns) * side, y0 = Math.floor(k / columns) * (side + 22);
      pen.fillStyle = "#545d6b"; pen.font = "13px system-ui, sans-serif"; pen.fillText(name, x0 + 6, y0 + 15, side - 10);
      pen.fillStyle = "rgba(59, 111, 182, .55)";
      for (let i = 0; i < n; i++) {
        const at = 2 * (step * n + i);
        pen.fillRect(x0 + of[at] / 4095 * (side - 8) + 3, y0 + 22 + (1 - of[at + 1] / 4095) * (side - 8), 2, 2);
      }
    });
    range.value = step; output.textContent = said[step]; range.setAttribute("aria-valuetext", said[step]);
  };
  const pause = () => { clearInterval(timer); timer = null; play.textContent = "play"; };
  const start = end => {
    if (still.matches) { draw(end); return; }
    if (+range.value >= last) draw(0);
    until = end; play.textContent = "pause";
    timer = setInterval(() => { draw(+range.value + 1); if (+range.value >= until) pause(); }, 80);
  };
  play.onclick = () => timer ? pause() : start(last);
  figure.querySelector(".stop").onclick = () => {
    pause();
    const from = +range.value >= last ? 0 : +range.value;
    start(Math.min(last, (Math.floor(from / 10) + 1) * 10));
  };
  range.oninput = () => { pause(); draw(+range.value); };
  range.onkeydown = event => { if (event.key === " ") { event.preventDefault(); play.click(); } };
  draw(+range.value);
}
"""
