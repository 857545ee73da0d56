"""Tables that are sorted by their headers and filtered by words, and means that show the values behind them.

A header is focusable and turns by click, Enter or Space: rising, falling, as it was. Of the means of a table one is
reached by Tab, the others from there by arrow keys.
"""

SCRIPT = r"""
const NUMBER = /^[-−+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?(?=$|\s|\/)/i;

// The places of some texts in order: that of numbers where most begin with one. What is empty or no number stands last.
function order(texts, falling) {
  const numbers = texts.map(text => { const found = NUMBER.exec(text); return found ? +found[0].replace("−", "-") : NaN; });
  const numeric = 2 * numbers.filter(n => !isNaN(n)).length > texts.filter(Boolean).length;
  const last = i => numeric ? isNaN(numbers[i]) : !texts[i];
  const by = (i, j) => numeric ? numbers[i] - numbers[j] : texts[i].localeCompare(texts[j], "en", {numeric: true});
  const among = (i, j) => last(i) ? 0 : falling ? by(j, i) : by(i, j);
  return texts.map((_, i) => i).sort((i, j) => last(i) - last(j) || among(i, j) || i - j);
}

// Whether a text has every word.
function matching(wanted) {
  const words = wanted.toLowerCase().split(/\s+/).filter(Boolean);
  return text => words.every(word => text.toLowerCase().includes(word));
}

// Headers that turn the order; `apply` gets the column and "ascending", "descending" or "none".
function sortable(table, apply) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    head.tabIndex = 0; head.setAttribute("aria-sort", "none"); head.title = "sort";
    const turn = () => {
      const next = {none: "ascending", ascending: "descending", descending: "none"}[head.getAttribute("aria-sort")];
      heads.forEach(other => other.setAttribute("aria-sort", other === head ? next : "none"));
      apply(column, next);
    };
    head.onclick = turn;
    head.onkeydown = event => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); turn(); } };
  });
}

{
  const tables = [...document.querySelectorAll(".wide > table:not(.all)")];
  for (const table of tables) {
    const body = table.tBodies[0], rows = [...body.rows];
    if (rows.length > 1) sortable(table, (column, how) => {
      const texts = rows.map(row => (row.cells[column]?.textContent ?? "").trim());
      const places = how === "none" ? rows.keys() : order(texts, how === "descending");
      body.append(...[...places].map(k => rows[k]));
    });
  }

  const tools = document.querySelector(".tools"), field = tools.querySelector("input"), said = tools.querySelector("output");
  // A table of a data set stands under its name, which its rows do not repeat.
  const above = table => {
    let at = table.parentElement;
    while (at && !at.matches("h3, summary")) at = at.previousElementSibling;
    return at && !at.querySelector("h2") ? at.textContent + " " : "";
  };
  const all = tables.flatMap(table => {
    const heading = above(table);
    return [...table.tBodies[0].rows].map(row => [row, heading + [...row.cells].map(cell => cell.textContent).join(" ")]);
  });
  field.oninput = () => {
    const fits = matching(field.value);
    let shown = 0;
    for (const [row, text] of all) { row.hidden = !fits(text); shown += !row.hidden; }
    said.textContent = field.value.trim() ? `${shown} of ${all.length} rows` : "";
  };
  tools.hidden = !all.length;

  const tip = Object.assign(document.createElement("div"), {id: "tip", role: "tooltip", hidden: true});
  tip.setAttribute("role", "tooltip");
  document.body.append(tip);
  const seeds = (document.body.dataset.seeds ?? "").split(" ");
  let cell = null;
  const place = () => {
    if (!cell) return;
    const box = cell.getBoundingClientRect(), below = box.bottom + 6;
    tip.style.left = Math.max(4, Math.min(box.left, innerWidth - tip.offsetWidth - 8)) + "px";
    tip.style.top = (below + tip.offsetHeight > innerHeight ? box.top - tip.offsetHeight - 6 : below) + "px";
  };
  const hide = () => { cell?.removeAttribute("aria-describedby"); cell = null; tip.hidden = true; };
  const show = found => {
    hide();
    cell = found;
    const values = cell.dataset.seeds.split(" "), named = values.length === seeds.length;
    tip.textContent = values.map((value, k) => named ? `seed ${seeds[k]}: ${value}` : value).join("\n");
    tip.hidden = false;
    cell.setAttribute("aria-describedby", "tip");
    place();
  };
  document.addEventListener("mouseover", event => {
    if (event.target.closest("#tip")) return;
    const found = event.target.closest(".mean");
    if (found) show(found); else if (cell && cell !== document.activeElement) hide();
  });
  document.addEventListener("focusin", event => event.target.matches(".mean") ? show(event.target) : hide());
  addEventListener("scroll", place, true);

  const means = table => [...table.querySelectorAll(".mean")];
  for (const table of tables) means(table).forEach((mean, k) => { mean.tabIndex = k ? -1 : 0; });
  document.addEventListener("keydown", event => {
    if (event.key === "Escape") hide();
    const at = event.target.closest(".mean")?.closest("td"), step = {
      ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1]
    }[event.key];
    if (!at || !step) return;
    const rows = [...at.closest("tbody").rows].filter(row => !row.hidden);
    let x = at.cellIndex, y = rows.indexOf(at.parentElement), next = null;
    while (!next && rows[y += step[1]]?.cells[x += step[0]]) next = rows[y].cells[x].querySelector(".mean");
    event.preventDefault();
    if (!next) return;
    means(at.closest("table")).forEach(mean => { mean.tabIndex = -1; });
    next.tabIndex = 0;
    next.focus();
  });
}
"""
