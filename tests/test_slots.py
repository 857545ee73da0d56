"""Never more in than there are places, the most urgent first; devices one holder each, whoever dies."""

import fcntl
import itertools
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
from imports import ROOT

from flows.running.slots import Devices, Slots, device, devices

HOLDER = """
import sys, time
from pathlib import Path
from flows.running.slots import device
folder, log, seconds = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
with device("0123", folder, poll=0.01) as name:
    start = time.monotonic()
    print("in", flush=True)
    time.sleep(seconds)
    with open(log, "a") as file:
        file.write(f"{name} {start} {time.monotonic()}\\n")
"""


def holder(folder, log, seconds):
    command = [sys.executable, "-c", HOLDER, str(folder), str(log), str(seconds)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def overlaps(intervals):
    """Pairs of intervals (start, end) that overlap."""
    return [(a, b) for a, b in itertools.pairwise(sorted(intervals)) if b[0] < a[1]]


def test_two_places_hold_two_and_never_three():
    slots, lock, inside, most = Slots(2), threading.Lock(), 0, []

    def visit():
        nonlocal inside
        with slots.take():
            with lock:
                inside += 1
                most.append(inside)
            time.sleep(0.01)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=visit) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(most) == 20
    assert max(most) == 2


def test_the_most_urgent_comes_next_and_of_equals_the_first_to_come():
    slots, order, threads = Slots(1), [], []

    def visit(name, priority):
        with slots.take(priority):
            order.append(name)

    with slots.take():
        for name, priority in [("low", 0), ("first", 2), ("second", 2), ("high", 5), ("third", 2), ("negative", -1)]:
            threads.append(threading.Thread(target=visit, args=(name, priority)))
            threads[-1].start()
            while len(slots._waiting) < len(threads):  # it has come
                time.sleep(0.001)
    for thread in threads:
        thread.join()
    assert order == ["high", "first", "second", "third", "low", "negative"]


def test_a_place_is_free_again_when_its_holder_raises():
    slots = Slots(1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), slots.take():
            _ = 1 / 0
    with slots.take():
        pass


def test_simulated_devices_have_a_class_and_numbers():
    assert devices({"RECTIFLOW_DEVICES": "toy:4"}) == Devices("toy", ["0", "1", "2", "3"])


@pytest.mark.parametrize("visible", ["", None])
def test_no_gpu_is_visible_where_none_is_left(monkeypatch, visible):
    monkeypatch.setattr("flows.running.slots._nvidia", lambda: [] if visible is None else ["NVIDIA H100 80GB HBM3"])
    assert devices({} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}) is None


def test_the_class_is_the_gpus_name_and_the_numbers_are_cudas(monkeypatch):
    monkeypatch.setattr("flows.running.slots._nvidia", lambda: ["NVIDIA H100 80GB HBM3"] * 4)
    assert devices({}) == Devices("nvidia-h100-80gb-hbm3", ["0", "1", "2", "3"])
    assert devices({"CUDA_VISIBLE_DEVICES": "2,GPU-ab12"}).ids == ["2", "GPU-ab12"]


def test_twelve_processes_share_four_devices_and_none_is_shared_at_once(tmp_path):
    holders = [holder(tmp_path / "locks", tmp_path / "log", 0.3) for _ in range(12)]
    assert [process.wait() for process in holders] == [0] * 12
    rows = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(rows) == 12
    assert {name for name, _, _ in rows} == set("0123")
    for name in "0123":
        assert not overlaps([(float(start), float(end)) for held, start, end in rows if held == name])


def test_a_killed_holders_device_is_free_at_once(tmp_path):
    process = holder(tmp_path, tmp_path / "log", 60)
    assert process.stdout.readline() == "in\n"
    with open(tmp_path / "0") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.send_signal(signal.SIGKILL)
    start = time.monotonic()
    with device("0", tmp_path) as name:
        assert name == "0"
        assert time.monotonic() - start < 2
    process.wait()


def test_who_waits_for_a_device_gives_up_when_told(tmp_path):
    def check():
        raise InterruptedError

    with device("0", tmp_path), pytest.raises(InterruptedError), device("0", tmp_path, check=check):
        pass


def test_a_device_is_free_again_when_its_holder_raises(tmp_path):
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), device("0", tmp_path):
            _ = 1 / 0
    assert os.listdir(tmp_path) == ["0"]
