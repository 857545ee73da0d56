"""The sampler of flows of tokens: a Markov chain in continuous time, in steps."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from rectiflow.interpolants import Interpolant
from rectiflow.models.model import Model
from rectiflow.models.posterior import Posterior
from rectiflow.ranges import at_least, positive
from rectiflow.solvers import Solution
from rectiflow.token_guidance import TokenGuidance
from rectiflow.tokens import drawn


@dataclass(frozen=True)
class Ctmc:
    """`steps` equal steps in time of a flow of tokens from t = 0 to t = 1. From kappa to kappa' a token of the source
    becomes one of the data, drawn from p(x1_i | xt), with probability `p = (kappa' - kappa) / (1 - kappa)`, which is exact
    for a constant posterior; the last step draws all that are left.

    The corrector of strength `eta` first makes a token one of the source with probability `1 - exp(-eta h (1 - kappa))`, h
    the step in time: that takes the law of the tokens back to a smaller share, exactly, and the step goes on from there, so
    that eta is about the rate at which a token is drawn anew (Campbell et al., arXiv 2402.04997). The first step has nothing
    to take back, and the last takes nothing. `temperature` divides the logits. `scale` is that of guidance (see
    `TokenGuidance`): with a sum Z of the guided law a token jumps with probability `1 - (1 - p)^Z`.

    Who jumps in a step depends on the schedule alone, not on the tokens: a token that shows that it is the data's does not,
    and the others do with one and the same probability. So it is drawn first, and the model is asked at the rows where some
    token jumps; what it said of others would change nothing. `nfe` counts the steps; a row pays for `sum_k 1 - (1 -
    p_k)^dim` of them from a uniform source, for `sum_k 1 - (1 - kappa_(k+1) + kappa_k)^dim` from a masked one without
    corrector: 7.9 and 2.0 of 64 for two tokens. With guidance a row pays for all steps in which a token may jump.
    """

    needs: ClassVar[type[Model]] = Posterior
    score: ClassVar[bool] = False
    steps: int = 64
    eta: float = 0.0
    temperature: float = 1.0
    scale: float = 1.0

    def __post_init__(self) -> None:
        at_least(1, steps=self.steps)
        at_least(0, eta=self.eta, scale=self.scale)
        positive(temperature=self.temperature)
        if self.eta and self.steps < 3:
            raise ValueError(f"eta: {self.eta:g} with {self.steps} steps: the corrector acts in no first and no last step")

    @property
    def label(self) -> str:
        options = {"eta": (self.eta, 0), "temperature": (self.temperature, 1), "guidance": (self.scale, 1)}
        said = ", ".join(f"{name} {value:g}" for name, (value, usual) in options.items() if value != usual)
        return f"ctmc({said})" if said else "ctmc"

    def starts(self, path: Interpolant) -> bool:
        """Always."""
        return True

    def __call__(self, model: Any, x0: Tensor, generator: Generator, trajectory: bool = False) -> Solution:
        """From tokens x0 `(1, n, dim)` that are equally likely, of which a masked source takes the shape alone. Raises
        ValueError for a scale where nothing is asked for.
        """
        guidance = TokenGuidance.of(model, self.scale)
        flow: Posterior = guidance.model
        times = torch.linspace(0, 1, self.steps + 1, dtype=torch.float64)
        shares = flow.kappa(times).tolist()
        x = flow.origin.begins(x0[0].long())
        states = [x]
        for k, after in enumerate(shares[1:]):
            share, x = shares[k], x.clone()
            if self.eta and 0 < k < self.steps - 1:
                share, x = self._back(flow, share, x, generator)
            x = self._jump(guidance, share, (after - share) / (1 - share), x, generator)
            if trajectory:
                states.append(x)
        kept = states if trajectory else [*states, x]
        return Solution(times if trajectory else times[[0, -1]], torch.stack(kept)[:, None], self.steps * guidance.passes)

    def _back(self, flow: Posterior, share: float, x: Tensor, generator: Generator) -> tuple[float, Tensor]:
        """Tokens with some of the source's in their place, and the share that is left to the data."""
        kept = torch.tensor(-self.eta * (1 - share) / self.steps, dtype=torch.float64).exp()
        return float(kept) * share, flow.origin.noised(x, kept, flow.vocabulary, generator)

    def _jump(self, guidance: TokenGuidance, share: float, p: float, x: Tensor, generator: Generator) -> Tensor:
        """Tokens after a step in which each one that is open becomes the data's with probability p."""
        flow: Posterior = guidance.model
        u = torch.rand(x.shape, generator=generator, dtype=torch.float64).to(x.device)
        jumps = flow.origin.open(x)
        if self.scale == 1:
            jumps = jumps & (u < p)
        rows = jumps.any(-1).nonzero()[:, 0]
        if not len(rows):
            return x
        at = torch.tensor(share, dtype=torch.float64, device=x.device)
        log_p = guidance.log_p(rows, lambda rows, c: flow.at(at, x[rows][None], c))
        here = jumps[rows]
        if self.scale != 1:
            here = here & (u[rows] < 1 - (1 - p) ** log_p.exp().sum(-1))
        before = x[rows]
        before[here] = drawn(log_p[here] / self.temperature, generator)
        x[rows] = before
        return x
