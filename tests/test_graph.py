"""The graph of a project: what DVC makes of dvc.yaml, with stages of a kind in one box."""

import sys
import xml.etree.ElementTree as ET
from collections import Counter

import pytest
import tiny
from imports import ROOT

from flows.running.pipeline import Pipeline
from stages.report.graph import Graph, graph, mermaid, svg
from stages.shared.params import GRID, PARAMS, parse_file

PROJECTS = [".", *(f"experiments/{name}" for name in ("paradigms", "exercises", "gradient_flows"))]


def of(project):
    root = ROOT / project
    return graph(parse_file(root / "dvc.yaml"), {**parse_file(root / PARAMS), **parse_file(root / GRID)})


@pytest.mark.parametrize("project", PROJECTS)
def test_it_is_what_dvc_makes_of_it(project):
    pipeline = Pipeline(ROOT / project)
    try:
        kinds = {name: name.partition("@")[0] for name in pipeline.stages}
        needs = {(kinds[before], kinds[name]) for name, of in pipeline.plan().items() for before in of}
    finally:
        pipeline.close()
    found = of(project)
    assert found.counts == Counter(kinds.values())
    assert set(found.needs) == {(before, after) for before, after in needs if before != after}


def test_what_a_longer_way_says_is_left_out_and_nothing_else():
    found = Graph({kind: 1 for kind in "abcd"}, [("a", "b"), ("b", "c"), ("a", "c"), ("c", "d"), ("d", "b"), ("a", "d")])
    assert found.direct() == [("a", "b"), ("b", "c"), ("c", "d"), ("d", "b")]
    assert found.layers() == {"a": 0, "b": 1, "c": 2, "d": 3}


@pytest.mark.parametrize("project", PROJECTS)
def test_pictures_have_a_box_for_every_kind(project):
    found = of(project)
    boxes = [f"{kind} ({count})" if count > 1 else kind for kind, count in found.counts.items()]
    drawn = ET.fromstring(svg(found))
    assert [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")] == boxes
    width, height = map(float, drawn.get("viewBox").split()[2:])
    for box in drawn.iter("{http://www.w3.org/2000/svg}rect"):
        x, y, w, h = (float(box.get(name)) for name in ("x", "y", "width", "height"))
        assert 0 <= x <= x + w <= width
        assert 0 <= y <= y + h <= height
    said = mermaid(found)
    assert all(f'["{box}"]' in said for box in boxes)
    assert said.count("-.->") == len(set(found.direct()) - set(found.forward))


def test_the_command_prints_and_writes_it(tmp_path):
    done = tiny.run(ROOT, sys.executable, "-m", "rectiflow_command", "graph")
    assert done.stdout == mermaid(of("."))
    done = tiny.run(ROOT, sys.executable, "-m", "rectiflow_command", "graph", "-o", str(tmp_path / "graph.svg"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "graph.svg").read_text() == svg(of("."))
