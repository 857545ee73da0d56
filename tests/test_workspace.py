"""Workspaces come from a revision alone, and those of the dead go."""

import os
import signal
import subprocess
import sys

import pytest
import tiny

from flows.revisions.workspace import sweep, workspace
from stages.shared.params import Refused

HOLDER = """
import sys, time
from pathlib import Path
from flows.revisions.workspace import workspace
with workspace(Path("."), "HEAD") as where:
    print(where, flush=True)
    time.sleep(600)
"""


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    return tiny.clone(tmp_path_factory.mktemp("user"))


@pytest.fixture(autouse=True)
def _inside(where, monkeypatch):
    monkeypatch.chdir(where)


@pytest.fixture
def holder(where):
    """A process that lives in a workspace, and where that is."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], cwd=where, env=tiny.flow_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_workspace_has_the_revisions_files_and_the_users_edits_and_tree_stay_apart(where):
    (where / "params.yaml").write_text("an edit\n")
    before = tiny.git(where, "status", "--porcelain")
    with workspace(where, "HEAD") as project:
        assert (project / "params.yaml").read_text() == tiny.PARAMS
        (project / "README.md").write_text("another\n")
        cache = tiny.run(project, "dvc", "cache", "dir").stdout.strip()
        assert os.path.realpath(cache) == os.path.realpath(where / ".dvc/cache")
        assert tiny.git(where, "status", "--porcelain") == before
    assert not project.exists()
    assert (where / "params.yaml").read_text() == "an edit\n"
    assert list(where.glob(".prefect/workspaces/*")) == []


def test_a_workspace_goes_when_its_work_fails(where):
    with pytest.raises(ZeroDivisionError), workspace(where, "HEAD") as project:
        raise ZeroDivisionError
    assert not project.exists()


@pytest.mark.parametrize("name", ["no-such", "-x", "--upload-pack=touch x", "$(touch x)", ""])
def test_a_revision_that_does_not_exist_is_refused_with_what_there_is(where, name):
    with pytest.raises(Refused, match="is neither a git revision nor an experiment"), workspace(where, name):
        pass
    assert list(where.glob(".prefect/workspaces/*")) == []
    assert not (where / "x").exists()


def test_only_the_workspace_of_a_dead_process_is_swept(where, holder):
    process, held = holder
    assert os.path.isdir(held)
    assert sweep(where / ".prefect/workspaces") == []
    assert os.path.isdir(held)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert os.path.isdir(held), "it was killed: nothing of its own could remove it"
    assert len(sweep(where / ".prefect/workspaces")) == 1
    assert not os.path.exists(held)
