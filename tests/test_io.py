"""Artifacts survive the round trip, depend on their content alone and are never half written."""

import subprocess
import sys

import numpy as np
import pyarrow.parquet as pq
import pytest

from rectiflow.files import replacing
from stages.shared.compute import stream
from stages.shared.files import write_json
from stages.shared.io import by_seed, read_table, read_weights, seed_major, write_table, write_weights

RNG = np.random.default_rng(0)


def columns(rows=200, dim=3):
    return {
        "seed": np.repeat(np.array([4, 1], np.int32), rows // 2),
        "side": np.repeat(["source", "target"], rows // 2),
        "x": RNG.normal(size=(rows, dim)).astype(np.float32),
        "t": RNG.normal(size=rows),
    }


def test_a_table_comes_back_as_it_was_written(tmp_path):
    table = columns()
    write_table(tmp_path / "t.parquet", table)
    back = read_table(tmp_path / "t.parquet")
    assert list(back) == list(table)
    for name, column in table.items():
        np.testing.assert_array_equal(back[name], column)
    assert back["x"].dtype == np.float32


def test_rows_are_selected_by_value(tmp_path):
    table = columns()
    write_table(tmp_path / "t.parquet", table)
    back = read_table(tmp_path / "t.parquet", side="target", seed=1)
    assert set(back) == {"x", "t"}
    np.testing.assert_array_equal(back["x"], table["x"][100:])


def test_a_table_without_rows_keeps_its_columns(tmp_path):
    write_table(tmp_path / "t.parquet", {"x": np.zeros((0, 5)), "t": np.zeros(0)})
    back = read_table(tmp_path / "t.parquet")
    assert back["x"].shape == (0, 5)
    assert back["t"].shape == (0,)


def test_wide_vectors_are_read_without_python_objects(tmp_path):
    wide = RNG.normal(size=(500, 784)).astype(np.float32)
    write_table(tmp_path / "w.parquet", {"x": wide})
    column = pq.read_table(tmp_path / "w.parquet")["x"].combine_chunks()
    flat = column.flatten().to_numpy(zero_copy_only=True)  # raises if a conversion were needed
    np.testing.assert_array_equal(flat.reshape(wide.shape), wide)
    np.testing.assert_array_equal(read_table(tmp_path / "w.parquet")["x"], wide)


SCRIPT = """
import numpy as np, sys
from pathlib import Path
from stages.shared.io import write_table, write_weights
x = np.random.default_rng(5).normal(size=(1000, 7)).astype(np.float32)
write_table(Path(sys.argv[1]) / "t.parquet", {"name": np.repeat(["a", "b"], 500), "x": x})
write_weights(Path(sys.argv[1]) / "w.safetensors", {"b": x, "a": x[:3]}, {"z": 1, "a": [1, 2]})
"""


def test_two_processes_write_the_same_bytes(tmp_path):
    for run in ("one", "two"):
        (tmp_path / run).mkdir()
        subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path / run)], check=True)
    for name in ("t.parquet", "w.safetensors"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_weights_and_their_spec_come_back(tmp_path):
    tensors = {"theta": RNG.normal(size=(2, 9)).astype(np.float32), "shift": np.zeros((2, 1, 3), np.float32)}
    write_weights(tmp_path / "w.safetensors", tensors, {"network": {"name": "mlp", "dim": 3}, "seeds": [0, 7]})
    back, spec = read_weights(tmp_path / "w.safetensors")
    assert spec == {"network": {"name": "mlp", "dim": 3}, "seeds": [0, 7]}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(back[name], tensor)


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1})
    before = (tmp_path / "m.json").read_bytes()

    def fail():
        with replacing(tmp_path / "m.json") as temporary:
            temporary.write_text("{")
            raise RuntimeError("half way")

    with pytest.raises(RuntimeError, match="half way"):
        fail()
    assert (tmp_path / "m.json").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["m.json"]


WRITER = """
import sys, time
from pathlib import Path
from rectiflow.files import replacing
with replacing(Path(sys.argv[1])) as temporary:
    temporary.write_text("half")
    print("writing", flush=True)
    sys.stdin.read()
    temporary.write_text("whole")
"""


def test_two_writers_of_a_file_do_not_meet_and_what_a_killed_one_left_goes(tmp_path):
    path = tmp_path / "m.json"
    command = [sys.executable, "-c", WRITER, str(path)]
    living, dead = (subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2))
    for writer in (living, dead):
        assert writer.stdout.readline() == "writing\n"
    dead.kill()
    dead.communicate()
    assert len(list(tmp_path.iterdir())) == 2
    write_json(path, {"a": 1})
    assert len(list(tmp_path.iterdir())) == 2  # the living one's and the file
    living.communicate("")
    assert living.returncode == 0
    assert [(left, left.read_text()) for left in tmp_path.iterdir()] == [(path, "whole")]


def test_a_written_file_has_the_rights_that_any_new_file_has(tmp_path):
    write_json(tmp_path / "m.json", {"a": 1})
    (tmp_path / "plain").touch()
    assert (tmp_path / "m.json").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_numbers_that_json_does_not_know_are_refused(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(tmp_path / "m.json", {"a": float("nan")})
    assert not list(tmp_path.iterdir())


def test_the_seed_axis_goes_into_rows_and_back():
    x, t = RNG.normal(size=(3, 5, 2)), RNG.normal(size=(3, 5))
    seeds, back = by_seed(seed_major([8, 2, 5], {"x": x, "t": t}))
    assert seeds == [8, 2, 5]
    np.testing.assert_array_equal(back["x"], x)
    np.testing.assert_array_equal(back["t"], t)


def test_streams_depend_on_purpose_and_seed_alone():
    draw = lambda purpose, seed: stream(purpose, seed).initial_seed()
    assert draw("couple/a", 1) == draw("couple/a", 1)
    assert len({draw(purpose, seed) for purpose in ("couple/a", "couple/b", "sample") for seed in range(5)}) == 15
