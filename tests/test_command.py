"""The command: why a stage would run, whether artifacts are whole, what is trained; in real processes, on real files."""

import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path

import pytest
import tiny
from imports import ROOT

from flows.running.pipeline import Pipeline
from rectiflow_command.why import Project
from rectiflow_command.why import why as reasons
from stages.shared import kernels
from stages.shared.io import read_table, write_table


def say(where, *words):
    """What the command says, all of it, and its exit code."""
    done = tiny.run(where, sys.executable, "-m", "rectiflow_command", *words)
    return done.stdout + done.stderr, done.returncode


def why(where, *stages):
    """The same of one word, in this process: opening DVC takes a second."""
    return "".join(f"{line}\n" for line in reasons(where, stages))


@pytest.fixture(scope="module")
def computed(tmp_path_factory):
    return tiny.computed(tmp_path_factory)


@pytest.fixture
def project(computed):
    """A project where all is up to date; what a test edits is put back."""
    yield computed
    tiny.git(computed, "checkout", "-q", "--", ".")
    assert tiny.run(computed, "dvc", "checkout", "-q", "--force").returncode == 0


# ---- Why.


def test_nothing_runs_where_nothing_changed(project):
    assert say(project, "why") == ("nothing would run: all is up to date\n", 0)
    assert "would not run" in why(project, "sample@bimodal-icfm-round1")


def test_a_parameter_is_named_with_what_it_was(project):
    tiny.replace(project, "params.yaml", "steps: 60", "steps: 70")
    said = why(project)
    assert "train@bimodal-icfm-round0 and 2 more:\n    params.yaml: training.steps: 60 -> 70\n" in said
    assert "couple" not in said
    assert "behind them" in said
    chain = why(project, "evaluate@bimodal-icfm-round0")
    assert "after train@bimodal-icfm-round0: params.yaml: training.steps: 60 -> 70" in chain


def test_what_is_said_is_what_runs(tmp_path_factory):
    """Whatever has a reason of its own runs, and nothing runs of which nothing was said."""
    after, ran = tiny.edited(tmp_path_factory)
    where = tiny.computed(tmp_path_factory)
    shutil.copyfile(after / "params.yaml", where / "params.yaml")
    verdicts = Project(where).verdicts([])
    assert {name for name, verdict in verdicts.items() if verdict.reasons} <= ran
    assert ran <= {name for name, verdict in verdicts.items() if any(verdict)}
    assert "train@mine-otcfm-round0" in ran
    assert not any(verdicts["train@bimodal-icfm-round0"])


LISTED = "import json; from stages.shared.params import GRID, parse_file; print(json.dumps(parse_file(GRID)))"


def test_the_code_behind_a_stage_is_named_by_its_file(project):
    path = project / "src/rectiflow/metrics.py"
    path.write_text(path.read_text() + "\n\nMORE = 1\n")
    said = why(project)
    assert "evaluate@bimodal-icfm-round0 and 2 more:\n    src/rectiflow/metrics.py changed\n" in said
    assert "train@" not in said
    assert "sample@" not in said


def test_a_comment_runs_nothing_but_the_stage_that_finds_that_out(project):
    path = project / "src/rectiflow/metrics.py"
    path.write_text(path.read_text() + "\n# Why not.\n")
    said = why(project)
    assert said.startswith("1 of ")
    assert "code:\n    src/rectiflow changed\n" in said


def test_a_users_file_is_named(project):
    path = project / "data/faithful.parquet"
    table = read_table(path)
    write_table(path, {name: column[::-1].copy() for name, column in table.items()})
    assert "ingest@mine:\n    data/faithful.parquet changed\n" in why(project)


def test_a_pin_is_named_with_both_versions(project):
    tiny.replace(project, "constraints.txt", "torch==2.13.0", "torch==2.13.9")
    said = why(project, "train")
    assert "the pin of torch was 2.13.0, is 2.13.9" in said
    assert "train@bimodal-icfm-round0 and 2 more:" in said


def test_a_new_row_has_never_run(project):
    tiny.replace(project, "params.yaml", "methods: [icfm], rounds: 1", "methods: [icfm], rounds: 2")
    assert "train@bimodal-icfm-round2:\n    it has never run here\n" in why(project)


def test_what_is_gone_is_named(project):
    shutil.rmtree(project / "data/sample/bimodal-icfm-round0")
    said = why(project)
    assert "sample@bimodal-icfm-round0:\n    data/sample/bimodal-icfm-round0 is gone\n" in said
    assert "behind them, where what they write differs: evaluate, report" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["why", "sample@bimodal-icfm-round7"], "there is no stage 'sample@bimodal-icfm-round7'; there is sample@bimodal"),
        (["whi"], "error: there is no 'whi'; there is why"),
        (["why", "--deep"], "error: No such option '--deep'"),
        (["list", "--root", "nowhere"], "error: nowhere: not a project"),
        (["verify", "--root", "/"], "error: "),
        (["verify", "--remote", "nowhere"], "error: "),
    ],
)  # fmt: skip
def test_a_mistake_is_one_line(project, words, said):
    text, code = say(project, *words)
    assert code != 0
    assert said in text
    assert text.strip().count("\n") == 0, text
    assert "Traceback" not in text


def test_a_folder_without_dvc_is_one_line(tmp_path):
    shutil.copyfile(ROOT / "params.yaml", tmp_path / "params.yaml")
    for word in ("why", "verify"):
        said, code = say(ROOT, word, "--root", str(tmp_path))
        assert code == 1
        assert said.startswith("error: ")
        assert said.count("\n") == 1


def test_without_a_word_it_says_what_there_is(project):
    said, code = say(project)
    assert code == 0
    assert said == say(project, "--help")[0]


def test_help_has_every_word_and_takes_no_time(project):
    took = []
    for _ in range(5):
        start = time.perf_counter()
        said, code = say(project, "--help")
        took.append(time.perf_counter() - start)
    assert code == 0
    assert all(word in said for word in ("list", "why", "verify"))
    assert min(took) < 0.3
    for word in ("list", "why", "verify"):
        assert "Examples:" in say(project, word, "--help")[0]


# ---- List.


def test_models_stand_with_their_files_and_numbers(project):
    told = json.loads((project / "reports/metrics.json").read_text())
    said, _ = say(project, "list", "--json")
    rows = {row["model"]: row for row in map(json.loads, said.splitlines())}
    assert rows.keys() == json.loads(tiny.run(project, sys.executable, "-c", LISTED).stdout)["flows"].keys()
    row = rows["bimodal-icfm-round1"]
    assert (project / row["weights"]).exists()
    assert row["w2"] == told["bimodal"]["icfm"]["round1"]["w2"]
    shutil.rmtree(project / "data/train/bimodal-icfm-round1")
    lines = say(project, "list")[0].splitlines()
    assert len(lines) == 1 + len(rows)
    assert next(line for line in lines if "round1" in line).endswith("-")
    again = {row["model"]: row for row in map(json.loads, say(project, "list", "--json")[0].splitlines())}
    assert again["bimodal-icfm-round1"]["weights"] is None


# ---- Verify.


def flip(path: Path):
    """Change one bit in the middle of a file, and nothing that the file system tells of it."""
    before, mode = path.stat(), path.stat().st_mode
    path.chmod(0o644)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    path.chmod(mode)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cached(where, name):
    """Where DVC's cache has a file of the project."""
    digest = hashlib.md5((where / name).read_bytes()).hexdigest()
    return where / ".dvc/cache/files/md5" / digest[:2] / digest[2:]


SAMPLES = "data/sample/bimodal-icfm-round0/samples.parquet"


def test_whole_artifacts_are_whole(project):
    said, code = say(project, "verify")
    assert code == 0, said
    assert "files are what dvc.lock says" in said


def test_a_flipped_bit_that_dvc_accepts_is_found_and_made_again(project):
    """Both copies are damaged, as by a disk: DVC says all is well; afterwards the lock and the bytes are what they were."""
    right, lock = (project / SAMPLES).read_bytes(), (project / "dvc.lock").read_bytes()
    copy = cached(project, SAMPLES)
    assert copy.read_bytes() == right
    flip(copy)
    flip(project / SAMPLES)
    assert "up to date" in tiny.run(project, "dvc", "status").stdout
    said, code = say(project, "verify", "--keep")
    assert code != 0
    assert f"{SAMPLES}: damaged in the cache" in said
    assert copy.exists()
    said, code = say(project, "verify")
    assert code != 0
    assert f"{SAMPLES}: damaged in the working tree" in said
    assert not copy.exists()
    assert not (project / SAMPLES).exists()
    assert "sample@bimodal-icfm-round0" in tiny.repro(project)
    assert (project / SAMPLES).read_bytes() == right
    assert (project / "dvc.lock").read_bytes() == lock
    assert say(project, "verify")[1] == 0


def test_a_remote_is_read_when_asked(project, tmp_path):
    store = tmp_path / "store"
    assert tiny.run(project, "dvc", "remote", "add", "--local", "-f", "storage", str(store)).returncode == 0
    assert tiny.run(project, "dvc", "push", "-q", "-r", "storage").returncode == 0
    assert say(project, "verify", "--remote", "storage")[1] == 0
    held = store / cached(project, SAMPLES).relative_to(project / ".dvc/cache")
    flip(held)
    said, code = say(project, "verify", "--remote", "storage")
    assert code != 0
    assert f"{SAMPLES}: damaged on the remote" in said
    assert not held.exists()
    said, code = say(project, "verify", "--remote", "storage")
    assert code != 0
    assert f"{SAMPLES}: missing on the remote" in said
    assert tiny.run(project, "dvc", "push", "-q", "-r", "storage").returncode == 0
    assert held.exists()
    assert say(project, "verify", "--remote", "storage")[1] == 0


def test_what_a_user_edited_is_named_and_left(project):
    """DVC knows that it changed, as it does of another commit's. Only what it takes for whole can be damaged."""
    path = project / "data/train/bimodal-icfm-round0/curves.parquet"
    content = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(content + b"\0")
    said, code = say(project, "verify")
    assert code == 0
    assert "data/train/bimodal-icfm-round0: is not that of dvc.lock; the next run sees to it" in said
    assert path.read_bytes() == content + b"\0"


def test_what_is_nowhere_is_missing(project):
    copy = cached(project, SAMPLES)
    content = copy.read_bytes()
    try:
        copy.unlink()
        (project / SAMPLES).unlink()
        said, code = say(project, "verify")
        assert code != 0
        assert f"{SAMPLES}: missing in the cache and the working tree" in said
    finally:
        copy.parent.mkdir(exist_ok=True)
        copy.write_bytes(content)


def test_a_lost_copy_in_the_cache_is_a_reason(project):
    """A run makes again what the cache has lost, though the working tree has it."""
    copy = cached(project, SAMPLES)
    content = copy.read_bytes()
    try:
        copy.unlink()
        assert "data/sample/bimodal-icfm-round0 is not in the cache" in why(project, "sample@bimodal-icfm-round0")
    finally:
        copy.write_bytes(content)


def test_nothing_is_taken_from_a_stage_that_writes(project):
    """What a running stage has written is not what the lock says, and whole."""
    pipeline = Pipeline(project)
    with pipeline._claimed(pipeline.stages["sample@bimodal-icfm-round0"]):
        said, code = say(project, "verify")
    assert code != 0
    assert "sample@bimodal-icfm-round0" in said or "is busy" in said
    assert said.strip().count("\n") == 0
    assert say(project, "verify")[1] == 0


# ---- Words that pass on to others.


def test_check_says_what_is_right_and_what_is_wrong(project):
    assert say(project, "check") == ("params.yaml is right: 3 models\n", 0)
    tiny.replace(project, "params.yaml", "steps: 60", "steps: 0")
    said, code = say(project, "check")
    assert (code, len(said.splitlines())) == (1, 1)
    assert "params.yaml: training.steps: 0 must be at least 1" in said


def test_words_of_flows_have_their_options_and_exit_codes(project):
    for word in ("repro", "compare", "sweep", "ui"):
        said, code = say(project, word, "--help")
        assert (code, said.startswith(f"usage: rectiflow {word} ")) == (0, True), said
    assert say(project, "repro", "--workers", "0")[1] == 2
    assert say(project, "compare", "nothing")[1] == 1
    said, code = say(project, "repro", "code", "--workers", "1")
    assert code == 0, said
    assert "\n0 stages run, 1 cached\n" in said


STARTED = """
import sys, time
import torch
begun = time.process_time()
sys.argv = ["rectiflow", "sample", sys.argv[1], "-n", "10000", "--steps", "1", "-o", sys.argv[2]]
from rectiflow_command.__main__ import main
code = main()
print(time.process_time() - begun)
assert not {"dvc", "prefect", "pandas", "matplotlib"} & set(sys.modules)
sys.exit(code)
"""


def test_ten_thousand_rows_take_little_over_the_import_of_torch(project, tmp_path):
    """Of one core: other work on the machine does not count."""
    out = tmp_path / "draws.parquet"
    done = tiny.run(project, sys.executable, "-c", STARTED, "bimodal-icfm-round1", str(out))
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 1.5


def test_kernels_are_those_that_all_processors_have(monkeypatch, tmp_path):
    monkeypatch.setattr(kernels, "PROCESSORS", tmp_path / "cpuinfo")
    for flags, before, after in (
        ("sse4_2 avx2", None, None), ("avx2 avx512f", None, "avx2"), ("avx2 avx512f", "avx512", "avx512"),
    ):  # fmt: skip
        (tmp_path / "cpuinfo").write_text(f"flags : {flags}\n")
        monkeypatch.delenv("ATEN_CPU_CAPABILITY", raising=False)
        if before:
            monkeypatch.setenv("ATEN_CPU_CAPABILITY", before)
        kernels.settle()
        assert os.environ.get("ATEN_CPU_CAPABILITY") == after
