import math

import numpy as np
import pytest
import torch

from rectiflow.solvers import SOLVERS, TABLEAUX, Dopri5, GaveUp, RungeKutta

every_tableau = pytest.mark.parametrize("name", TABLEAUX)
every_solver = pytest.mark.parametrize("name", SOLVERS)


def riccati(t, x):
    """`dx/dt = (1 + x^2) cos t`: neither linear nor autonomous, solved by `tan(sin t + arctan x0)`."""
    return (1 + x * x) * torch.cos(t)


def riccati_end(x0):
    return torch.tan(math.sin(1) + torch.atan(x0))


def starts(dtype=torch.float64):
    return torch.linspace(-1.0, 0.2, 20, dtype=dtype).reshape(10, 2)


@every_tableau
def test_error_falls_with_the_declared_order(name):
    steps = np.array([20, 40, 80, 160])
    errors = [
        (RungeKutta(TABLEAUX[name], int(n))(riccati, starts()).end - riccati_end(starts())).abs().mean().item()
        for n in steps
    ]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert order == pytest.approx(TABLEAUX[name].order, abs=0.15)


@every_tableau
def test_tableau_is_consistent(name):
    tableau = TABLEAUX[name]
    assert sum(tableau.b) == pytest.approx(1, abs=1e-15)
    assert [sum(row) for row in tableau.a] == pytest.approx(tableau.c, abs=1e-15)


@every_tableau
def test_stages_use_only_earlier_ones(name):
    tableau = TABLEAUX[name]
    assert [len(row) for row in tableau.a] == list(range(len(tableau.c)))
    assert len(tableau.b) == len(tableau.c)


@every_solver
@pytest.mark.parametrize("trajectory", [False, True])
def test_every_evaluation_is_counted(name, trajectory):
    calls = []

    def field(t, x):
        calls.append(t)
        return riccati(t, x)

    assert SOLVERS[name]()(field, starts(), trajectory).nfe == len(calls) > 0


@every_tableau
def test_fixed_steps_cost_their_stages(name):
    assert SOLVERS[name](steps=7)(riccati, starts()).nfe == 7 * len(TABLEAUX[name].c)


@every_solver
def test_flow_runs_from_zero_to_one(name):
    seen = []

    def field(t, x):
        seen.append(float(t))
        return riccati(t, x)

    solution = SOLVERS[name]()(field, starts())
    assert min(seen) == 0
    assert max(seen) <= 1 + 1e-12
    assert solution.t.tolist() == [0, 1]


@every_solver
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_flow_reaches_the_known_solution_in_the_type_it_was_given(name, dtype):
    end = SOLVERS[name]()(riccati, starts(dtype)).end
    assert end.dtype == dtype
    assert torch.allclose(end, riccati_end(starts(dtype)), atol=0.05)


@every_solver
def test_trajectory_has_both_ends_and_even_times(name):
    solve = SOLVERS[name]()
    ends, path = solve(riccati, starts()), solve(riccati, starts(), trajectory=True)
    assert ends.x.shape == (2, *starts().shape)
    assert path.x.shape == (51, *starts().shape)
    assert torch.equal(path.x[0], starts())
    assert torch.allclose(path.end, ends.end, rtol=1e-12)
    assert torch.equal(path.t, torch.linspace(0, 1, 51, dtype=torch.float64))


@every_tableau
def test_trajectory_keeps_every_step(name):
    path = RungeKutta(TABLEAUX[name], 6)(riccati, starts(), trajectory=True)
    assert path.x.shape == (7, *starts().shape)
    assert torch.allclose(path.t, torch.arange(7, dtype=torch.float64) / 6)


@every_tableau
def test_states_of_a_trajectory_lie_on_the_solution(name):
    path = RungeKutta(TABLEAUX[name], 2000)(riccati, starts(), trajectory=True)
    exact = torch.tan(path.t.sin()[:, None, None] + torch.atan(starts()))
    assert torch.allclose(path.x, exact, atol=2e-3)


@every_solver
def test_constant_velocity_is_solved_exactly(name):
    moved = SOLVERS[name]()(lambda t, x: torch.full_like(x, 3.0), starts()).end
    assert torch.allclose(moved, starts() + 3, rtol=1e-13)


@every_solver
def test_leading_axes_are_kept(name):
    x0 = starts().reshape(2, 5, 2)
    solution = SOLVERS[name]()(riccati, x0)
    assert solution.end.shape == x0.shape
    assert torch.allclose(solution.end, riccati_end(x0), atol=0.05)


@every_tableau
@pytest.mark.parametrize("threads", [1, 2])
def test_sample_does_not_depend_on_its_place_in_the_batch(name, threads, generator):
    torch.set_num_threads(threads)
    x0 = torch.randn(1013, 3, generator=generator)
    places = torch.randperm(len(x0), generator=generator)
    solve = RungeKutta(TABLEAUX[name], 9)

    def field(t, x):  # of exact operations alone: what differs is then the solver's doing
        return t * x - x.flip(-1) * x * 0.3

    assert torch.equal(solve(field, x0[places]).end, solve(field, x0).end[places])


def test_dopri5_is_as_accurate_as_asked():
    for tolerance in (1e-4, 1e-7, 1e-10):
        end = Dopri5(rtol=tolerance, atol=tolerance)(riccati, starts()).end
        # The tolerance bounds the error of one step, and this flow drives neighbours apart.
        assert torch.allclose(end, riccati_end(starts()), rtol=0, atol=100 * tolerance)


def test_dopri5_works_harder_for_tighter_tolerances():
    loose, tight = (Dopri5(rtol=tolerance, atol=tolerance)(riccati, starts()).nfe for tolerance in (1e-3, 1e-9))
    assert loose < tight


def test_dopri5_gives_up_after_max_steps():
    with pytest.raises(GaveUp, match=r"max_steps \(3\)"):
        Dopri5(rtol=1e-9, atol=1e-9, max_steps=3)(riccati, starts())


def test_dopri5_gives_up_on_a_field_that_blows_up():
    with pytest.raises(GaveUp, match="max_steps"):
        Dopri5()(lambda t, x: 3 * x * x, torch.ones(1, 1, dtype=torch.float64))


@every_tableau
@pytest.mark.parametrize("steps", [0, -1])
def test_steps_below_one_are_refused(name, steps):
    with pytest.raises(ValueError, match=f"^steps: {steps} must be at least 1"):
        SOLVERS[name](steps=steps)


@pytest.mark.parametrize("name", ["rtol", "atol", "max_steps"])
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_dopri5_refuses_bad_options_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: {value} must be greater than 0"):
        Dopri5(**{name: value})
