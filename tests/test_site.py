"""The built documentation: whole, without the network, and searchable where it lies."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import needs
import pytest
import tiny
from imports import ROOT
from playwright.sync_api import TimeoutError as Late
from playwright.sync_api import sync_playwright
from ruamel.yaml import YAML

from rectiflow.interpolants import INTERPOLANTS
from rectiflow.objectives import OBJECTIVES
from rectiflow.samplers import SAMPLERS
from rectiflow_command.__main__ import WORDS

LIMIT = 120  # seconds


def build(where: Path, *options: str, root: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """mkdocs, as `make docs` calls it."""
    command = [sys.executable, "-m", "mkdocs", "build", "--site-dir", str(where), *options]
    env = {**tiny.environment(), "PYTHONPATH": f"{root / 'src'}:{root}", "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The site, built once for all tests, whatever process runs them."""

    def make(where: Path) -> None:
        begun = time.monotonic()
        done = build(where)
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr, done.stderr
        assert time.monotonic() - begun < LIMIT

    return tiny.shared(tmp_path_factory, "site", make)


class Page(HTMLParser):
    """What a page links, what it loads, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loads: list[str] = []
        self.places: set[str] = set()
        self.formulas = 0
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.places |= {found[name] for name in ("id", "name") if name in found}
        self.formulas += tag == "math"
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        elif "src" in found or (tag == "link" and "href" in found):
            self.loads.append(found.get("src") or found["href"])


@pytest.fixture(scope="module")
def pages(site):
    return {path: Page(path) for path in sorted(site.rglob("*.html"))}


def test_no_page_loads_anything_from_the_network(site, pages):
    assert len(pages) > 100
    for path, page in pages.items():
        for load in page.loads:
            assert not urlsplit(load).netloc, f"{path}: {load}"
            assert not urlsplit(load).scheme or load.startswith("data:"), f"{path}: {load}"
            if path.name != "404.html" and not load.startswith("data:"):
                assert (path.parent / unquote(urlsplit(load).path)).exists(), f"{path}: {load}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?(https?:)?//|@import", style.read_text()), style


def test_every_link_leads_to_a_page_and_a_place_in_it(pages):
    for path, page in pages.items():
        if path.name == "404.html":
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            there = (path.parent / unquote(parts.path)).resolve() if parts.path else path.resolve()
            there = there / "index.html" if there.is_dir() else there
            assert there in pages, f"{path}: {link}"
            assert not parts.fragment or unquote(parts.fragment) in pages[there].places, f"{path}: {link}"


def test_formulas_are_drawn_by_the_browser_alone(site, pages):
    for path in sorted((ROOT / "docs/mathematics").glob("*.md")):
        built = site / "mathematics" / f"{path.stem}.html"
        written = re.sub(r"^```.*?^```", "", path.read_text(), flags=re.DOTALL | re.MULTILINE)
        written = re.sub(r"`[^`]*`", "", written)
        blocks = written.count("$$") // 2
        assert pages[built].formulas == blocks + written.replace("$$", "").count("$") // 2, path
        assert "arithmatex" not in built.read_text()


# ---- The reference is whole.


def test_every_public_module_has_a_page_with_its_public_names(site, pages):
    paths = sorted((ROOT / "src/rectiflow").rglob("*.py"))
    for path in paths:
        name = ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        page = pages[site / f"reference/python/{name}.html"]
        for made in re.findall(r"^(?:def|class) ([a-zA-Z]\w*)", path.read_text(), re.MULTILINE):
            assert f"{name}.{made}" in page.places, f"{name}.{made}"


def test_the_parameters_page_has_every_section_and_name(site, pages):
    path = site / "reference/parameters.html"
    assert set(YAML(typ="safe").load(ROOT / "params.yaml")) <= pages[path].places
    text = path.read_text()
    for name in (*OBJECTIVES, *INTERPOLANTS, *SAMPLERS):
        assert f"<code>{name}</code>" in text, name


def test_the_command_page_has_every_word(site, pages):
    assert {f"rectiflow-{word}" for word in WORDS} <= pages[site / "reference/command.html"].places


# ---- Search.


def test_a_search_for_a_function_finds_its_page(site):
    index = json.loads((site / "search/search_index.js").read_text().removeprefix("var __index = "))
    titles: dict[str, list[str]] = {}
    for entry in index["docs"]:
        titles.setdefault(re.sub(r"<[^>]*>", " ", entry["title"]).split()[0] if entry["title"] else "", []).append(
            entry["location"]
        )
    for name, module in (("convert", "predictions"), ("sliced_w2", "metrics"), ("entropic_plan", "transport.plans")):
        assert f"reference/python/rectiflow.{module}.html#rectiflow.{module}.{name}" in titles[name]


def test_search_and_formulas_work_from_disk_without_the_network(site):
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=needs.browser(), args=["--no-sandbox"])
        page = browser.new_context(offline=True).new_page()
        errors: list[str] = []
        asked: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto((site / "index.html").as_uri())
        found = page.locator(".md-search-result__link")
        for _ in range(24):  # what is typed before the page listens is lost
            page.locator("input.md-search__input").fill("")
            page.locator("input.md-search__input").press_sequentially("chord_deviation")
            with suppress(Late):
                found.first.wait_for(timeout=5_000)
                break
        first = found.first
        assert "reference/python/rectiflow.metrics.html" in (first.get_attribute("href") or "")
        page.goto((site / "mathematics/paths.html").as_uri())
        boxes = [formula.bounding_box() for formula in page.locator("math").all()]
        assert all(box and box["width"] > 3 and box["height"] > 3 for box in boxes)
        assert not errors
        assert all(url.startswith("file:") for url in asked)
        browser.close()


# ---- What is wrong ends the build.


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("[a](nowhere.md)", "nowhere.md"),
        ("[a](index.md#nowhere)", "#nowhere"),
        ("![a](../reports/nowhere.png)", "nowhere.png"),
        ("A formula, $\\nowhere x$.", "nowhere"),
    ],
)
def test_what_leads_nowhere_ends_the_build(wrong, said, tmp_path):
    """In a small site with the same settings and hooks."""
    (tmp_path / "docs").mkdir()
    for name in ("src", "stages", "reports"):
        (tmp_path / name).symlink_to(ROOT / name)
    for name in ("hooks", "assets", "style"):
        (tmp_path / "docs" / name).symlink_to(ROOT / "docs" / name)
    settings = YAML().load(ROOT / "mkdocs.yml")
    settings["nav"] = [{"Start": "index.md"}]
    settings["hooks"] = ["docs/hooks/formulas.py", "docs/hooks/pictures.py"]
    YAML().dump(settings, tmp_path / "mkdocs.yml")
    for text, code in (("# Start\n\nA formula, $x^2$.\n", 0), (f"# Start\n\n{wrong}\n", 1)):
        (tmp_path / "docs/index.md").write_text(text)
        done = build(tmp_path / "site", root=tmp_path)
        assert done.returncode == code, done.stderr
    assert said in done.stderr
