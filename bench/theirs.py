"""The neighbours' side, as their users write it: torchcfm's tutorial loop, its plan sampler, three libraries' solvers.

Every function prepares a piece of work and returns the call that does it; the call returns what it did.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import ot
import torch
import zuko
from flow_matching.solver import ODESolver
from torch import Generator, Tensor, nn
from torchcfm.conditional_flow_matching import ConditionalFlowMatcher, ExactOptimalTransportConditionalFlowMatcher
from torchcfm.models.models import MLP
from torchcfm.optimal_transport import OTPlanSampler
from torchcfm.utils import sample_8gaussians, sample_moons, torch_wrapper
from torchdiffeq import odeint
from torchdyn.core import NeuralODE
from torchdyn.models.cnf import CNF, autograd_trace

from bench import eager, laws, pictures
from bench.clouds import clouds, read_arrays, read_problems
from bench.worker import Call, Done

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

    def call() -> Done:
        matcher = MATCHERS[method](sigma=0.1)
        model = MLP(dim=2, time_varying=True)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(steps):
            optimizer.zero_grad()
            t, xt, ut = matcher.sample_location_and_conditional_flow(*draw(batch))
            loss = torch.mean((model(torch.cat([xt, t[:, None]], dim=-1)) - ut) ** 2)
            loss.backward()
            optimizer.step()
        return Done(steps)

    return call


def one_step(objective: str, steps: int, batch: int) -> Call:
    """An eager loop of plain PyTorch for one model on stored pairs; the amount is the number of steps."""
    x0, x1 = library_draw(10_000)

    def call() -> Done:
        eager.train(objective, x0, x1, steps, batch)
        return Done(steps)

    return call


def picture_training(steps: int, batch: int) -> Call:
    """An eager loop of plain PyTorch; the amount is the number of steps."""
    model, x1 = pictures.module(), pictures.noise(1000, 1)

    def call() -> Done:
        eager.match(model, x1, steps, batch)
        return Done(steps)

    return call


def picture_sampling(points: int, steps: int) -> Call:
    """Ends by Euler's method in plain PyTorch; the amount is the number of pictures. Found: their mean length."""
    model, x0 = pictures.module(), pictures.noise(points, 2)

    def call() -> Done:
        return Done(points, float(eager.euler(model, x0, steps).norm(dim=-1).double().mean()), steps)

    return call


def rollout(starts: int, steps: int, euler: int) -> Call:
    """Roll-outs in plain PyTorch; the amount is the number of states. Found: their mean energy at the end."""
    model, law, (s, actions) = laws.module(laws.NEXT), laws.PENDULUM, laws.starts(starts, steps)

    def call() -> Done:
        end = eager.follow(model, law, s, actions, euler, Generator().manual_seed(2))
        return Done(starts * steps, float(law.system.energy(end).double().mean()), steps * euler)

    return call


def unmasking(rows: int, steps: int) -> Call:
    """Draws of a masked flow of tokens in plain PyTorch; the amount is the number of rows. Found: the mean token."""
    model = laws.module(laws.CELLS)

    def call() -> Done:
        torch.manual_seed(3)
        return Done(rows, float(eager.unmask(model, rows, laws.TOKENS, laws.VALUES, steps).double().mean()), steps)

    return call


def plans(n: int, dim: int, times: int) -> Call:
    """Pairs by torchcfm's plan sampler; the amount is their number. Found: the mean cost of the plan they are drawn from."""
    x0, x1 = (torch.from_numpy(cloud).float() for cloud in clouds(n, dim))
    plan = OTPlanSampler("exact").get_map(x0, x1)
    cost = float((plan * torch.cdist(x0.double(), x1.double()).square().numpy()).sum())

    def call() -> Done:
        sampler = OTPlanSampler("exact")
        for _ in range(times):
            sampler.sample_plan(x0, x1)
        return Done(times * n, cost)

    return call


def movement(problem: str, cells: int) -> Call:
    """A minimising movement by `ot.unbalanced.sinkhorn_unbalanced`: a plan whose first marginal is exact and whose second is
    drawn to the target with the weight 2 tau. The amount is one; found: the divergence to the target after it.
    """
    arrays = read_arrays(problem)
    x, before, target = (arrays[name] for name in ("x", "before", "target"))
    costs = ot.dist(x, x)

    def call() -> Done:
        plan = ot.unbalanced.sinkhorn_unbalanced(
            before, target, costs, reg=0.3, reg_m=(float("inf"), 0.2), reg_type="entropy", stopThr=1e-9, numItermax=10_000
        )
        p = plan.sum(0)
        return Done(1, float((p * np.log(p / target)).sum()))

    return call


def distances(problems: str) -> Call:
    """Exact W2 by `ot.emd2`, one problem after the other; the amount is their number. Found: the mean square."""
    pairs = read_problems(problems)

    def call() -> Done:
        squares = [ot.emd2([], [], ot.dist(x, y), numItermax=10**9) for x, y in pairs]
        return Done(len(pairs), float(np.mean(squares)))

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
    stacked = _Stacked(model)
    ode = ODESolver(lambda x, t: stacked(t, x))
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
    """End points of one model's flow after the other; the amount is the number of points. Found: their mean length."""
    model = _stored(weights)
    x = torch.from_numpy(clouds(points, 2)[0]).float()
    calls = [0]

    def count(*_: object) -> None:
        calls[0] += 1

    model.register_forward_pre_hook(count)

    def call() -> Done:
        calls[0] = 0
        with torch.no_grad():
            ends = [LIBRARIES[library](model, x, solver) for _ in range(models)]
        return Done(models * points, float(ends[0].norm(dim=-1).double().mean()), calls[0] // models)

    return call


# ---- Densities.

FLOWS: dict[str, Callable[[], nn.Module]] = {
    "realnvp": lambda: zuko.flows.RealNVP(2, transforms=8, hidden_features=(64, 64)),
    "spline": lambda: zuko.flows.NSF(2, transforms=4, bins=8, passes=2, hidden_features=(64, 64)),
}


def likelihood_training(flow: str, steps: int, batch: int, points: str) -> Call:
    """zuko's tutorial loop for one model on stored points; the amount is the number of steps. Found: nats a point of 1000
    that were held out.
    """
    x = torch.from_numpy(read_arrays(points)["x"])
    held_out, x = x[:1000], x[1000:]

    def call() -> Done:
        model = FLOWS[flow]()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for _ in range(steps):
            loss = -model().log_prob(x[torch.randint(len(x), (batch,))]).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        with torch.no_grad():
            return Done(steps, float(-model().log_prob(held_out).mean()))

    return call


def _normal(x: Tensor) -> Tensor:
    return torch.distributions.Normal(0.0, 1.0).log_prob(x).sum(-1)


def likelihood_by_flow_matching(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    stacked = _Stacked(model)
    ode = ODESolver(lambda x, t: stacked(t, x))
    options = {"method": solver["name"], "step_size": 1 / solver["steps"]}
    return ode.compute_likelihood(x, _normal, exact_divergence=True, **options)[1]


def likelihood_by_torchdyn(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    stacked = _Stacked(model)

    class Field(nn.Module):
        def forward(self, t: Tensor, x: Tensor, args: Any = None) -> Tensor:
            return CNF(lambda z: stacked(t, z), trace_estimator=autograd_trace)(x)

    node = NeuralODE(Field(), solver=solver["name"], sensitivity="autograd")
    span = torch.linspace(1, 0, solver["steps"] + 1)
    end = node.trajectory(torch.cat([torch.zeros(len(x), 1), x], 1), t_span=span)[-1]
    return _normal(end[:, 1:]) - end[:, 0]


def likelihood_by_zuko(model: nn.Module, x: Tensor, solver: dict[str, Any]) -> Tensor:
    tolerances = {"rtol": solver["rtol"], "atol": solver["atol"]}
    flow = zuko.transforms.FreeFormJacobianTransform(_Stacked(model), t0=1.0, t1=0.0, **tolerances)
    x0, change = flow.call_and_ladj(x)
    return _normal(x0) + change


LIKELIHOODS = {
    "flow_matching": likelihood_by_flow_matching, "torchdyn": likelihood_by_torchdyn, "zuko": likelihood_by_zuko
}  # fmt: skip


def likelihoods(library: str, points: int, weights: str, solver: dict[str, Any]) -> Call:
    """log p of points by the exact divergence of a field; the amount is their number. Found: their mean."""
    model, calls = _stored(weights), [0]
    x = torch.from_numpy(clouds(points, 2)[0]).float()
    model.register_forward_pre_hook(lambda *_: calls.__setitem__(0, calls[0] + 1))

    def call() -> Done:
        calls[0] = 0
        found = LIKELIHOODS[library](model, x, solver)
        return Done(points, float(found.detach().double().mean()), calls[0])

    return call


def _stored(weights: str) -> nn.Module:
    """The field whose weights both sides read."""
    model = MLP(dim=2, time_varying=True).requires_grad_(False)
    eager.load(model.net, map(torch.from_numpy, read_arrays(weights).values()))
    return model


# ---- On a GPU.


class _Stack(nn.Module):
    """The tutorial's network, many at once: products in batches, a graph of autograd's own."""

    def __init__(self, models: int) -> None:
        super().__init__()
        sizes = ((3, 64), (64, 64), (64, 64), (64, 2))
        self.weights = nn.ParameterList(nn.Parameter(torch.randn(models, *size) / size[0] ** 0.5) for size in sizes)
        self.biases = nn.ParameterList(nn.Parameter(torch.zeros(models, 1, size[1])) for size in sizes)

    def forward(self, x: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, torch.selu(x) if i else x, weight)
        return x


def fitting(seeds: int, steps: int, batch: int, device: str) -> Call:
    """Eager training of many models at once from stored points; the amount is the number of steps of all models."""
    x0, x1 = (part.to(device) for part in library_draw(20_000))

    def call() -> Done:
        model = _Stack(seeds).to(device)
        optimizer = torch.optim.Adam(model.parameters())
        for _ in range(steps):
            rows, columns = (torch.randint(20_000, (seeds, batch), device=device) for _ in range(2))
            start, end, t = x0[rows], x1[columns], torch.rand(seeds, batch, 1, device=device)
            xt = torch.lerp(start, end, t) + 0.1 * torch.randn_like(start)
            loss = (model(torch.cat([xt, t], -1)) - (end - start)).square().mean((1, 2)).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()
        return Done(steps * seeds)

    return call
