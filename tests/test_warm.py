"""A module that is forked into being against `python -m MODULE`: it sees the same, does the same, ends the same."""

import json
import os
import signal
import subprocess
import sys
import threading

import psutil
import pytest
import tiny

from flows.running.fork import LIBRARIES
from flows.running.warm import SUPPORTED, Ended, Process, Warm

pytestmark = pytest.mark.skipif(not SUPPORTED, reason="forks are for Linux")

SEES = """
import atexit, json, os, sys
from pathlib import Path
import beside
print(json.dumps({
    "argv": sys.argv, "path": sys.path, "cwd": os.getcwd(), "environment": dict(os.environ), "beside": beside.VALUE,
    "name": __name__, "file": __file__, "stdin": sys.stdin.read(), "leads": os.getsid(0) == os.getpid(),
}))
print("an error", file=sys.stderr)
atexit.register(print, "at the end")
"""

THREAD = "import threading, time; threading.Thread(target=lambda: (time.sleep(0.3), print('last'))).start(); print('first')"


@pytest.fixture(scope="module")
def warm():
    return Warm()


@pytest.fixture
def place(tmp_path):
    """A folder with a package and a module beside it, and one on the path, both called `beside`."""
    for name, text in {
        "package/__init__.py": "",
        "package/sees.py": SEES,
        "beside.py": "VALUE = 1",
        "lib/other.py": "",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def environment(**others: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"lib{os.pathsep}src", "PYTHONUNBUFFERED": "1", **others}


def forked(warm: Warm, place, module: str, *words: str, **others: str) -> tuple[int, str]:
    process = warm.start(module, words, place, environment(**others))
    said = process.stdout.read()
    return process.wait(), said


def started(place, module: str, *words: str, **others: str) -> tuple[int, str]:
    command, env = [sys.executable, "-m", module, *words], environment(**others)
    done = subprocess.run(
        command, cwd=place, env=env, text=True, check=False, start_new_session=True,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_it_sees_what_a_module_that_is_started_sees(warm, place):
    words = ["a b", "--option=ü", ""]
    theirs = started(place, "package.sees", *words, HERE="hello")
    assert forked(warm, place, "package.sees", *words, HERE="hello") == theirs
    assert json.loads(theirs[1].splitlines()[0])["environment"]["HERE"] == "hello"
    assert theirs[1].endswith("an error\nat the end\n")


@pytest.mark.parametrize(
    "text",
    [
        "raise SystemExit(3)",
        "raise SystemExit('a reason')",
        "import os; os._exit(7)",
        THREAD,
        "import os; os.kill(os.getpid(), 9)",
        "pass",
    ],
)
def test_it_ends_like_a_module_that_is_started(warm, place, text):
    (place / "ends.py").write_text(text)
    assert forked(warm, place, "ends") == started(place, "ends")


def test_an_exception_is_a_traceback_and_exit_code_1(warm, place):
    (place / "fails.py").write_text("1 / 0")
    code, said = forked(warm, place, "fails")
    assert code == 1
    assert said.endswith("ZeroDivisionError: division by zero\n")
    code, said = forked(warm, place, "there_is_none")
    assert code == 1
    assert "there_is_none" in said.splitlines()[-1]


def test_each_reads_the_files_as_they_lie_there_now(warm, place):
    said = []
    for value in ("'first'", "'another one'"):
        (place / "beside.py").write_text(f"VALUE = {value}")
        said.append(json.loads(forked(warm, place, "package.sees")[1].splitlines()[0])["beside"])
    assert said == ["first", "another one"]


def test_libraries_are_there_and_the_project_is_not(warm, place):
    (place / "loaded.py").write_text("import json, sys; print(json.dumps(sorted(sys.modules)))")
    loaded = set(json.loads(forked(warm, place, "loaded")[1]))
    assert loaded >= set(LIBRARIES)
    assert not [name for name in loaded if name.partition(".")[0] in ("rectiflow", "stages")]
    assert not {"dvc", "prefect", "matplotlib"} & loaded


def test_nothing_has_been_computed_that_a_fork_would_lose(warm, place):
    (place / "product.py").write_text(
        "import numpy, torch\nfrom concurrent.futures import ThreadPoolExecutor\n"
        "a = numpy.random.default_rng(0).normal(size=(300, 300)); b = torch.tensor(a)\n"
        "torch.set_num_threads(2)\n"
        "with ThreadPoolExecutor(2) as pool: products = list(pool.map(lambda x: x @ x, [a, b] * 4))\n"
        "print(*[f'{float((x @ x).sum()):.6e}' for x in products])\n"
    )
    assert forked(warm, place, "product") == started(place, "product")


def test_many_at_once_each_with_its_own_output_and_code(warm, place):
    (place / "echo.py").write_text("import sys, time; print(sys.argv[1]); time.sleep(0.2); sys.exit(int(sys.argv[1]))")
    processes = [warm.start("echo", [str(k)], place, environment()) for k in range(20)]
    assert [(process.stdout.read(), process.wait()) for process in processes] == [(f"{k}\n", k) for k in range(20)]


def test_one_that_is_killed_says_so_and_the_others_go_on(warm, place):
    (place / "waits.py").write_text("print('here'); import time; time.sleep(60)")
    one, other = (warm.start("waits", [], place, environment()) for _ in range(2))
    assert one.stdout.readline() == other.stdout.readline() == "here\n"
    assert psutil.Process(one.pid).name() == "waits"
    os.killpg(one.pid, signal.SIGTERM)
    assert one.wait() == -signal.SIGTERM
    assert psutil.Process(other.pid).is_running()
    os.killpg(other.pid, signal.SIGKILL)
    assert other.wait() == -signal.SIGKILL


def test_with_the_first_process_all_end_and_the_next_request_starts_another(place):
    warm = Warm()
    (place / "waits.py").write_text("print('here'); import time; time.sleep(60)")
    processes = [warm.start("waits", [], place, environment()) for _ in range(2)]
    assert [process.stdout.readline() for process in processes] == ["here\n", "here\n"]
    first = psutil.Process(processes[0].pid).parent()
    first.kill()
    tiny.wait(lambda: not any(psutil.pid_exists(process.pid) for process in processes), 10)
    for process in processes:
        with pytest.raises(Ended):
            process.wait()
    (place / "echo.py").write_text("print('again')")
    tiny.wait(lambda: not first.is_running() or first.status() == psutil.STATUS_ZOMBIE, 10)
    assert forked(warm, place, "echo") == (0, "again\n")


def test_it_outlives_the_thread_that_first_asked(place):
    warm, seen = Warm(), []
    (place / "echo.py").write_text("import os; print(os.getppid())")
    for _ in range(2):
        thread = threading.Thread(target=lambda: seen.append(forked(warm, place, "echo")))
        thread.start()
        thread.join(60)
    assert seen[0] == seen[1]
    assert seen[0][0] == 0


def test_it_ends_with_the_process_that_asked(place):
    (place / "waits.py").write_text("print('here'); import time; time.sleep(60)")
    script = (
        "import os, time; from flows.running.warm import Warm; "
        f"p = Warm().start('waits', [], {str(place)!r}, dict(os.environ));"
        "p.stdout.readline(); print(p.pid, flush=True); time.sleep(60)"
    )
    asks = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    stage = psutil.Process(int(asks.stdout.readline()))
    first = stage.parent()
    asks.kill()
    asks.wait()
    tiny.wait(lambda: not stage.is_running() and not first.is_running(), 10)


def test_a_process_that_ends_before_it_says_its_number_has_none():
    """Its exit code read as a number would be pid 1, and whoever ended that would end everything."""
    reads, writes = os.pipe()
    os.write(writes, b"exit 1\n")
    os.close(writes)
    with open(reads) as status, open(os.devnull) as nothing, pytest.raises(Ended, match="could not start this one"):
        Process(nothing, status)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_first_process_that_cannot_start_is_told_and_asked_for_again(place, monkeypatch):
    warm = Warm()
    with monkeypatch.context() as broken:
        broken.setattr(subprocess, "Popen", lambda *_, **__: (_ for _ in ()).throw(OSError("no more files")))
        with pytest.raises(Ended, match="cannot be started"):
            warm.start("package.sees", (), place, environment())
    assert forked(warm, place, "json.tool", "--help")[0] == 0


def test_a_request_that_cannot_be_served_ends_no_other(place):
    """A message without its pipes: a process that had run out of files would receive that."""
    warm = Warm()
    running = warm.start("http.server", ("--bind", "127.0.0.1", "0"), place, environment())
    warm._ours.send(b"{}")
    assert forked(warm, place, "json.tool", "--help")[0] == 0
    os.kill(running.pid, 0)
    os.killpg(running.pid, signal.SIGKILL)
    assert running.wait() == -signal.SIGKILL
