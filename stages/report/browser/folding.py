"""Sections that fold: a link to one opens it, two buttons open and fold all of them, and paper has all of them open."""

SCRIPT = """
{
  const sections = [...document.querySelectorAll("details.section")];
  const all = open => sections.forEach(section => { section.open = open; });
  document.querySelector(".unfold").onclick = () => all(true);
  document.querySelector(".fold").onclick = () => all(false);
  const follow = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1).split("?")[0]));
    for (let at = target; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
    target?.scrollIntoView();
  };
  addEventListener("hashchange", follow);
  document.querySelectorAll("nav a").forEach(link => { link.onclick = () => setTimeout(follow); });
  addEventListener("beforeprint", () => all(true));
  follow();
}
"""
