"""Every block of code in README, CONTRIBUTING and the pages is held: run, checked, or what it names is looked for."""

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import click
import kubernetes_validate
import pytest
import tiny
from documents import Block, blocks, documents, lines, of_kind, script
from imports import ROOT
from ruamel.yaml import YAML

from flows.cluster import queues
from rectiflow_command.__main__ import WORDS, Words
from stages.check.whole import check
from stages.shared.params import PARAMS, Refused, parse_file

DOCUMENTS = documents()
SETTING = re.compile(r"[A-Z_]+=")
ELSEWHERE = (
    "dvc repro",
    "dvc exp run",
    "dvc remote",
    "python -m pytest",
    "python -m tools.release",
    *(f"rectiflow {word}" for word in ("new", "repro", "sample", "score", "export", "ui", "compare", "sweep")),
)  # run by other tests
# What these commands take for granted: a branch and two experiments.
BRANCH, EXPERIMENTS = "main", ("my-run", "quick-otter")


# ---- Blocks.

KINDS = ("python", "yaml", "console", "text")


def kinds(document: str) -> set[str]:
    """Of a document's blocks."""
    return {block.kind for block in blocks(document)}


def unheld(found: list[Block]) -> list[str]:
    """The blocks that nothing below looks at."""
    return [f"{block.document}:{block.line}: {block.kind}" for block in found if block.kind not in KINDS]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_block_is_of_a_kind_that_is_held(document):
    assert not unheld(blocks(document))


def test_blocks_that_nothing_holds_are_found():
    assert unheld(blocks("x.md", "a\n```ruby\nputs 1\n```\n")) == ["x.md:2: ruby"]
    for wrong in ("```\nx\n```\n", "```python title\nx\n```\n", "```python\nx\n", "```python\nx\n````\n"):
        with pytest.raises(ValueError, match=r"x\.md:1"):
            blocks("x.md", wrong)


# ---- Python: a page's blocks in order, in one process and a folder of their own.


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty folder with the project's table in it."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/faithful.parquet").symlink_to(ROOT / "data/faithful.parquet")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run_python(document: str, where: Path, text: str | None = None) -> str:
    """What a page's Python says on stderr where it fails, nothing where it does not."""
    if text is None and "python" not in kinds(document):
        return ""
    file = where / Path(document).with_suffix(".py").name
    file.write_text(script(document) if text is None else text)
    paths = os.pathsep.join(map(str, (ROOT / "src", ROOT)))
    done = subprocess.run(
        [sys.executable, "-W", "error::SyntaxWarning", file],
        cwd=where, env={**tiny.environment(), "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stderr if done.returncode else ""


def test_python_that_fails_is_told_by_the_line_of_its_page(folder):
    assert "line 3, in <module>\n    assert 1 == 2" in run_python("x.md", folder, "\n\nassert 1 == 2\n")


# ---- YAML: merged into params.yaml, a block over those before it, and checked as `python -m stages.check` does; or what its
# first line says that it is.


def over(base: Any, block: Any) -> Any:
    """A section with what a block changes in it; one of another `name` takes its place."""
    if not (isinstance(base, Mapping) and isinstance(block, Mapping)):
        return block
    if block.get("name", base.get("name")) != base.get("name"):
        return block
    return {**base, **{key: over(base.get(key), value) for key, value in block.items()}}


def check_queue(text: str) -> None:
    """A `queue.yaml` that a runner reads."""
    Path("queue.yaml").write_text(text)
    queues.resources(queues.read(Path()), {"train", "sample"})


def check_job(text: str) -> None:
    """What a container of the Job may have besides."""
    manifests = [manifest for manifest in YAML(typ="safe").load_all((ROOT / "kubernetes/job.yaml").read_text()) if manifest]
    (job,) = [manifest for manifest in manifests if manifest["kind"] == "Job"]
    job["spec"]["template"]["spec"]["containers"][0] |= YAML(typ="safe").load(text)
    kubernetes_validate.validate(job, "1.32", strict=True)


FILES = {"# queue.yaml": check_queue, "# kubernetes/job.yaml": check_job}


def check_parameters(document: str) -> None:
    """Merge and check a page's YAML; fail by the line of the block that is refused."""
    content = parse_file(ROOT / PARAMS)
    for block in of_kind(document, "yaml"):
        try:
            if other := FILES.get(block.text.split("\n")[0].strip()):
                other(block.text)
                continue
            content = over(content, YAML(typ="safe").load(block.text))
            check(content)
        except (Refused, kubernetes_validate.ValidationError) as error:
            pytest.fail(f"{document}:{block.line}: {error}")


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if {"python", "yaml"} & kinds(document)])
def test_a_page_holds(document, folder):
    """Its Python first, which may write the tables that its parameters name."""
    assert not run_python(document, folder)
    check_parameters(document)


def test_parameters_that_are_wrong_are_found(folder):
    content = over(parse_file(ROOT / PARAMS), {"methods": {"icfm": {"interpolant": {"name": "crooked"}}}})
    with pytest.raises(Refused, match=r"methods\.icfm\.interpolant\.name: 'crooked'"):
        check(content)


# ---- Text: a picture of the graph.


@pytest.mark.parametrize("document", [document for document in DOCUMENTS if of_kind(document, "text")])
def test_pictures_of_the_graph_name_its_stages(document):
    stages = set(YAML(typ="safe").load((ROOT / "dvc.yaml").read_text())["stages"])
    for block in of_kind(document, "text"):
        words = set(re.findall(r"[a-z]+", re.sub(r"round \d", "", block.text)))
        assert words
        assert words <= stages


# ---- Console.

LINES = list(dict.fromkeys(line for document in DOCUMENTS for line in lines(document)))


def words(line: str) -> list[str]:
    """The words of a command, without the variables that it sets."""
    found = shlex.split(line)
    while SETTING.match(found[0]):
        found.pop(0)
    return found


def cheap(line: str) -> bool:
    return words(line)[0] in ("python", "dvc", "rectiflow") and not " ".join(words(line)).startswith(ELSEWHERE)


RUN = [line for line in LINES if cheap(line)]


@cache
def said(*command: str) -> str:
    done = subprocess.run(command, cwd=ROOT, env=tiny.environment(), capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def module(name: str, *rest: str) -> None:
    """`python -m NAME ...`: it has the options, the files are there."""
    usage = said(sys.executable, "-m", name, "--help")
    assert usage.startswith("usage: "), usage
    for word in rest:
        if word.startswith("-"):
            assert re.search(rf"(^|[\s,\[]){re.escape(word.split('=')[0])}\b", usage), word
        if word.startswith("tests/"):
            assert (ROOT / word).is_file()


def dvc(*rest: str) -> None:
    """`dvc COMMAND [COMMAND] ...`: it has the commands and options."""
    group = rest[:2] if rest[0] in ("exp", "metrics", "plots", "remote", "cache") else rest[:1]
    usage = said(sys.executable, "-m", "dvc", *group, "--help")
    assert re.match(f"usage: dvc {' '.join(group).replace('exp ', '(exp|experiments) ')}", usage), usage
    for word in rest[len(group) :]:
        assert not word.startswith("-") or re.search(rf"(^|[\s,\[]){re.escape(word)}\b", usage), word


def rectiflow(word: str, *rest: str) -> None:
    """`rectiflow WORD ...`: there is the word, it has the options, and takes as many arguments."""
    assert word in WORDS, f"rectiflow has no word {word!r}"
    command = Words("rectiflow").get_command(None, word)  # type: ignore[arg-type]
    assert command is not None
    command.make_context(f"rectiflow {word}", list(rest), resilient_parsing=False)  # only parsed


def git(command: str, *_: str) -> None:
    assert f"usage: git {command}" in said("git", command, "-h")


def pip(*rest: str) -> None:
    """`pip install ...`: files are there, and so are the extras."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert rest[0] == "install"
    for before, word in pairwise(rest):
        assert before != "-c" or (ROOT / word).is_file()
        if found := re.fullmatch(r"\.\[(.*)\]", word):
            assert set(found[1].split(",")) <= set(extras)


def manifests(*rest: str) -> None:
    """What starts containers elsewhere: the files that it reads are there, and what compose is asked for is a word of it."""
    for before, word in pairwise(rest):
        assert before != "-f" or (ROOT / word).is_file()
    assert rest[0] != "compose" or {"up", "down"} & set(rest)


def make(*targets: str) -> None:
    """The targets are there. Nothing is made."""
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def look(line: str) -> None:
    """Fail unless everything that a command names is there."""
    match words(line):
        case ["make", *targets]:
            make(*targets)
        case ["python", "-m", name, *rest]:
            module(name, *rest)
        case ["dvc", *rest]:
            dvc(*rest)
        case ["rectiflow", *rest]:
            rectiflow(*rest)
        case ["git", command, *rest]:
            git(command, *rest)
        case ["pip", *rest]:
            pip(*rest)
        case ["docker" | "kubectl", *rest]:
            manifests(*rest)
        case [".", ".venv/bin/activate"] | ["cd", _] | ["umask" | "printf" | "read", *_]:
            pass
        case other:
            pytest.fail(f"no test knows {other[0]!r}")


@pytest.mark.parametrize("line", [line for line in LINES if line not in RUN])
def test_the_command_is_there(line):
    look(line)


@pytest.mark.parametrize(
    "line",
    ["make nothing", "python -m flows.sweep --nothing", "dvc nothing", "rectiflow nothing", "pip install -e '.[none]'"],
)
def test_a_command_that_is_not_there_is_found(line):
    with pytest.raises((AssertionError, pytest.fail.Exception, click.UsageError)):
        look(line)


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A computed clone that has what the commands name."""
    clone = tiny.computed(tmp_path_factory)
    tiny.git(clone, "branch", "-f", "-M", BRANCH)
    for name in EXPERIMENTS:
        saved = tiny.run(clone, sys.executable, "-m", "dvc", "exp", "save", "--force", "--name", name)
        assert saved.returncode == 0, saved.stderr
    return clone


@pytest.mark.parametrize("line", RUN)
def test_the_command_runs(where, line):
    done = tiny.run(where, *words(line))
    assert done.returncode == 0, done.stdout + done.stderr


# ---- What they name besides.


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_are_there(document):
    """Paths in backticks with a folder that git tracks, and links; those of pages to each other the site's build holds."""
    text = (ROOT / document).read_text()
    named = {path for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text) if path.split("/")[0] in os.listdir(ROOT)}
    missing = {path for path in named if not (ROOT / path).exists() and not ignored(path)}
    if not document.startswith("docs/"):
        linked = {link.partition("#")[0] for link in re.findall(r"\]\(([^):]+)\)", text)}
        missing |= {path for path in linked if not (ROOT / path).exists()}
    assert not missing


def ignored(path: str) -> bool:
    """Whether it is something that a run makes."""
    return subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT, check=False).returncode == 0


def test_the_tables_are_where_contributing_says():
    names = re.findall(r"^\| \w+(?: \w+)? \| .* \| `([A-Z]+)`.*\|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    assert len(names) > 5
    for name in names:
        code = [path for floor in ("src", "stages") for path in (ROOT / floor).rglob("*.py")]
        assert any(re.search(rf"^{name}\b.* = ", path.read_text(), re.MULTILINE) for path in code), name


def test_the_readme_is_short():
    """A screen and a half: sixty lines that are not empty, and two blocks."""
    kept = [line for line in (ROOT / "README.md").read_text().splitlines() if line.strip()]
    assert len(kept) <= 60
