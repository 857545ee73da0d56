"""The neighbours' side, as their users write it: torchcfm's tutorial loop, its plan sampler, three libraries' solvers.

Every function prepares a piece of work and returns the call that does it; the call returns how much it did.
"""

from collections.abc import Callable
from typing import Any

import ot
import torch
from flow_matching.solver import ODESolver
from torch import Tensor, nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher
from torchcfm.models.models import MLP
from torchcfm.optimal_transport import OTPlanSampler
from torchcfm.utils import sample_8gaussians, sample_moons, torch_wrapper
from torchdiffeq import odeint
from torchdyn.core import NeuralODE

from bench.clouds import clouds, read_arrays, read_problems

Call = Callable[[], float]
MATCHERS = {"icfm": ConditionalFlowMatcher, "otcfm": ExactOptimalTransportConditionalFlowMatcher}
Draw = Callable[[int], tuple[Tensor, Tensor]]


def library_draw(batch: int) -> tuple[Tensor, Tensor]:
    """Fresh points from torchcfm's own samplers."""
    return sample_8gaussians(batch), sample_moons(batch)


def stored_draw(points: int) -> Draw:
    """Rows of points drawn beforehand: the fast replacement of the samplers."""
    x0, x1 = library_draw(points)

    def draw(batch: int) -> tuple[Tensor, Tensor]:
        return x0[torch.randint(points, (batch,))], x1[torch.randint(points, (batch,))]

    return draw


def training(method: str, steps: int, batch: int, data: str) -> Call:
    """torchcfm's tutorial loop for one model; the amount is the number of steps."""
    draw = library_draw if data == "library" else stored_draw(20_000)

    def call() -> float:
        matcher = MATCHERS[method](sigma=0.1)
        model = MLP(dim=2, time_varying=True)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(steps):
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(*draw(batch))
            loss = torch.mean((model(torch.cat([xt, t[:, None]], dim=-1)) - ut) ** 2)
            loss.backward()
            optimizer.step()
        return steps

    return call


def plans(n: int, dim: int, times: int) -> Call:
    """Pairs by torchcfm's plan sampler; the amount is the number of pairs."""
    x0, x1 = (torch.from_numpy(cloud).float() for cloud in clouds(n, dim))

    def call() -> float:
        sampler = OTPlanSampler("exact")
        for _ in range(times):
            sampler.sample_plan(x0, x1)
        return times * n

    return call


def distances(problems: str) -> Call:
    """Exact W2 by `ot.emd2`, one problem after the other; the amount is the number of problems."""
    pairs = read_problems(problems)

    def call() -> float:
        for x, y in pairs:
            ot.emd2([], [], ot.dist(x, y), numItermax=10**9)
        return len(pairs)

    return call


class _Stacked(nn.Module):
    """flow_matching and torchdiffeq hand over a time without axes."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, t: Tensor, x: Tensor) -> Tensor:
        return self.model(torch.cat([x, t.expand(len(x))[:, None]], 1))


def by_torchdyn(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    if solver["name"] == "euler":
        node = NeuralODE(torch_wrapper(model), solver="euler", sensitivity="adjoint")
        return node.trajectory(x, t_span=torch.linspace(0, 1, solver["steps"] + 1))[-1]
    node = NeuralODE(torch_wrapper(model), solver="dopri5", sensitivity="adjoint", rtol=solver["rtol"], atol=solver["atol"])
    return node.trajectory(x, t_span=torch.linspace(0, 1, 2))[-1]


def by_flow_matching(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    ode = ODESolver(lambda x, t: _Stacked(model)(t, x))
    if solver["name"] == "euler":
        return ode.sample(x, step_size=1 / solver["steps"], method="euler")
    return ode.sample(x, step_size=None, method="dopri5", rtol=solver["rtol"], atol=solver["atol"])


def by_torchdiffeq(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    ends = torch.tensor([0.0, 1.0])
    if solver["name"] == "euler":
        return odeint(_Stacked(model), x, ends, method="euler", options={"step_size": 1 / solver["steps"]})[-1]
    return odeint(_Stacked(model), x, ends, method="dopri5", rtol=solver["rtol"], atol=solver["atol"])[-1]


LIBRARIES = {"torchdyn": by_torchdyn, "flow_matching": by_flow_matching, "torchdiffeq": by_torchdiffeq}


def sampling(library: str, models: int, points: int, weights: str, solver: dict[str, Any]) -> Call:
    """End points of one model's flow after the other; the amount is the number of points."""
    layers = [torch.from_numpy(array) for array in read_arrays(weights).values()]
    model = MLP(dim=2, time_varying=True).requires_grad_(False)
    for linear, weight, bias in zip(model.net[::2], layers[::2], layers[1::2], strict=True):
        linear.weight.copy_(weight.T), linear.bias.copy_(bias[0])
    x = torch.from_numpy(clouds(points, 2)[0]).float()

    def call() -> float:
        with torch.no_grad():
            for _ in range(models):
                LIBRARIES[library](model, x, solver)
        return models * points

    return call
