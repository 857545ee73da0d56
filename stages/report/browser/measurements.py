"""All measurements, of which a page of rows is built when it is asked for.

Every word of the field must be in a row; `metric=w2` asks for exactly that in the column of that name. A link to
`#measurements?metric=w2&round=0` fills in the field.
"""

SCRIPT = r"""
{
  const panel = document.querySelector(".measurements");
  const {columns, seeds, words, rows} = JSON.parse(panel.querySelector("script").textContent);
  const table = panel.querySelector("table"), field = panel.querySelector("input"), said = panel.querySelector("output");
  const [before, after] = panel.querySelectorAll("button"), PAGE = 50, keys = columns.length;
  const all = rows.map(row => {
    const values = row.slice(keys).map(value => value === null ? "" : String(value)), there = values.filter(Boolean);
    const mean = there.length ? String(+(there.reduce((sum, value) => sum + +value, 0) / there.length).toPrecision(7)) : "";
    return [...row.slice(0, keys).map((k, column) => words[column][k]), mean, ...values];
  });
  let ordered = [...all.keys()], first = 0;

  const asked = () => {
    const parts = field.value.split(/\s+/).filter(Boolean);
    const pairs = parts.map(part => part.split("="));
    const exact = pairs.filter(([name, value]) => value !== undefined && columns.includes(name));
    const fits = matching(parts.filter(part => !exact.some(pair => pair.join("=") === part)).join(" "));
    return row => exact.every(([name, value]) => row[columns.indexOf(name)] === value) && fits(row.slice(0, keys).join(" "));
  };
  const show = () => {
    const found = ordered.filter(k => wanted(all[k]));
    first = Math.max(0, Math.min(first, PAGE * Math.floor((found.length - 1) / PAGE)));
    const shown = found.slice(first, first + PAGE);
    table.tBodies[0].replaceChildren(...shown.map(k => {
      const row = document.createElement("tr");
      row.append(...all[k].map(text => Object.assign(document.createElement("td"), {textContent: text})));
      return row;
    }));
    said.textContent = `${found.length ? first + 1 : 0} to ${first + shown.length} of ${found.length} rows`;
    before.disabled = !first;
    after.disabled = first + PAGE >= found.length;
  };
  let wanted = asked();
  const fill = () => { wanted = asked(); first = 0; show(); };
  field.oninput = fill;
  before.onclick = () => { first -= PAGE; show(); };
  after.onclick = () => { first += PAGE; show(); };
  sortable(table, (column, how) => {
    const texts = all.map(row => row[column]);
    ordered = how === "none" ? [...all.keys()] : order(texts, how === "descending");
    first = 0; show();
  });
  const follow = () => {
    const [name, query] = location.hash.slice(1).split("?");
    if (name !== panel.closest("details").id || query === undefined) return;
    field.value = query.split("&").map(decodeURIComponent).join(" ");
    fill();
    field.focus({preventScroll: true});
  };
  addEventListener("hashchange", follow);
  panel.closest("details").addEventListener("toggle", () => { if (!table.tBodies[0].rows.length) fill(); });
  follow();
}
"""
