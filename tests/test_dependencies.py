"""dvc.yaml says exactly what parameters each stage reads, and dependencies point one way. Its code: see test_code."""

import ast
import importlib
import json
import re
import sys

import pytest
import tiny
from imports import CODE, ROOT
from ruamel.yaml import YAML

import rectiflow
import stages.shared.params
from stages.grid import expand
from stages.shared.params import GRID, PARAMS

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def template(name):
    return DVC[name].get("do", DVC[name])


def module(name):
    found = template(name)["cmd"].split()[2]
    return f"{found}.__main__" if (ROOT / found.replace(".", "/")).is_dir() else found


STARTED = ["import gc", "import os", "gc.disable()", "os.environ.setdefault('ARROW_DEFAULT_MEMORY_POOL', 'system')"]


def test_packages_run_no_code_on_import_that_a_result_could_depend_on():
    for package, allowed in (("src/rectiflow", []), ("stages", STARTED)):
        code = ast.parse((ROOT / package / "__init__.py").read_text()).body[1:]
        assert [ast.unparse(node) for node in code if getattr(node, "name", "") != "__getattr__"] == allowed


USERS = {"fit": "rectiflow.fitting", "load": "rectiflow.saved", "Trained": "rectiflow.trained"}


def test_what_the_library_offers_to_users_is_there_and_none_of_the_projects_modules_asks_for_it():
    """Stamps leave out what a package gives on look-up."""
    for name, module in USERS.items():
        assert getattr(rectiflow, name) is getattr(importlib.import_module(module), name)
    with pytest.raises(AttributeError, match="module 'rectiflow' has no attribute 'trian'"):
        rectiflow.trian  # noqa: B018
    for name in modules("rectiflow") + modules("stages"):
        assert not CODE.module(name).imports & {f"rectiflow.{user}" for user in USERS}


def modules(folder):
    """The modules in a folder, by name."""
    base = ROOT / "src" if folder == "rectiflow" else ROOT
    paths = sorted((base / folder).rglob("*.py"))
    return [".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__") for path in paths]


def heads(name):
    """What a module imports, its first parts."""
    return {one.split(".")[0] for one in CODE.module(name).imports}


FILES = ("rectiflow.files", "rectiflow.saved", "rectiflow.pictures")  # what a user keeps, and collections, lie on the disk


@pytest.mark.parametrize("name", modules("rectiflow"))
def test_the_library_knows_no_stage_no_orchestrator_and_no_files(name):
    foreign = {"dvc", "prefect", "pydantic", "click", "stages", "flows", "rectiflow_command", "pyarrow", "pandas"}
    foreign |= set() if name in FILES else {"os", "pathlib", "subprocess"}
    assert not heads(name) & foreign


@pytest.mark.parametrize("name", modules("stages"))
def test_stages_know_no_flow(name):
    assert "flows" not in heads(name)


def test_flows_are_read_too():
    assert {"flows", "stages"} <= heads("flows.repro")


class Recording(dict):
    """A mapping that remembers which keys were asked for."""

    def __init__(self, content, seen, path, deep):
        super().__init__(content)
        self.seen, self.path, self.deep = seen, path, deep

    def __getitem__(self, key):
        self.seen.add(".".join([*self.path, key]))
        value = super().__getitem__(key)
        if not (self.deep and isinstance(value, dict)):
            return value
        return Recording(value, self.seen, (*self.path, key), self.deep - 1)


BEYOND = {
    "relations": {"twice": {"dataset": "bimodal", "first": "bimodal-icfm-round0", "second": "bimodal-icfm-round0"}},
    "choices": {
        "bimodal-auto": {
            "dataset": "bimodal",
            "pairs": "couple/bimodal-independent",
            "candidates": [{"name": "linear"}, {"name": "trig"}],
            "sampler": {"name": "euler", "steps": 2},
        }
    },
}
DOWN = {
    "dataset": "bimodal", "source": {"name": "gaussian", "mean": [1.0, 1.0]}, "tau": 0.1, "steps": 1, "test": 20,
    "scheme": {"name": "langevin", "points": 30}, "teacher": "bimodal-icfm-round0",
}  # fmt: skip
# Stages and the rows that are run: latents are there once their bottleneck is trained, rounds one after the other.
OURS, LATENT = "(?!codes)", "codes"
ORDER = [
    ("check", ""), ("generate", ""), ("ingest", ""), ("floor", ""), ("table_floor", ""), ("couple", OURS),
    ("train", f"{OURS}.*round0"), ("encode", ""), ("latent_floor", ""), ("couple", LATENT), ("train", f"{LATENT}.*round0"),
    ("reflow", ".*round1"), ("train", ".*round1"), ("rectify", ".*round2"), ("choose", ""), ("relate", ""),
    ("sample", ".*round0"), ("evaluate", ".*round0"), ("decode", ""), ("density", ".*round0"), ("modes", ".*round0"),
    ("bound", ""), ("judge", ""), ("features", ".*round0"), ("baseline", ""), ("jko", ""),
    ("tokens", ".*round0"), ("given", ".*round0"), ("rollout", ".*round0"), ("collapse", ""),
]  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A clone in which the stages were run one after the other, with the parameters that each one read."""
    content = tiny.params()
    content["grid"]["plane"] |= {
        "until": 2,
        "density": {"outliers": {"name": "box", "low": [0, 0], "high": [1, 1], "rows": 9}},
        "modes": {"reach": 2.0},
    }
    content["grid"]["own"] |= {"density": {}}  # of a table
    content["methods"]["fsq"] = {"objective": "elbo", "model": {"name": "fsq", "levels": [2, 2]}}
    content["grid"]["narrow"] = {"datasets": ["bimodal"], "methods": ["fsq"], "bound": {"samples": 2}}
    content["latents"] = {"codes": {"dataset": "bimodal", "method": "fsq"}}
    content["grid"]["latent"] = {"datasets": ["codes"], "methods": ["icfm"], "modes": {}}
    content["gradient_flows"] = {"down": DOWN}
    content["datasets"]["digits"] = {"name": "digits", "validation": 20, "test": 60, "pool": 200}
    content["judges"] = {"reader": {"dataset": "digits", "shift": 1}}
    content["grid"]["pictures"] = {"datasets": ["digits"], "methods": ["fsq"], "features": {"judge": "reader"}}
    content["datasets"]["words"] = {"name": "strings", "length": 4, "train": 60, "validation": 20, "test": 40, "pool": 2}
    content["methods"]["tok"] = {"objective": "tokens", "model": {"name": "tokens"}}
    content["samplers"] = {**content.get("samplers", {}), "tok": [{"name": "ctmc", "steps": 2}]}
    content["grid"]["words"] = {"datasets": ["words"], "methods": ["tok"], "tokens": {"samples": 2}}
    content["datasets"]["swing"] = {"name": "pendulum", "train": 60, "validation": 20, "test": 40, "pool": 100}
    content["methods"]["normal"] = {"objective": "likelihood", "model": {"name": "gaussian"}}
    content["grid"]["swing"] = {"datasets": ["swing"], "methods": ["normal"], "given": {}, "rollouts": {"steps": 3}}
    content["datasets"]["states"] = {**content["datasets"]["swing"], "whole": True}
    content["methods"]["next"] = {"objective": "predictive", "model": {"name": "predictive"}}
    content["grid"]["states"] = {"datasets": ["states"], "methods": ["next"], "collapse": {}}
    files = {PARAMS: content, GRID: expand(content)}
    where, read = tiny.clone(tmp_path_factory.mktemp("recorded"), json.dumps(content)), {}
    rows = {name: stage["foreach"].strip("${}") for name, stage in DVC.items() if "foreach" in stage}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(where)
        for name, pattern in ORDER:
            of = files[GRID if rows.get(name) in files[GRID] else PARAMS]
            for key in [key for key in of[rows[name]] if re.match(pattern, key)] if name in rows else [""]:
                seen = set()
                stages.shared.params.read.cache_clear()
                patch.setattr(
                    stages.shared.params, "parse_file",
                    lambda path, seen=seen: Recording(files[path], seen, *((), 1) if path == PARAMS else ((str(path),), 2)),
                )  # fmt: skip
                args = template(name)["cmd"].split()[3:]
                importlib.import_module(module(name)).main([key if arg == "${key}" else arg for arg in args])
                read[name, key] = seen
            content.update(BEYOND if name == "check" else {})  # rows for the stages that the tiny grid has none of
        yield files, read
    stages.shared.params.read.cache_clear()


def declared(name, key, item):
    """The parameters of a row's stage in dvc.yaml, dotted keys with the file before those that are not of params.yaml."""
    for param in template(name).get("params", []):
        for text in [param] if isinstance(param, str) else [f"{file}.{one}" for file, part in param.items() for one in part]:
            yield re.sub(r"\$\{item\.(\w+)\}", lambda found: str(item[found[1]]), text.replace("${key}", key))


def in_names(name, row):
    """The keys of a row of grid.yaml that a stage may read without a line of its own: data set, method and round, which are
    in the row's name, and what is in the names of its dependencies. With another value it is another stage, or depends on
    something else.
    """
    depends = json.dumps([template(name)["deps"], template(name).get("params")])
    return {"dataset", "method", "round"} & set(row) | set(re.findall(r"\$\{item\.(\w+)\}", depends))


@pytest.mark.parametrize("name", sorted({name for name in DVC if "foreach" in DVC[name]}))
def test_a_stages_params_are_exactly_the_keys_it_reads(workspace, name):
    files, read = workspace
    iterated = DVC[name]["foreach"].strip("${}")
    found = {key: seen for (stage, key), seen in read.items() if stage == name}
    assert found
    for key, seen in found.items():
        item = files[GRID if iterated in files[GRID] else PARAMS][iterated][key]
        tracked = set(declared(name, key, item))
        leaves = {path for path in seen if not any(other.startswith(path + ".") for other in seen)}
        # A row that is read whole is recorded by its name: all its keys are read.
        whole = f"{GRID}.{iterated}.{key}"
        leaves = {f"{whole}.{one}" for one in item if whole in leaves} | leaves - {whole}
        leaves -= {f"{whole}.{one}" for one in in_names(name, item)}
        # A section that is read whole is recorded by its own name; what is looked up inside it needs no line of its own.
        # How many threads share the work is told to a stage, and changes nothing that it computes.
        assert {leaf if leaf in tracked else leaf.split(".")[0] for leaf in leaves} - {"workers"} == tracked


@pytest.mark.parametrize("name", ["floor", "evaluate", "modes", "report.__main__", "grid", "code"])
def test_what_only_reads_numbers_starts_without_torch(name):
    """Its import takes a second, and every flow of the grid is evaluated by a process of its own."""
    code = f"import sys, stages.{name}; sys.exit('torch' in sys.modules)"
    assert tiny.run(ROOT, sys.executable, "-c", code).returncode == 0
