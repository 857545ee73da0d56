"""Releases in a repository of their own, verdicts on recorded answers of pip-audit, and the files that others read."""

import json
import os
import subprocess
import sys

import jsonschema
import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

from tools.audit import allowed, verdict

CHANGELOG = "# Changelog\n\n## [Unreleased]\n\n### Added\n\n- A thing.\n"


@pytest.fixture
def repository(tmp_path):
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    tiny.init(tmp_path)
    tiny.git(tmp_path, "add", "-A")
    tiny.git(tmp_path, "commit", "-qm", "begun")
    return tmp_path


def release(where, *words):
    env = {**tiny.environment(), "PYTHONPATH": str(ROOT)}
    return subprocess.run(
        [sys.executable, "-m", "tools.release", *words], cwd=where, env=env, capture_output=True, text=True
    )


def test_a_release_dates_the_changes_and_tags_a_clean_tree(repository):
    assert release(repository, "0.1.0", "--dry-run").returncode == 0
    assert (repository / "CHANGELOG.md").read_text() == CHANGELOG
    assert not tiny.git(repository, "tag")
    done = release(repository, "0.1.0")
    assert done.returncode == 0, done.stderr
    text = (repository / "CHANGELOG.md").read_text()
    day = tiny.git(repository, "log", "-1", "--format=%ad", "--date=short").strip()
    assert text == f"# Changelog\n\n## [Unreleased]\n\n## [0.1.0] - {day}\n\n### Added\n\n- A thing.\n"
    assert tiny.git(repository, "describe").strip() == "v0.1.0"
    assert not tiny.git(repository, "status", "--porcelain")
    assert "tells of no unreleased change" in release(repository, "0.2.0").stderr
    (repository / "CHANGELOG.md").write_text(text.replace("[Unreleased]\n", "[Unreleased]\n\n- More.\n"))
    tiny.git(repository, "commit", "-qam", "more")
    assert "0.1.0 does not come after 0.1.0" in release(repository, "0.1.0").stderr
    assert release(repository, "0.10.0").returncode == 0
    assert "0.9.0 does not come after 0.10.0" in release(repository, "0.9.0").stderr
    heads = [line for line in (repository / "CHANGELOG.md").read_text().splitlines() if line.startswith("## ")]
    assert heads == ["## [Unreleased]", f"## [0.10.0] - {day}", f"## [0.1.0] - {day}"]


@pytest.mark.parametrize("version", ["1", "v1.0.0", "1.0", "01.0.0", "1.0.0; id", "--all"])
def test_what_is_no_version_is_refused(repository, version):
    assert release(repository, version).returncode != 0
    assert not tiny.git(repository, "tag")


def test_a_tree_with_changes_is_not_released(repository):
    (repository / "new").touch()
    done = release(repository, "0.1.0")
    assert done.returncode == 1
    assert done.stderr == "error: the tree has changes that are not committed: ?? new\n"


# ---- Audits. The answer is pip-audit 2.10's, shortened: a package with a finding, one without, one it could not ask for.
FOUND = {"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"], "aliases": ["CVE-2019-10906"], "description": "..."}
ANSWER = {
    "dependencies": [
        {"name": "jinja2", "version": "2.10", "vulns": [FOUND]},
        {"name": "click", "version": "8.5.1", "vulns": []},
        {"name": "own", "skip_reason": "Dependency not found on PyPI and could not be audited: own (1.0)"},
    ],
    "fixes": [],
}


def test_a_finding_fails_unless_it_is_allowed_by_any_of_its_names():
    lines, well = verdict(ANSWER, {})
    assert not well
    assert lines[0].startswith("jinja2 2.10: PYSEC-2019-217: fixed in 2.10.1")
    assert lines[1] == "2 of 3 packages were asked for; nothing is known of own"
    for name in ("PYSEC-2019-217", "CVE-2019-10906"):
        lines, well = verdict(ANSWER, {name: "no templates of others"})
        assert well
        assert lines[0].endswith("allowed: no templates of others")
    assert not verdict(ANSWER, {"CVE-0": "another"})[1]


@pytest.mark.parametrize("answer", [None, {"dependencies": [ANSWER["dependencies"][2]]}])
def test_a_database_that_cannot_be_asked_is_told_and_fails_nothing(answer):
    lines, well = verdict(answer, {})
    assert well
    assert "could not be asked" in lines[-1]


@pytest.mark.parametrize("program", ["no-such-program", "false", "echo"])
def test_nor_does_a_pip_audit_that_is_missing_or_fails(program):
    done = tiny.run(ROOT, sys.executable, "-m", "tools.audit", program)
    assert done.returncode == 0, done.stderr
    assert "could not be asked" in done.stdout


def test_a_finding_ends_the_command_with_an_error(tmp_path):
    program = tmp_path / "pip-audit"
    program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(ANSWER)}\nEND\nexit 1\n")
    program.chmod(0o755)
    done = tiny.run(ROOT, sys.executable, "-m", "tools.audit", str(program))
    assert done.returncode == 1
    assert "PYSEC-2019-217" in done.stdout


@pytest.mark.parametrize(
    "text", ['[[allowed]]\nid = "A"\n', '[[allowed]]\nid = "A"\nreason = " "\n', '[[allowed]]\nreason = "B"\n']
)
def test_what_is_allowed_has_a_reason(text):
    with pytest.raises(ValueError, match="should have an id and a reason"):
        allowed(text)


def test_the_allowed_list_is_valid():
    allowed((ROOT / "audit.toml").read_text())


# ---- What others read.


def test_the_citation_is_valid():
    schema = json.loads((ROOT / "tests/schemas/cff-1.2.0.json").read_text())
    jsonschema.validate(YAML(typ="safe").load(ROOT / "CITATION.cff"), schema)


def test_the_version_is_the_last_tags_and_a_tree_without_git_has_one(tmp_path):
    where = tiny.clone(tmp_path / "clone")
    tiny.git(where, "tag", "v3.4.5")

    def version() -> str:
        done = tiny.run(where, sys.executable, "-m", "setuptools_scm")
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert version() == "3.4.5"
    tiny.git(where, "commit", "-q", "--allow-empty", "-m", "more")
    assert version() == "3.4.5", "reports show it, and a commit changes no report"
    tiny.git(where, "tag", "-d", "v3.4.5")
    assert version() == "0.1.0"
    os.rename(where / ".git", tmp_path / "git")
    assert version() == "0.1.0"
