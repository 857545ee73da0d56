"""Commands and files that README and CONTRIBUTING name are there; what is cheap is run."""

import os
import re
import shlex
import subprocess
import sys
from functools import cache

import pytest
import tiny
from imports import ROOT

DOCUMENTS = ("README.md", "CONTRIBUTING.md")
SETTING = re.compile(r"[A-Z_]+=")
ELSEWHERE = (
    "dvc repro",
    "dvc exp run",
    "python -m flows.repro",
    "python -m flows.sweep",
    "python -m pytest",
    "python -m stages.density",
)  # run by other tests
# What these commands take for granted: a branch and two experiments.
BRANCH, EXPERIMENTS = "main", ("my-run", "quick-otter")


def commands(document: str) -> list[str]:
    """The lines of a document's console blocks, without comments."""
    blocks = re.findall(r"^```console\n(.*?)^```", (ROOT / document).read_text(), re.DOTALL | re.MULTILINE)
    lines = (re.sub(r"\s#.*", "", line).strip() for block in blocks for line in block.splitlines())
    return list(dict.fromkeys(filter(None, lines)))


def words(line: str) -> list[str]:
    """The words of a command, without the variables that it sets."""
    found = shlex.split(line)
    while SETTING.match(found[0]):
        found.pop(0)
    return found


def cheap(line: str) -> bool:
    return words(line)[0] in ("python", "dvc", "rectiflow") and not " ".join(words(line)).startswith(ELSEWHERE)


LINES = list(dict.fromkeys(line for document in DOCUMENTS for line in commands(document)))
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


def git(command: str, *_: str) -> None:
    assert f"usage: git {command}" in said("git", command, "-h")


def make(*targets: str) -> None:
    """The targets are there. Nothing is made."""
    done = subprocess.run(["make", "-n", *targets], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", [line for line in LINES if line not in RUN])
def test_the_command_is_there(line):
    match words(line):
        case ["make", *targets]:
            make(*targets)
        case ["python", "-m", name, *rest]:
            module(name, *rest)
        case ["dvc", *rest]:
            dvc(*rest)
        case ["git", command, *rest]:
            git(command, *rest)
        case [".", ".venv/bin/activate"]:
            pass
        case other:
            pytest.fail(f"no test knows {other[0]!r}")


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


@pytest.mark.parametrize("document", DOCUMENTS)
def test_the_files_are_there(document):
    """Paths in backticks with a folder that git tracks, and links."""
    text = (ROOT / document).read_text()
    named = {path for path in re.findall(r"`([\w.-]+/[\w./-]*)`", text) if path.split("/")[0] in os.listdir(ROOT)}
    linked = set(re.findall(r"\]\(([^):]+)\)", text))
    missing = {path for path in named | linked if not (ROOT / path).exists() and not ignored(path)}
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
