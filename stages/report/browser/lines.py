"""Lines of parallel coordinates: the one under the pointer or with the focus is told below; arrow keys go to the next."""

SCRIPT = """
for (const figure of document.querySelectorAll("figure.lines")) {
  const runs = [...figure.querySelectorAll(".run")], said = figure.querySelector("output");
  runs.forEach((run, k) => {
    run.tabIndex = k ? -1 : 0;
    const tell = () => { said.textContent = run.getAttribute("aria-label"); };
    run.addEventListener("mouseover", tell);
    run.addEventListener("focus", tell);
    run.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key];
      if (!step) return;
      event.preventDefault();
      const next = runs[(k + step + runs.length) % runs.length];
      run.tabIndex = -1; next.tabIndex = 0; next.focus();
    });
  });
}
"""
