"""Metrics, optimal pairs and what stages write of them are the same bytes on every processor.

OpenBLAS and numpy choose their kernels by the processor they find; environment variables choose others.
"""

import platform
import subprocess
import sys

import numpy as np
import pytest
from imports import ROOT
from tiny import computed, environment, replace

FOUND = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
WIDE = any(name.startswith(("X86_V4", "AVX512")) for name in FOUND)
KERNELS = ["Haswell", "Prescott", *(["SkylakeX"] if WIDE else [])]  # the last has instructions that not every processor has
PROCESSORS = {
    **{name: {"OPENBLAS_CORETYPE": name} for name in KERNELS},
    "two threads": {"OPENBLAS_NUM_THREADS": "2"},
    "no wide vectors": {"NPY_DISABLE_CPU_FEATURES": " ".join(FOUND)},
}
pytestmark = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="the kernels named are of x86-64")

NUMBERS = """
from hashlib import sha256

import numpy as np
from rectiflow import metrics
from rectiflow.transport.assignment import match
from rectiflow.transport.products import product

def line(*found):
    print(*(sha256(np.ascontiguousarray(part).tobytes()).hexdigest() for part in found))

for n, dim in ((200, 2), (950, 2), (300, 64), (200, 784), (65, 100)):
    draw = np.random.default_rng(dim)
    x, y = draw.standard_normal((n, dim)).astype(np.float32), (2 * draw.standard_normal((n, dim)) + 1).astype(np.float32)
    dots, near = draw.integers(0, 3, (n, dim)), x + 1e-6 * y  # pairs of equal costs, and pairs much alike
    t, paths = np.linspace(0, 1, 8), np.cumsum(draw.standard_normal((8, n, dim)), 0)
    line(match(x, y), match(x, dots), match(dots, dots[::-1]), match(x, near), product(x, y))
    line(metrics.w2(x, y), metrics.w2_squared(x, near), metrics.w2(dots, x))
    line(metrics.sliced_w2(x, y, np.random.default_rng(0)), metrics.energy_distance(x, y), metrics.transport_cost(x, y))
    line(*(measure(t, paths) for measure in (metrics.path_energy, metrics.straightness, metrics.chord_deviation)))
    line(*(measure(x, y) for measure in (metrics.relative_error, metrics.correlation, metrics.mean_square)))
"""


def test_metrics_and_pairs_are_the_same_bytes():
    def numbers(settings):
        env = environment() | settings
        done = subprocess.run([sys.executable, "-c", NUMBERS], cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    expected = numbers({})
    assert len(expected) == 25
    for name, settings in PROCESSORS.items():
        assert numbers(settings) == expected, name


@pytest.fixture(scope="module")
def where(tmp_path_factory):
    """A computed clone, with handwritten digits as one more data set."""
    where = computed(tmp_path_factory)
    line = "datasets:\n"
    replace(where, "params.yaml", line, f"{line}  digits: {{name: digits, validation: 20, test: 150, pool: 200}}\n")
    stage(where, "generate", "datasets", "digits")
    return where


def stage(where, *args, **settings):
    done = subprocess.run(
        [sys.executable, "-m", f"stages.{args[0]}", *args[1:]],
        cwd=where, env=environment() | settings, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "row"),
    [("floor", "bimodal"), ("floor", "digits"), ("evaluate", "bimodal-icfm-round0"), ("evaluate", "mine-otcfm-round0")],
)
def test_stages_write_the_same_bytes(name, row, where):
    written = {}
    for processor in KERNELS:
        stage(where, name, row, OPENBLAS_CORETYPE=processor)
        written[processor] = (where / "data" / name / f"{row}.parquet").read_bytes()
    assert len(set(written.values())) == 1


KERNELS_OF_STAGES = """
from importlib import import_module
from torch.backends.cpu import get_cpu_capability
from stages.code import Code
from stages.shared.start import run
for _, module in Code().commands():
    import_module(module)
run(lambda _: print(get_cpu_capability()))
"""


@pytest.mark.skipif(not WIDE, reason="this processor has no wider kernels to leave out")
def test_a_stage_computes_by_the_kernels_that_all_processors_have_however_it_is_started():
    env = {name: value for name, value in environment().items() if name != "ATEN_CPU_CAPABILITY"}
    for settings, kernels in (({}, "AVX2"), ({"ATEN_CPU_CAPABILITY": "avx512"}, "AVX512")):
        command = [sys.executable, "-c", KERNELS_OF_STAGES]
        done = subprocess.run(command, cwd=ROOT, env=env | settings, capture_output=True, text=True)
        assert done.stdout.split() == [kernels], done.stderr
