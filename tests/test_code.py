"""Stamps of the code: what changes them, and what they hold."""

import ast
import json
import sys

import pytest
import tiny
from imports import CODE, ROOT
from ruamel.yaml import YAML

from rectiflow.registry import Registry
from stages.code import COMPUTING, SERVING, TABLES, Code, bare, serial, stamps
from stages.shared.params import Refused

DVC = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
STAGES = sorted({stage.get("do", stage)["cmd"].split()[2] for stage in DVC.values()})


def digest(source):
    return "".join(serial(bare(ast.parse(source))))


SAME = [
    ("x = 1", "# why\nx = 1  # what\n\n"),
    ("x = 1", '"""The module."""\n\nx = (1)\n"""What x is."""'),
    ("def f(a, b): return a", 'def f(\n    a,\n    b,\n):\n    """Docstring."""\n    return a'),
    ("class A:\n    x: int = 1", 'class A:\n    """Docstring."""\n\n    x: int = 1\n    """Of x."""'),
    ("s = 'a'", 's = "a"'),
    ("x = 1", "if TYPE_CHECKING:\n    from a import b\nx = 1"),
    ("from a import Registry\nT = Registry({})", "from a import Registry\nT = Registry({'a': 'b:C'})"),
]
DIFFERENT = [
    ("x = 1", "x = 2"),
    ("x = 1", "x = 1.0"),
    ("x = 'a'", "x = b'a'"),
    ("def f(a): pass", "def f(a=None): pass"),
    ("def f(a): pass", "def f(*, a): pass"),
    ("def f(a: int): pass", "def f(a: str): pass"),  # options are read off signatures
    ("if a:\n    x()\ny()", "if a:\n    x()\n    y()"),
    ("if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2", "if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 3"),
    ("T = {'a': 'b:C'}", "T = {'a': 'b:D'}"),
]


@pytest.mark.parametrize(("one", "other"), SAME)
def test_what_says_nothing_to_the_interpreter_changes_no_digest(one, other):
    assert digest(one) == digest(other)


@pytest.mark.parametrize(("one", "other"), DIFFERENT)
def test_what_may_change_a_result_changes_the_digest(one, other):
    assert digest(one) != digest(other)


FILES = {
    "src/rectiflow/__init__.py": '"""The package."""\n',
    "src/rectiflow/a.py": "import rectiflow.b\nimport numpy as np\nimport tqdm\n",
    "src/rectiflow/b.py": "def f():\n    from rectiflow import c\n",
    "src/rectiflow/c.py": "import torch.nn\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import rectiflow.d\n",
    "src/rectiflow/d.py": "import novelty\n",
    "src/rectiflow/kinds/__init__.py": "from rectiflow.registry import Registry\nKINDS = Registry({'e': 'x.e:E'})\n",
    "src/rectiflow/kinds/e.py": "from . import f\nfrom ..d import g\n",
    "src/rectiflow/kinds/f.py": "",
    "src/rectiflow/registry.py": "class Registry: ...\n",
    "stages/__init__.py": "import gc\n",
    "stages/one.py": "import rectiflow.a\nfrom rectiflow.kinds import KINDS\n",
    "stages/page/__main__.py": "import os\n",
    "constraints.txt": "# pins\nnumpy==2.0\ntorch==2.1\ntqdm==4.0\n",
}


@pytest.fixture
def project(tmp_path):
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def listed(stamp):
    """The modules and the pins of a stamp."""
    lines = [line.split("  ") for line in stamp.splitlines() if "  " in line]
    return {name for head, name in lines if head != "PIN"}, {name for head, name in lines if head == "PIN"}


def test_a_stamp_lists_what_is_imported_anywhere_but_for_type_checkers_and_not_the_entries_of_tables(project):
    modules, pins = listed(stamps(Code(project), {})["one"])
    assert modules == {"stages", "stages.one", *(f"rectiflow.{name}" for name in ("a", "b", "c", "kinds", "registry"))}
    assert pins == {"numpy==2.0", "torch==2.1"}


def test_an_entry_has_a_stamp_of_its_own_and_its_table_one_of_all(project):
    found = stamps(Code(project), {"kind": Registry({"e": "rectiflow.kinds.e:E"})})
    assert set(found) == {"one", "page", "kind", "kind.e"}
    assert found["kind.e"].startswith("rectiflow.kinds.e:E\n")
    modules, pins = listed(found["kind.e"])
    assert modules == {"rectiflow.d", "rectiflow.kinds", "rectiflow.kinds.e", "rectiflow.registry"}  # f has nothing in it
    assert pins == {"novelty"}  # which no table of ours knows: it may compute
    with pytest.raises(Refused, match=r"kind 'g': there is no module 'rectiflow\.g'"):
        stamps(Code(project), {"kind": Registry({"g": "rectiflow.g:G"})})


def test_one_more_entry_changes_the_stamps_of_its_table_alone(project):
    before = stamps(Code(project), {"kind": Registry({"e": "rectiflow.kinds.e:E"})})
    (project / "src/rectiflow/kinds/h.py").write_text("class H: ...\n")
    places = {"e": "rectiflow.kinds.e:E", "h": "rectiflow.kinds.h:H"}
    text = f"from rectiflow.registry import Registry\nKINDS = Registry({places})\n"
    (project / "src/rectiflow/kinds/__init__.py").write_text(text)
    after = stamps(Code(project), {"kind": Registry(places)})
    assert {name for name in after if after[name] != before.get(name)} == {"kind", "kind.h"}


def test_a_module_that_is_not_python_is_named_with_its_line(project):
    (project / "src/rectiflow/c.py").write_text("x = 1\ny = = 2\n")
    with pytest.raises(Refused, match=r"src/rectiflow/c\.py, line 2: "):
        stamps(Code(project), {})


def test_the_stage_writes_what_changed_and_removes_what_is_gone(tmp_path):
    where = tiny.clone(tmp_path / "clone")
    command = [sys.executable, "-m", "stages.code"]
    assert tiny.run(where, *command).returncode == 0
    folder = where / "data/code"
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert before.keys() == stamps(CODE).keys()
    (folder / "gone").touch()
    tiny.replace(where, "constraints.txt", "matplotlib==", "matplotlib==0")
    assert tiny.run(where, *command).returncode == 0
    after = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    draws = {name for name in after if "matplotlib" in (folder / name).read_text()}
    assert {name for name in after if after[name] != before[name]} == draws > {"report"}


@pytest.mark.parametrize("module", STAGES)
def test_a_stamp_names_all_that_python_imports_for_a_stage(module):
    """What its source says against what the interpreter does."""
    name = module if CODE.file(f"{module}.__main__") is None else f"{module}.__main__"
    code = f"import json, sys, importlib; importlib.import_module({name!r}); print(json.dumps([*sys.modules]))"
    done = tiny.run(ROOT, sys.executable, "-c", code)
    loaded = {one for one in json.loads(done.stdout) if CODE.file(one) and CODE.module(one).digest}
    closure = CODE.closure(name)
    assert loaded <= closure
    assert {one for one in closure - loaded if one.startswith("stages.")} == set()


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_of_dvc_yaml_depends_on_its_stamp_and_its_stamps_are_made(name):
    for stage in (stage.get("do", stage) for stage in DVC.values()):
        if stage["cmd"].split()[2] == name and name != "stages.code":
            read = {dep.removeprefix("data/code/") for dep in stage["deps"] if dep.startswith("data/code/")}
            rows = (f"{table}.${{item.{of}{table}}}" for table in TABLES for of in ("", "teacher_"))
            made = {*stamps(CODE), *rows}
            assert name.removeprefix("stages.") in read <= made
            assert not [dep for dep in stage["deps"] if dep.endswith(".py")]


def test_every_distribution_that_is_imported_computes_or_serves():
    modules = [
        ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
        for base, folder in ((ROOT / "src", "rectiflow"), (ROOT, "stages"))
        for path in (base / folder).rglob("*.py")
    ]
    assert len(modules) > 50
    assert CODE.foreign(modules) == set(COMPUTING) | set(SERVING)
    assert {COMPUTING[name] for name in COMPUTING} <= {line.partition("==")[0] for line in CODE.pins.values()}
