"""dvc.yaml says exactly what each stage imports and reads, and dependencies point one way."""

import ast
import importlib
import sys
from pathlib import Path

import pytest
import tiny
from imports import PACKAGES, ROOT, closure, imported
from ruamel.yaml import YAML

import stages.shared.params

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def template(name):
    return DVC[name].get("do", DVC[name])


def module(name):
    return template(name)["cmd"].split()[2]


@pytest.mark.parametrize("name", DVC)
def test_a_stages_code_deps_are_exactly_the_modules_it_imports(name):
    code = {Path(dep) for dep in template(name)["deps"] if dep.endswith(".py")}
    assert code == closure(module(name))


def test_packages_run_no_code_on_import_that_a_result_could_depend_on():
    for package, allowed in (("src/rectiflow", []), ("stages", ["import gc", "gc.disable()"])):
        code = ast.parse((ROOT / package / "__init__.py").read_text()).body[1:]
        assert [ast.unparse(node) for node in code] == allowed


@pytest.mark.parametrize("path", sorted((ROOT / "src/rectiflow").glob("*.py")), ids=lambda path: path.stem)
def test_the_library_knows_no_stage_no_orchestrator_and_no_files(path):
    foreign = {"dvc", "prefect", "pydantic", "stages", "flows", "os", "pathlib", "subprocess", "pyarrow", "pandas"}
    names = {
        name.split(".")[0]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in ([alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""])
    }
    assert not names & foreign


@pytest.mark.parametrize("path", sorted((ROOT / "stages").glob("*.py")), ids=lambda path: path.stem)
def test_stages_know_no_flow(path):
    assert not any(name.split(".")[0] == "flows" for name in imported(path))
    assert PACKAGES["flows"] == ROOT


class Recording(dict):
    """A mapping that remembers which keys were asked for."""

    def __init__(self, content, seen, path=()):
        super().__init__(content)
        self.seen, self.path = seen, path

    def __getitem__(self, key):
        self.seen.add(".".join([*self.path, key]))
        value = super().__getitem__(key)
        return Recording(value, self.seen, (*self.path, key)) if isinstance(value, dict) and len(self.path) < 1 else value


FLOW = {"dataset": "bimodal", "method": "icfm"}
BEYOND = {
    "until": {"bimodal-icfm-round2": {**FLOW, "pairs": "reflow/bimodal-icfm-round2", "flow": "bimodal-icfm-round1"}},
    "relations": {"twice": {"dataset": "bimodal", "first": "bimodal-icfm-round0", "second": "bimodal-icfm-round0"}},
    "choices": {
        "bimodal-auto": {
            "dataset": "bimodal",
            "pairs": "couple/bimodal-independent",
            "candidates": [{"name": "linear"}, {"name": "trig"}],
            "solver": {"name": "euler", "steps": 2},
        }
    },
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A clone in which the stages were run one after the other, with the parameters that each one read."""
    where = tiny.clone(tmp_path_factory.mktemp("recorded"))
    content, original, read = tiny.params(), stages.shared.params.YAML, {}
    rows = {name: stage["foreach"].strip("${}") for name, stage in DVC.items() if "foreach" in stage}
    order = [
        "check",
        "generate",
        "ingest",
        "floor",
        "table_floor",
        "couple",
        ("train", 0),
        ("reflow", 0),
        ("train", 1),
        "rectify",
        "choose",
    ]
    order += ["relate", "sample", "evaluate"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        for step in order:
            name, k = step if isinstance(step, tuple) else (step, None)
            keys = list(content[rows[name]]) if name in rows else [""]
            if name == "train":
                keys = [key for key in keys if ("flow" in content["flows"][key]) == bool(k)]
            for key in keys:
                seen = set()
                patch.setattr(stages.shared.params, "YAML", lambda typ, seen=seen: Fake(content, seen))
                stages.shared.params.read.cache_clear()
                args = template(name)["cmd"].split()[3:]
                importlib.import_module(module(name)).main([key if arg == "${key}" else arg for arg in args])
                read[name, key] = seen
            content.update(BEYOND if name == "check" else {})  # rows for the stages that the tiny grid has none of
        patch.setattr(stages.shared.params, "YAML", original)
        stages.shared.params.read.cache_clear()
        yield content, read
    stages.shared.params.read.cache_clear()


class Fake:
    def __init__(self, content, seen):
        self.content, self.seen = content, seen

    def load(self, _):
        return Recording(self.content, self.seen)


@pytest.mark.parametrize("name", sorted({name for name in DVC if "foreach" in DVC[name]}))
def test_a_stages_params_are_exactly_the_keys_it_reads(workspace, name):
    content, read = workspace
    for (stage, key), seen in read.items():
        if stage != name:
            continue
        iterated = DVC[name]["foreach"].strip("${}")
        item = content[iterated][key]
        declared = {
            param.replace("${key}", key).replace("${item.method}", str(item.get("method")))
            .replace("${item.coupling}", str(item.get("coupling")))
            for param in template(name)["params"]
        }  # fmt: skip
        leaves = {path for path in seen if not any(other.startswith(path + ".") for other in seen)}
        # A section that is read whole is recorded by its own name; what is looked up inside it needs no line of its own.
        assert {leaf if leaf in declared else leaf.split(".")[0] for leaf in leaves} == declared


@pytest.mark.parametrize("name", ["floor", "evaluate", "report"])
def test_what_only_reads_numbers_starts_without_torch(name):
    """Its import takes a second, and every flow of the grid is evaluated by a process of its own."""
    code = f"import sys, stages.{name}; sys.exit('torch' in sys.modules)"
    assert tiny.run(ROOT, sys.executable, "-c", code).returncode == 0
