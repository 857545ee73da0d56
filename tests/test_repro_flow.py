"""`python -m flows.repro` against `dvc repro`, in temporary clones: same bytes, same stages; failures, kills, devices."""

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
import tiny
from dvc.repo import Repo
from test_slots import overlaps

from flows.running.child import tied
from flows.running.commands import CommandFailed, Commands, arguments
from flows.running.pipeline import Pipeline

NAME = "mine-otcfm-round0"
BRANCH = {f"train@{NAME}", f"sample@{NAME}", f"evaluate@{NAME}"}
STARTED: list[subprocess.Popen[bytes]] = []
# On the path of a flow, this notes where and when a stage computes, and makes it wait while there is a file that says so.
OBSERVER = """
import os, runpy, sys, time
here, run = os.path.dirname(__file__), runpy.run_module
def observed(module, **options):
    start, device = time.monotonic(), os.environ.get("CUDA_VISIBLE_DEVICES")
    while os.path.exists(os.path.join(here, module)):
        time.sleep(0.1)
    try:
        return run(module, **options)
    finally:
        with open(os.path.join(here, "log"), "a") as file:
            file.write(f"{sys.argv[-1]} {device} {start} {time.monotonic()}\\n")
runpy.run_module = observed
"""


# ---- Clones, a server, and what is read from them.


@pytest.fixture(scope="module")
def flowing(tmp_path_factory):
    """A clone in which the flow computes everything, its log, and the process."""
    where = tiny.clone(tmp_path_factory.mktemp("flowed"))
    log = tmp_path_factory.mktemp("log") / "log"
    return where, log, started(where, log, "--workers", "4")


@pytest.fixture(scope="module")
def serial(flowing, tmp_path_factory):
    """A clone in which `dvc repro` computed everything, perhaps meanwhile."""
    return tiny.computed(tmp_path_factory)


@pytest.fixture(scope="module")
def flowed(flowing, serial):
    """The clone in which the flow computed everything, and what it printed."""
    where, log, process = flowing
    assert process.wait(300) == 0, log.read_text()
    return where, log.read_text()


@pytest.fixture(scope="module")
def edited(tmp_path_factory):
    """What `dvc repro` makes of another learning rate for one method: the clone, and the stages that ran."""
    return tiny.edited(tmp_path_factory)


@pytest.fixture
def changed(serial, tmp_path):
    """A copy of the computed clone to change things in."""
    return copy(serial, tmp_path)


@pytest.fixture(scope="module")
def api(tmp_path_factory):
    """A Prefect server for the runs of this module: they need not start one each."""
    home = tmp_path_factory.mktemp("prefect")
    port = tiny.free_port()
    command = tied([sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)])
    env = tiny.flow_environment(PREFECT_HOME=str(home), PREFECT_SERVER_ANALYTICS_ENABLED="false", DO_NOT_TRACK="1")
    with open(home / "log", "w") as log:
        server = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log, start_new_session=True)
    url = f"http://127.0.0.1:{port}/api"
    tiny.wait(lambda: healthy(url), 120)
    yield url
    os.killpg(server.pid, signal.SIGKILL)
    server.wait()


def healthy(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


def copy(where: Path, to: Path) -> Path:
    return Path(shutil.copytree(where, to / "clone", symlinks=True))


def states(output: str) -> dict[str, tuple[str, str]]:
    """Each stage's last state and its message."""
    found = re.findall(r"Task run '([^']+)' - Finished in state (\w+)\(['\"]?(.*?)['\"]?(?:, type=\w+)?\)$", output, re.M)
    return {name: (state, message) for name, state, message in found}


def ran(output: str) -> set[str]:
    return {name for name, (_, message) in states(output).items() if message == "ran"}


def lock(where: Path) -> bytes:
    return (where / "dvc.lock").read_bytes()


def same(left: Path, right: Path) -> bool:
    """The same lock and the same reports, byte for byte; times, which a flow notes beside these, are nobody's input."""
    left_files, right_files = (
        {
            path.relative_to(where): path.read_bytes()
            for path in [where / "dvc.lock", *(where / "reports").rglob("*.*")]
            if path.stem != "times"
        }
        for where in (left, right)
    )
    return left_files == right_files and len(left_files) > 5


def processes(where: Path, name: str = "") -> list[psutil.Process]:
    """Those that run in a clone; those of this name."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE and process.cwd() == str(where):
                if name in ("", process.name()):
                    found.append(process)
        except psutil.Error:
            pass
    return found


@pytest.fixture
def observer(tmp_path):
    """The folder of the observer; `settings` puts it on a flow's path. Stages wait for a file of their name there to go."""
    folder = tmp_path / "observer"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(OBSERVER)
    return folder


def settings(observer: Path, **others: str) -> dict[str, str]:
    """Locks on devices lie in the temporary folder: here one of its own."""
    return {"PYTHONPATH": f"{observer}{os.pathsep}src", "TMPDIR": str(observer), **others}


def started(where: Path, log: Path, *args: str, **settings: str) -> subprocess.Popen[bytes]:
    """A flow in a session of its own, as in a terminal; it does not outlive the tests."""
    with open(log, "w") as file:
        command, env = tied([sys.executable, "-m", "flows.repro", *args]), tiny.flow_environment(**settings)
        # Tests that were started in the background of a shell ignore Ctrl-C, and so would what they start.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        STARTED.append(
            subprocess.Popen(command, cwd=where, env=env, stdout=file, stderr=file, start_new_session=True, preexec_fn=heed)
        )
    return STARTED[-1]


@pytest.fixture(scope="module", autouse=True)
def _none_stays():
    """Not even after a failed test."""
    yield
    for process in STARTED:
        process.kill()
        process.wait()


# ---- The same as `dvc repro`.


def test_from_nothing_the_lock_and_the_reports_are_dvcs(serial, flowed):
    where, said = flowed
    assert same(where, serial)
    assert said.count("\n19 stages run, 0 cached") == 1
    assert ran(said) == set(states(said))


def test_dvc_has_nothing_to_do_after_the_flow(flowed):
    where, _ = flowed
    assert tiny.repro(where) == []
    status = tiny.run(where, sys.executable, "-m", "dvc", "status")
    assert "Data and pipelines are up to date" in status.stdout


def test_the_flow_has_nothing_to_do_after_dvc_and_leaves_the_lock_alone(serial, api):
    before = (serial / "dvc.lock").stat().st_mtime_ns
    done = tiny.flow(serial, PREFECT_API_URL=api)
    assert done.returncode == 0
    assert "\n0 stages run, 19 cached" in done.stdout
    assert set(states(done.stdout).values()) == {("Cached", "unchanged")}
    assert (serial / "dvc.lock").stat().st_mtime_ns == before


def test_an_edit_runs_what_dvc_would_run_and_its_reverse_comes_from_the_run_cache(serial, edited, changed, api):
    tiny.edit(changed)
    done = tiny.flow(changed, PREFECT_API_URL=api)
    assert ran(done.stdout) == edited[1] == {"check", "report", *BRANCH}
    assert same(changed, edited[0])
    (changed / "params.yaml").write_text(tiny.PARAMS)
    back = tiny.flow(changed, PREFECT_API_URL=api)
    assert ran(back.stdout) == {"check", "report"}  # DVC keeps these two out of its run cache: their outputs persist
    assert {name for name, state in states(back.stdout).items() if state[1] == "restored from the run cache"} == BRANCH
    assert same(changed, serial)


def test_the_lock_has_dvcs_order_whichever_stage_ends_first(tmp_path):
    names = ["d", "b", "a", "c"]
    stage = "  {0}:\n    cmd: python -c \"open('{0}.txt', 'w').write('{0}')\"\n    outs: [{0}.txt]\n"
    for place in ("theirs", "ours"):
        (tmp_path / place).mkdir()
        Repo.init(str(tmp_path / place), no_scm=True).close()
        (tmp_path / place / "dvc.yaml").write_text("stages:\n" + "".join(stage.format(name) for name in names))
    tiny.repro(tmp_path / "theirs")
    pipeline, turns = Pipeline(tmp_path / "ours"), {name: threading.Event() for name in names}
    order = list(pipeline.plan())

    def run(stage):
        turns[stage.name].wait(10)
        (tmp_path / "ours" / f"{stage.name}.txt").write_text(stage.name)

    threads = {name: threading.Thread(target=pipeline.reproduce, args=(name, run)) for name in order}
    for thread in threads.values():
        thread.start()
    for name in reversed(order):
        turns[name].set()
        threads[name].join()
    pipeline.close()
    assert lock(tmp_path / "ours") == lock(tmp_path / "theirs")


# ---- Failures, interruptions, bad input.


def test_a_failure_stops_what_depends_on_it_and_nothing_else(serial, changed, api):
    tiny.edit(changed, "lr: 1.0e+30")
    tiny.replace(changed, "params.yaml", "rounds: 1", "rounds: 2")
    done = tiny.flow(changed, PREFECT_API_URL=api)
    assert done.returncode == 1
    last = done.stdout.strip().splitlines()[-1]
    assert last == f"error: failed: train@{NAME}; not run: sample@{NAME}, evaluate@{NAME}, report"
    message = states(done.stdout)[f"train@{NAME}"][1]
    assert "training diverged" in message
    assert f"Task run 'train@{NAME}' - {message.partition('exit code 1: ')[2]}" in done.stdout  # as the stage printed it
    shown = {(run["name"], run["state"]["name"]) for run in httpx.post(f"{api}/task_runs/filter", json={}).json()}
    assert {(f"train@{NAME}", "Failed"), (f"evaluate@{NAME}", "NotReady"), ("report", "NotReady")} <= shown
    others = {f"{stage}@bimodal-icfm-round2" for stage in ("reflow", "train", "sample", "evaluate")}
    assert ran(done.stdout) == {"check", *others}
    recorded = tiny.run(changed, sys.executable, "-m", "dvc", "status", *sorted(others))
    assert "Data and pipelines are up to date" in recorded.stdout

    tiny.replace(changed, "params.yaml", ", training: {lr: 1.0e+30}", "")
    mended = tiny.flow(changed, PREFECT_API_URL=api)
    assert mended.returncode == 0
    assert ran(mended.stdout) == {"check", "report"}
    assert tiny.repro(changed) == []


def test_a_signal_ends_every_process_and_the_next_run_completes(edited, flowed, observer, api, tmp_path):
    changed = copy(flowed[0], tmp_path)
    tiny.edit(changed)
    (observer / "stages.train").touch()  # trainings wait
    server = {"PREFECT_API_URL": api}
    signals = {
        signal.SIGKILL: (os.kill, {}),  # without a server, Prefect starts a private one
        signal.SIGINT: (os.killpg, {}),  # Ctrl-C in a terminal reaches the whole group
    }
    for number, (send, others) in signals.items():
        process = started(changed, tmp_path / "log", **settings(observer, **others))
        tiny.wait(lambda: processes(changed, "stages.train"), 90)
        send(process.pid, number)
        tiny.wait(lambda: not processes(changed, "stages.train"), 10)
        assert process.wait(30) != 0
        tiny.wait(lambda: not processes(changed), 10)  # the private server is gone as well
    said = (tmp_path / "log").read_text()
    assert "\nerror: stopped; what was finished is kept, the next run goes on from there\n" in said
    assert "Traceback" not in said
    (observer / "stages.train").unlink()
    done = tiny.flow(changed, **server)
    assert done.returncode == 0
    assert same(changed, edited[0])
    assert tiny.repro(changed) == []


def test_beside_dvc_in_another_process_both_come_to_the_same(edited, changed, api, tmp_path):
    tiny.edit(changed)
    flow = started(changed, tmp_path / "log", PREFECT_API_URL=api)
    tiny.wait(lambda: "Beginning flow run" in (tmp_path / "log").read_text(), 60)
    other = tiny.run(changed, sys.executable, "-m", "dvc", "repro")
    said = (tmp_path / "log").read_text()
    assert flow.wait(120) == 0, (tmp_path / "log").read_text()
    assert other.returncode == 0 or "lock" in other.stderr.strip().splitlines()[-1], other.stderr
    assert tiny.repro(changed) == [], said
    assert lock(changed) == lock(edited[0])


def test_an_unknown_stage_is_named(serial, api):
    done = tiny.flow(serial, "trian", PREFECT_API_URL=api)
    assert done.returncode == 1
    assert done.stdout.strip().splitlines()[-1].startswith("error: dvc.yaml: there is no stage 'trian'; there is ")


def test_no_workers_is_refused(serial):
    done = tiny.flow(serial, "--workers", "0")
    assert done.returncode == 2
    assert "--workers: 0 must be at least 1" in done.stdout.splitlines()[-1]
    assert "server" not in done.stdout


def test_mistaken_parameters_are_named_and_nothing_runs(changed, api):
    tiny.replace(changed, "params.yaml", "steps: 60", "stepz: 60")
    done = tiny.flow(changed, PREFECT_API_URL=api)
    assert done.returncode == 1
    assert states(done.stdout)["check"][0] == "Failed"
    assert re.search(r"Task run 'check' - .*training\.stepz.*unknown key", done.stdout)
    assert not ran(done.stdout)
    assert "Traceback" not in done.stdout


# ---- Commands.


@pytest.fixture
def command(tmp_path):
    """A function that makes a stage of a command, `NAME` in it being a Python file with the given text."""
    pipelines = []

    def make(text: str, cmd: str = "python script.py"):
        Repo.init(str(tmp_path), no_scm=True, force=True).close()
        (tmp_path / "script.py").write_text(text)
        (tmp_path / "dvc.yaml").write_text(f"stages:\n  it:\n    cmd: {cmd}\n")
        pipelines.append(Pipeline(tmp_path))
        return pipelines[-1].stages["it"]

    yield make
    for pipeline in pipelines:
        pipeline.close()


@pytest.mark.parametrize("cmd", ["a | b", "a > b", "a && b", "echo $HOME", "ls *.py", "a; b", "echo `ls`"])
def test_what_takes_a_shell_is_refused(cmd):
    with pytest.raises(CommandFailed, match="without a shell"):
        arguments(cmd)


def test_words_are_a_shells():
    assert arguments("python -m stages.train 'a b'") == ["python", "-m", "stages.train", "a b"]


def test_lines_arrive_as_they_are_printed_whatever_their_bytes(command):
    lines = []
    Commands().run(command("import os; os.write(1, b'one\\n\\xff\\xfe two\\n'); os.write(2, b'three')"), lines.append)
    assert lines == ["one", "\ufffd\ufffd two", "three"]


def test_a_failure_carries_the_exit_code_and_the_last_line(command):
    with pytest.raises(CommandFailed, match=r"^python script\.py: exit code 3: it broke$"):
        Commands().run(command("import sys; print('fine'); print('it broke\\n'); sys.exit(3)"), print)


def test_a_command_that_does_not_exist_is_named(command):
    with pytest.raises(CommandFailed, match="no-such-command: No such file or directory"):
        Commands().run(command("", cmd="no-such-command"), print)


@pytest.mark.parametrize("seconds", [0, 60], ids=["its parent is gone", "its parent waits"])
def test_kill_ends_a_grandchild_and_nothing_starts_any_more(command, seconds):
    child = "import os, subprocess, sys, time; p = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
    text = f"{child}; print(p.pid, os.getpid(), flush=True); time.sleep({seconds})"
    stage, commands, lines, raised = command(text), Commands(), [], []

    def run():
        try:
            commands.run(stage, lines.append)
        except CommandFailed as error:
            raised.append(str(error))

    thread = threading.Thread(target=run)
    thread.start()
    tiny.wait(lambda: lines, 20)
    child, parent = map(int, lines[0].split())
    tiny.wait(lambda: seconds or not alive(parent), 20)
    assert alive(child)
    commands.kill()
    thread.join(10)
    assert not thread.is_alive()
    tiny.wait(lambda: not alive(child), 10)
    assert raised == (["the run was stopped"] if seconds else [])
    with pytest.raises(CommandFailed, match="the run was stopped"):
        commands.run(stage, print)


def alive(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


# ---- Devices.


def test_device_stages_of_a_run_share_the_devices(changed, observer, api):
    rows = [f"bimodal-m{k}-round0" for k in range(6)]
    methods = "".join(
        f"  m{k}: {{coupling: independent, interpolant: {{name: linear}}, training: {{lr: 0.00{k + 1}}}}}\n"
        for k in range(6)
    )
    block = f"  more: {{datasets: [bimodal], methods: [{', '.join(f'm{k}' for k in range(6))}]}}\n"
    tiny.replace(changed, "params.yaml", "reflow: {pairs", f"{methods}reflow: {{pairs")
    tiny.replace(changed, "params.yaml", "  own: {", f"{block}  own: {{")
    environment = settings(observer, PREFECT_API_URL=api, RECTIFLOW_DEVICES="toy:4")
    done = tiny.flow(changed, *(f"sample@{row}" for row in rows), **environment)
    assert done.returncode == 0, done.stdout
    told = dict(re.findall(r"Task run '([^']+)' - on device (\d)", done.stdout))
    assert set(told) == {f"{stage}@{row}" for stage in ("train", "sample") for row in rows}
    assert set(told.values()) == set("0123")
    seen = [line.split() for line in (observer / "log").read_text().splitlines()]
    assert sorted(number for _, number, *_ in seen if number != "None") == sorted(told.values())
    for device in "0123":
        assert not overlaps([(float(start), float(end)) for _, number, start, end in seen if number == device])
    limit = httpx.get(f"{api}/v2/concurrency_limits/toy").json()
    assert (limit["limit"], limit["active_slots"]) == (4, 0)


def test_a_killed_runs_device_is_taken_at_once(edited, changed, observer, api, tmp_path):
    tiny.edit(changed)
    (observer / "stages.train").touch()
    environment = settings(observer, PREFECT_API_URL=api, RECTIFLOW_DEVICES="single:1")
    process = started(changed, tmp_path / "log", **environment)
    tiny.wait(lambda: processes(changed, "stages.train"), 60)
    process.kill()
    process.wait()
    assert httpx.get(f"{api}/v2/concurrency_limits/single").json()["active_slots"] == 1  # its lease goes on
    (observer / "stages.train").unlink()
    done = tiny.flow(changed, f"train@{NAME}", **environment)
    assert done.returncode == 0
    at = {word: re.search(rf"^(\S+) .*{word}", done.stdout, re.M)[1] for word in ("Beginning flow run", "on device 0")}
    first, second = (sum(float(part) * 60**k for k, part in enumerate(reversed(at[word].split(":")))) for word in at)
    assert second - first < 10
    assert httpx.get(f"{api}/v2/concurrency_limits/single").json()["active_slots"] == 0


def test_a_run_that_waits_for_a_device_ends_when_told(changed, observer, api, tmp_path):
    from flows.running.slots import device

    tiny.edit(changed)
    environment = settings(observer, PREFECT_API_URL=api, RECTIFLOW_DEVICES="busy:1")
    with device("0", observer / f"rectiflow-devices-{os.getuid()}"):
        process = started(changed, tmp_path / "log", **environment)
        tiny.wait(lambda: "'check' - Finished" in (tmp_path / "log").read_text(), 60)
        time.sleep(1)
        assert not processes(changed, "stages.train")
        process.terminate()
        assert process.wait(30) != 0
