"""Pictures in the report: on real files, what the page shows was drawn and measured; of known numbers, what it says."""

import base64
import copy
import io
import json
import re
from html import unescape
from zlib import crc32

import numpy as np
import pandas as pd
import pytest
import tiny
from PIL import Image
from test_conditions import CLASSES

from stages.check.whole import check
from stages.report.albums import COLUMNS as PICTURES
from stages.report.albums import Album, Drawing, Roll, picked
from stages.report.evidence import Evidence
from stages.report.results import COLUMNS
from stages.report.sheets import MOST, by_class, by_steps, by_time, headings
from stages.report.studies.images import images
from stages.shared.io import read_table
from stages.shared.measures import MEASURES
from stages.shared.params import Refused
from stages.shared.studies import Study

SIDE, MEGABYTE = 8, 2**20
METHODS = ["guided", "plain", "vae", "codes-guided"]


def params():
    """Digits with classes, plans by class and without, a bottleneck and its latents, and a study of all."""
    content = tiny.YAML(typ="safe").load(CLASSES)
    content["methods"]["plain"] = content["methods"]["guided"] | {"coupling": "independent"}
    content["grid"]["plain"]["methods"] = ["plain", "vae"]
    content["datasets"]["digits"]["test"] = 150
    content["training"]["steps"] = 250
    for block in content["grid"].values():
        block["modes"] = {}
    content["studies"] = {
        "seen": {"kind": "images", "title": "Digits", "datasets": ["digits"], "methods": METHODS, "rounds": 1}
    }
    return content


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    return tiny.computed(tmp_path_factory, json.dumps(params()))


@pytest.fixture(scope="module")
def section(project):
    """The section's HTML."""
    page = (project / "reports" / "index.html").read_text()
    return page[page.index('id="seen"') : page.index('id="nfe"')]


def rows_of(table):
    """The cells of a table, its head first."""
    cells = re.compile(r"<t[hd][^>]*>(.*?)</t[hd]>", re.DOTALL)
    return [cells.findall(row) for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)]


def tables(html, figure=False):
    """The tables of numbers, or of pictures."""
    pattern = r'<figure class="pictures"><table>.*?</table>' if figure else r"(?<!pictures\">)<table>.*?</table>"
    return [rows_of(found) for found in re.findall(pattern, html, re.DOTALL)]


def pixels(cell):
    """The picture in a cell, rows of levels; None without one."""
    found = re.search(r'src="data:image/png;base64,([^"]+)"', cell)
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(found[1])))).astype(int) if found else None


def tiles(cell, rows=1):
    """The pictures of a cell as points `(n, dim)` in whole levels."""
    levels, step = pixels(cell), SIDE + 1
    columns = levels.shape[1] // step
    found = levels.reshape(rows, step, columns, step)[:, :SIDE, :, :SIDE]
    return found.transpose(0, 2, 1, 3).reshape(rows * columns, -1)


def levels(x):
    """Points in [-1, 1] as such levels: dark on white."""
    return np.round(255 * (1 - np.clip(x, -1, 1)) / 2).astype(int)


def test_every_number_of_the_table_stands_in_the_results(project, section):
    head, *rows = tables(section)[0]
    results = pd.read_csv(project / "reports" / "results.csv")
    results = results[results.dataset == "digits"]
    named = {MEASURES[name].title: name for name in ("precision", "recall")}
    named |= {"W2 of pixels (ranks nothing)": "w2", "W2 of pixels to reconstructions (ranks nothing)": "w2_reconstructed"}
    assert set(head[3:]) == set(named)
    drawn = results[results.metric == "w2"].groupby(["method", "round", "solver", "nfe"]).ngroups
    assert len(rows) == drawn + 2  # reconstructions and real pictures
    for model, solver, nfe, *cells in rows[:drawn]:
        method, k = model.split(", round ")
        mine = results[(results.method == method) & (results["round"] == int(k)) & (results.solver == unescape(solver))]
        mine = mine[mine.nfe == float(nfe)]
        for name, cell in zip(head[3:], cells, strict=True):
            values = mine[mine.metric == named[name]].sort_values("seed").value
            seeds = re.search(r'data-seeds="([^"]+)"', cell)
            assert (seeds[1].split() if seeds else []) == [f"{value:.6g}" for value in values]


def test_every_class_has_a_row_whose_pictures_are_of_it(project, section):
    head, *rows = tables(section, figure=True)[0]
    assert [row[0] for row in rows] == [f"class {k}" for k in range(10)]
    table = read_table(project / "data/generate/digits/target.parquet")
    known = {label: levels(table["x"][table["label"] == label]) for label in range(10)}
    for k, row in enumerate(rows):
        for tile in tiles(row[1]):
            assert (known[k] == tile).all(1).any()
    panel = next(k for k, name in enumerate(head) if name == "guided, round 1: euler, 10 evaluations")
    drawn = read_table(project / "data/sample/digits-guided-round1/samples.parquet", seed=0, role="reference")
    for k, row in enumerate(rows):
        asked, seen = levels(drawn["x"][drawn["label"] == k]), tiles(row[panel])
        assert len(seen) >= 4
        assert (abs(seen - asked[: len(seen)]) <= 1).all()


def test_a_column_is_one_x0_whatever_draws_from_it(project, section):
    head, *rows = next(table for table in tables(section, figure=True) if table[1][0].startswith("euler, 1 "))
    assert {name.partition(",")[0] for name in head[1:]} == set(METHODS)
    table = read_table(project / "data/sample/digits-plain-round0/samples.parquet", seed=0)
    column, places = head.index("plain, round 0"), []
    for row in rows:
        if pixels(row[column]) is None:
            continue
        solver, nfe = re.fullmatch(r"(.+), (\d+) evaluations?", row[0]).groups()
        x = levels(table["x"][(table["solver"] == solver) & (table["nfe"] == int(nfe))])
        places.append([int(np.abs(x - tile).sum(1).argmin()) for tile in tiles(row[column])])
    assert len(places) == 3
    assert len(set(map(tuple, places))) == 1


def test_paths_begin_in_noise_and_end_where_their_draws_do(project, section):
    head, *rows = tables(section, figure=True)[-1]
    assert all(re.fullmatch(r"x0 \d \(\d\)", row[0]) for row in rows)
    drawn = read_table(project / "data/sample/digits-guided-round0/samples.parquet", seed=0, role="reference")
    ends = levels(drawn["x"])
    for row in rows:
        states, headed = np.split(tiles(row[head.index("guided, round 0")], rows=2), 2)
        assert (np.abs(ends - states[-1]) <= 1).all(1).any()
        assert (headed[-1] == states[-1]).all()


def test_every_picture_is_named_and_stands_once_on_a_small_page(project, section):
    pictures = re.findall(r'<img src="(data:image/png[^"]+)" alt="([^"]*)"', section)
    assert len(pictures) > 50
    assert all(said for _, said in pictures)
    assert len({source for source, _ in pictures}) == len(pictures)
    assert (project / "reports" / "index.html").stat().st_size < 6 * MEGABYTE


def test_without_a_judge_precision_ranks_and_w2_does_not(section):
    assert "the largest precision" in section
    assert "the smallest W2" not in section
    assert "Frechet" not in section
    assert "guided, round 1 against 0: the precision by " in section
    assert "guidance 2 of guided, round 0, at 20 evaluations against 10 without: the precision by " in section
    assert "guided against plain, round 0: the precision by " in section


def test_a_step_from_a_straight_path_ends_where_it_does():
    times, generator = np.linspace(0, 1, 6), np.random.default_rng(0)
    x0, x1 = generator.normal(size=(2, 7))
    assert np.allclose(headings(times, x0 + times[:, None] * (x1 - x0)), x1)
    bent = np.cumsum(generator.normal(size=(6, 7)), 0)
    assert np.allclose(headings(times, bent)[-2:], bent[-1])


# ---- What is said of known numbers.

SEEDS, NUMBER = range(4), re.compile(r"\d+\.\d+")
FLOORS = ("frechet", "w2", "feature_precision", "neighbour", "judged_accuracy", "frechet_reconstructed")


def row(method, k, solver, nfe, role, **means):
    """Rows of a draw: its seeds move as those of other draws do, and a thousandth apart."""
    keys = {"dataset": "digits", "method": method, "round": k, "solver": solver, "nfe": nfe, "role": role}
    generator = np.random.default_rng(crc32(repr((keys, means)).encode()))
    return [
        keys | {"metric": name, "seed": seed, "value": mean + np.sin(seed) / 100 + generator.normal(0, 1e-3)}
        for name, mean in means.items()
        for seed in SEEDS
    ]


def judged(*more):
    """A judge's numbers of a flow that is rectified and guided, with plans or without."""
    rows = []
    for method, better in (("icfm", 0.0), ("otcfm", 1.0)):
        rows += row(method, 0, "euler", 1, "one_step", frechet=170 - better, w2=11, neighbour=9, judged_accuracy=1)
        rows += row(method, 0, "euler", 50, "reference", frechet=6 - better, w2=12, neighbour=11, judged_accuracy=0.9)
        rows += row(method, 0, "euler(guidance 2)", 100, "", frechet=9 - better, w2=13, neighbour=9, judged_accuracy=0.99)
        rows += row(method, 1, "euler", 1, "one_step", frechet=8 - better, w2=12.5, neighbour=11, judged_accuracy=0.8)
        rows += row(method, 1, "euler", 50, "reference", frechet=7 - better, w2=12, neighbour=8, judged_accuracy=0.85)
        for k in (0, 1):
            rows += row(method, k, "", 0, "", **{f"{name}_floor": 1.0 for name in FLOORS} | {"neighbour_floor": 10})
    return [*rows, *(each for of in more for each in of)]


def couplings(*rows):
    return lambda: pd.DataFrame(rows, columns=["dataset", "method", "coupling", "else"])


def said(rows, methods=("icfm", "otcfm"), album=lambda _: None):
    tables = {"couplings": couplings(["digits", "icfm", "independent", "a"], ["digits", "otcfm", "exact", "a"])}
    study = Study(kind="images", title="", datasets=["digits"], methods=list(methods))
    return "".join(images(study, Evidence(pd.DataFrame(rows, columns=COLUMNS), tables, album)))


def told(text, what):
    """A finding."""
    found = text[text.index(f"<b>digits, {what}</b>") :]
    return re.split(r"</ul>|(?<!:)</p>", found)[0]


def test_what_changes_a_distance_is_said_with_its_interval_and_sense():
    text = said(judged())
    rounds = told(text, "what a round of reflow changes")
    assert re.search(
        r"icfm, round 1 against 0: the Frechet distance by -16[12]\.\d+ ± \S+ \(better\) at 1 evaluation, "
        r"by (1\.0|0\.99)\d* ± \S+ \(worse\) at 50 evaluations",
        rounds,
    )
    guidance = told(text, "what guidance changes")
    assert re.search(r"guidance 2 of icfm, round 0, at 100 evaluations against 50 without", guidance)
    assert len(re.findall(r"Frechet distance by (3\.0|2\.99)\d* ± \S+ \(worse\)", guidance)) == 2
    assert len(re.findall(r"share judged of its class by 0\.0[89]\d* ± \S+ \(better\)", guidance)) == 2
    assert told(text, "pairs of a plan against independent ones").count("(better)") == 4
    deceived = told(text, "what deceives")
    assert "share judged of its class of a single step of icfm, round 0 is " in deceived
    assert "W2 of pixels (ranks nothing) of a single step of icfm, round 0 is 1" in deceived
    assert "round 1" not in deceived  # there W2 says what is so
    copies = told(text, "copies")
    near, far = copies.split("as far or farther")
    assert "icfm, round 1" in near
    assert "round 0" not in near
    assert "icfm, round 0" in far


def test_latents_stand_beside_reconstructions_and_their_floor():
    latent = row("codes-icfm", 0, "euler", 51, "reference", frechet=55, frechet_reconstructed=1.5, w2=10)
    latent += row("codes-icfm", 0, "", 0, "", frechet_decoder=53, frechet_reconstructed_floor=0.5, w2_decoder=10)
    text = said(judged(latent), ("icfm", "codes-icfm"))
    for number in (55, 53, 1.5, 0.5):
        assert any(float(each) == pytest.approx(number, abs=0.02) for each in NUMBER.findall(told(text, "latents")))
    assert "reconstructions (codes-icfm)" in text
    assert "digits, latents" not in said(judged())


def test_what_is_not_measured_is_left_out():
    rows = [each for each in judged() if each["metric"] in ("w2", "w2_floor")]
    text = said(rows)
    assert "nothing was measured that ranks pictures" in text
    assert "(better)" not in text
    assert text.count("<table>") == 1
    alone = said([each for each in judged() if each["seed"] == 0])
    assert "(better)" not in alone
    assert "(worse)" not in alone


# ---- Sheets.


def album(models, classes=10, dim=3 * 32 * 32, steps=5):
    label = np.arange(400) % classes if classes else None
    lines, rows = picked(label, range(classes), 400)
    x = np.random.default_rng(0).uniform(-1, 1, (len(rows), dim)).astype(np.float32)
    drawings = [Drawing("euler", nfe, "reference" if nfe == steps else "", x) for nfe in range(1, steps + 1)]
    return Album(0, (3, 32, 32), lines, x, {(f"m{k}", 0): Roll(drawings, bool(classes)) for k in range(models)})


def test_many_models_have_fewer_pictures_each():
    for models in (1, 60):
        sheets = [*by_class(album(models), "x"), *by_steps(album(models), "x")]
        assert [sheet.count("<img") for sheet in sheets] == [10 * (models + 1), 5 * models]
        assert sum(map(len, sheets)) < 2 * 2 * 1.4 * MOST
        assert by_time(album(models), "x") == []


def test_without_classes_pictures_stand_in_one_row():
    assert picked(None, None, 30)[0] == {None: slice(0, 30)}
    (sheet,) = by_class(album(2, classes=0), "x")
    assert sheet.count("<tr>") == 2
    assert sheet.count("<img") == 3
    assert "class " not in sheet


def test_a_class_without_rows_is_left_out_and_a_small_one_is_short():
    label = np.array([0] * 20 + [2] * 3)
    lines, rows = picked(label, ["a", "b", "c"], 23)
    assert lines == {"a": slice(0, PICTURES), "c": slice(PICTURES, PICTURES + 3)}
    assert (label[rows[lines["c"]]] == 2).all()


def test_points_are_no_pictures():
    content = copy.deepcopy(params())
    content["studies"]["seen"] |= {"datasets": ["codes"], "methods": ["guided"]}
    with pytest.raises(Refused, match=r"studies.seen.datasets: 'codes' are no pictures"):
        check(content)
