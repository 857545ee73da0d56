"""The report in a real browser without a network: tables, means, sections, points that move, and what every page owes."""

import json
import re
from itertools import pairwise
from pathlib import Path

import needs
import numpy as np
import pandas as pd
import pytest
from playwright.sync_api import Page, expect, sync_playwright
from test_page import DENSITY, RESULTS, drawn, rows

from stages.report.evidence import Evidence
from stages.report.measurements import compact, link
from stages.report.page import page as report
from stages.report.results import COLUMNS
from stages.report.trajectories import moving, widest

WIDE = [f"long_{k}" for k in range(14)]  # methods
FLOWS = {("ring", "icfm", k): drawn(50, True) for k in (0, 1)}
CONTRAST = """() => {
  const channels = text => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => {
    const [x, y, z] = [r, g, b].map(c => (c /= 255) <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * x + 0.7152 * y + 0.0722 * z;
  };
  const ground = element => {
    for (let at = element; at; at = at.parentElement) {
      const colour = channels(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  const found = [], walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walk.nextNode()) {
    const element = walk.currentNode.parentElement;
    if (!walk.currentNode.data.trim() || element.matches("script, style") || element.disabled) continue;
    const style = getComputedStyle(element), colour = element.closest("svg") ? style.fill : style.color;
    const [a, b] = [light(channels(colour)), light(ground(element))].sort((a, b) => b - a);
    found.push([(a + 0.05) / (b + 0.05), element.tagName, walk.currentNode.data.trim().slice(0, 30)]);
  }
  return found;
}"""


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=needs.browser(), args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, path: Path, **options) -> tuple[Page, list[str]]:
    """A page from disk at 1100 px without a network, and the errors it has had."""
    context = browser.new_context(offline=True, viewport={"width": 1100, "height": 900}, **options)
    context.set_default_timeout(10_000)
    shown, errors = context.new_page(), []
    shown.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
    shown.on("pageerror", lambda error: errors.append(str(error)))
    shown.goto(path.as_uri())
    return shown, errors


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """The report of many models, with a table that is wider than the page."""
    many = [row for name in WIDE for row in rows(name, 0, "reference", 50, w2=0.3 + 0.1 * WIDE.index(name), w2_floor=0.2)]
    shown = FLOWS | {("ring", name, 0): drawn(50, True) for name in WIDE} | {("ring", "nvp", 0): drawn(1, False)}
    losses = pd.DataFrame([[*key, step, 0.5] for key in shown for step in (10, 20)])
    losses.columns = ["dataset", "method", "round", "step", "validation"]
    text = report(
        Evidence(pd.DataFrame(RESULTS + DENSITY + many, columns=COLUMNS)), losses, shown, "a: 1\n" * 50, [], [], {}, {}
    )
    path = tmp_path_factory.mktemp("page") / "index.html"
    path.write_text(text)
    return path


@pytest.fixture
def page(browser, path):
    shown, errors = opened(browser, path)
    yield shown
    assert not errors
    shown.context.close()


def column(table, k: int) -> list[str]:
    return [row.locator("td").nth(k).inner_text() for row in table.locator("tbody tr").all() if row.is_visible()]


def natural(text: str) -> list[int | str]:
    """Words with their numbers as numbers."""
    return [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", text)]


def test_it_opens_from_disk_within_two_seconds_and_asks_nobody(page, path):
    timing = page.evaluate("performance.getEntriesByType('navigation')[0].loadEventEnd")
    assert 0 < timing < 2000
    assert page.evaluate("performance.getEntriesByType('resource').filter(e => !e.name.startsWith('data:')).length") == 0
    assert not re.search(r"""(?:src|href)=["']\w+:(?<!data:)|@import""", path.read_text())


def test_nothing_is_wider_than_the_page_and_the_page_is_short_until_it_is_opened(page):
    size = "[document.documentElement.scrollWidth, document.documentElement.scrollHeight]"
    width, folded = page.evaluate(size)
    assert width <= 1100
    assert folded < 3500
    page.get_by_role("button", name="open all").click()
    assert page.evaluate(size)[0] <= 1100
    boxes = page.evaluate(
        "[...document.querySelectorAll('.wide')].filter(e => e.getBoundingClientRect().right > 1100).length"
    )
    assert boxes == 0
    assert page.evaluate("[...document.images].every(image => image.getBoundingClientRect().right <= 1100)")
    page.get_by_role("button", name="fold all").click()
    assert page.evaluate(size)[1] < folded


def test_a_link_of_the_contents_opens_its_section(page):
    training = page.locator("#training")
    assert training.get_attribute("open") is None
    page.get_by_role("link", name="Training curves").click()
    expect(training).to_have_attribute("open", "")
    expect(training).to_be_in_viewport()


def test_a_table_is_sorted_by_click_and_by_keyboard_and_back(page):
    table = page.locator("#summary table").first
    head, before = table.locator("th").nth(1), column(table, 0)
    means = lambda: [float(text.split()[0]) for text in column(table, 1)]
    head.click()
    assert head.get_attribute("aria-sort") == "ascending"
    assert means() == sorted(means())
    head.focus()
    page.keyboard.press("Enter")
    assert head.get_attribute("aria-sort") == "descending"
    assert means() == sorted(means(), reverse=True)
    page.keyboard.press("Space")
    assert head.get_attribute("aria-sort") == "none"
    assert column(table, 0) == before
    table.locator("th").first.click()
    assert column(table, 0) == sorted(
        before, key=lambda text: [int(p) if p.isdigit() else p for p in re.split(r"(\d+)", text)]
    )
    assert head.get_attribute("aria-sort") == "none"


def test_cells_without_a_number_come_last_either_way(page):
    table = page.locator("#summary table").first
    for _ in range(2):
        table.locator("th", has_text="straightness").click()
        cells = column(table, 4)
        there = [bool(cell) for cell in cells]
        assert any(there)
        assert there == sorted(there, reverse=True)


def test_every_word_must_be_in_a_row_or_above_its_table(page):
    field, table = page.locator(".tools input"), page.locator("#summary table").first
    field.fill("LONG_13 round")
    assert column(table, 0) == ["long_13, round 0"]
    expect(page.locator(".tools output")).to_contain_text("rows")
    field.fill("icfm ring")
    assert column(table, 0) == ["icfm, round 0", "icfm, round 1"]
    field.fill("icfm nowhere")
    assert column(table, 0) == []
    field.fill("")
    assert len(column(table, 0)) == 3 + len(WIDE)


def test_a_mean_shows_the_value_of_every_seed_to_the_pointer_and_to_the_keyboard(page):
    frame = pd.DataFrame(RESULTS, columns=COLUMNS)
    found = frame.query("method == 'icfm' and round == 0 and metric == 'w2' and role == 'reference'").value
    expected = "\n".join(f"seed {k}: {value:.6g}" for k, value in enumerate(found))
    mean, tip = page.locator("#summary .mean").first, page.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    mean.hover()
    expect(tip).to_have_text(expected, use_inner_text=True)
    page.mouse.move(5, 5)
    expect(tip).to_be_hidden()
    page.locator("#summary th").last.focus()
    page.keyboard.press("Tab")
    expect(tip).to_have_text(expected, use_inner_text=True)
    expect(mean).to_have_attribute("aria-describedby", "tip")
    page.keyboard.press("ArrowDown")
    expect(tip).to_be_visible()
    assert page.evaluate("document.activeElement.closest('tr').cells[0].textContent") == "icfm, round 1"
    box = tip.bounding_box()
    assert 0 <= box["x"] <= 1100 - box["width"]
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_a_number_leads_to_the_rows_it_was_made_of(page):
    number = page.locator("#summary .mean").nth(1)
    shown, seeds = number.inner_text(), number.get_attribute("data-seeds").split()
    number.click()
    table = page.locator("#measurements table")
    expect(table).to_be_in_viewport()
    assert column(table, 6) == ["w2"]
    cells = table.locator("tbody td").all_inner_texts()
    assert [float(cell) for cell in cells[-3:]] == pytest.approx([float(value) for value in seeds], rel=1e-5)
    assert float(cells[7]) == pytest.approx(float(shown.split()[0]), rel=0.05)
    field = page.locator("#measurements input")
    field.fill("metric=w2 role=reference icfm")
    assert column(table, 2) == ["0", "1"]
    field.fill("")
    expect(page.locator("#measurements output")).to_contain_text("1 to ")


def test_all_rows_can_be_paged_through_and_sorted(page):
    page.get_by_role("link", name="All measurements").click()
    table, said = page.locator("#measurements table"), page.locator("#measurements output")
    expect(said).to_contain_text("rows")  # drawn once the page has shown the table
    rows_there = int(re.search(r"of (\d+) rows", said.inner_text())[1])
    frame = pd.DataFrame(RESULTS + DENSITY, columns=COLUMNS)
    assert rows_there == len(frame.drop(columns=["seed", "value"]).drop_duplicates()) + 2 * len(WIDE)
    table.locator("th", has_text="mean").click()
    means = [float(text) for text in column(table, 7)]
    assert means == sorted(means)


def test_what_is_compact_is_all_there_is():
    frame = pd.DataFrame([*RESULTS, ["ring", "icfm", 0, 7, "dopri5", 26, "", "w2", np.nan]], columns=COLUMNS)
    found = compact(frame)
    keys, words = found["columns"], found["words"]
    back = {
        (*(words[j][k] for j, k in enumerate(row[: len(keys)])), seed): value
        for row in found["rows"] for seed, value in zip(found["seeds"], row[len(keys) :], strict=True) if value is not None
    }  # fmt: skip
    assert len(back) == len(RESULTS)
    for *key, value in frame[:-1][[*keys, "seed", "value"]].itertuples(index=False):
        *texts, seed = key
        texts[keys.index("nfe")] = f"{texts[keys.index('nfe')]:g}"
        assert back[(*map(str, texts), seed)] == pytest.approx(value, rel=1e-6)


def test_a_link_says_which_rows():
    assert link(("ring", "icfm", 1), "w2_1step") == "#measurements?dataset=ring&method=icfm&round=1&metric=w2&role=one_step"


def test_the_points_of_every_flow_move_with_t_by_mouse_and_by_keyboard(page):
    page.get_by_role("link", name="Trajectories").click()
    figure = page.locator("figure.moving")
    slider, said = figure.get_by_role("slider"), figure.locator("output")
    names = json.loads(figure.locator("script").text_content())["names"]
    assert len(names) == len(FLOWS) + len(WIDE)
    picture = lambda: figure.locator("canvas").evaluate("canvas => canvas.toDataURL()")
    first = picture()
    expect(said).to_have_text("0.00")
    slider.focus()
    page.keyboard.press("ArrowRight")
    expect(said).to_have_text("0.50")
    assert slider.get_attribute("aria-valuetext") == "0.50"
    assert picture() != first
    box = slider.bounding_box()
    page.mouse.click(box["x"] + box["width"] - 2, box["y"] + box["height"] / 2)
    expect(said).to_have_text("1.00")
    page.keyboard.press("Home")
    expect(said).to_have_text("0.00")
    assert picture() == first
    figure.get_by_role("button", name="play").click()
    expect(said).to_have_text("1.00")


def test_who_asks_for_less_motion_sees_the_end_at_once(browser, path):
    page, errors = opened(browser, path, reduced_motion="reduce")
    page.get_by_role("link", name="Trajectories").click()
    figure = page.locator("figure.moving")
    figure.get_by_role("button", name="play").click()
    assert figure.locator("output").inner_text() == "1.00"
    expect(figure.get_by_role("button", name="play")).to_be_visible()
    assert not errors
    page.context.close()


def test_frames_are_the_flows_own_states_and_flows_of_other_times_have_a_player_of_their_own():
    flow = drawn(50, True)
    late = flow._replace(times=np.array([0.0, 0.2, 1.0]))
    one, two = moving("ring", {("ring", "a", 0): flow, ("ring", "b", 0): flow, ("ring", "late", 0): late})
    assert '"said": ["0.00", "0.50", "1.00"]' in one
    assert '"names": ["late, round 0"], "said": ["0.00", "0.20", "1.00"]' in two
    picture = drawn(50, True, (1, 2, 2))
    scaled = picture._replace(target=picture.target * np.array([0.0, 3.0, 0.1, 2.0], np.float32))
    assert widest(scaled) == (1, 3)


def test_every_text_can_be_read_every_picture_has_words_and_headings_are_in_order(page):
    page.get_by_role("button", name="open all").click()
    contrasts = page.evaluate(CONTRAST)
    assert len(contrasts) > 100
    assert [found for found in contrasts if found[0] < 4.5] == []
    assert page.evaluate("document.documentElement.lang") == "en"
    assert page.evaluate("[...document.images].every(image => image.alt.length > 10)")
    assert page.evaluate("[...document.querySelectorAll('canvas')].every(c => c.getAttribute('aria-label').length > 10)")
    levels = page.evaluate("[...document.querySelectorAll('h1, h2, h3, h4')].map(h => +h.tagName[1])")
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    named = "e => (e.labels?.length || e.getAttribute('aria-label') || e.textContent.trim())"
    assert page.evaluate(f"[...document.querySelectorAll('input, button, a, [tabindex]')].every({named})")
