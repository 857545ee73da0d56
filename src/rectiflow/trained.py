"""A trained model in a user's hands: draws, velocities and densities in the units of the rows that it was trained on."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from rectiflow.arrays import as_array, as_rows
from rectiflow.conditions import is_one
from rectiflow.guidance import Guidance
from rectiflow.likelihood import DIVERGENCES, Exact, Pushforward
from rectiflow.models.conditional import Conditional
from rectiflow.models.model import Density, Field, Model, Tokens
from rectiflow.models.token_network import InformedTokens
from rectiflow.origin import Origin
from rectiflow.ranges import at_least
from rectiflow.registry import built
from rectiflow.samplers import SAMPLERS, Sampler, transport
from rectiflow.sections import sectioned
from rectiflow.solvers import SOLVERS, TABLEAUX, Solver
from rectiflow.streams import stream
from rectiflow.threads import threads
from rectiflow.tokens import check

PART = 50_000  # rows between two words of progress
STEPS = 20  # of rk4, along which a density is solved
POINTS = 2**16  # whose densities are worked out together

Score = Callable[[Tensor, Tensor | None], Tensor]  # log densities of points `(n, dim)` with conditions `(1, n, conditions)`


@dataclass(frozen=True)
class Trained:
    """A trained model, one set of weights for each of `seeds`, and what its numbers stand for.

    Methods concern one set of weights, the first unless `of(seed)` picks another, and compute on one thread: the same seed
    gives the same numbers. Rows are `(n, dim)` arrays in their own units: what scaled a table is undone. `facts` is what
    else is known of it, for those who read the file.
    """

    model: Model
    seeds: tuple[int, ...]
    origin: Origin
    facts: Mapping[str, Any] = field(default_factory=dict)

    def of(self, seed: int) -> "Trained":
        """The same with the weights of one seed alone. Raises ValueError for a seed that it was not trained with."""
        if seed not in self.seeds:
            raise ValueError(f"seed: {seed} is not one of {', '.join(map(str, self.seeds))}")
        return replace(self, model=self.model.seed(self.seeds.index(seed)), seeds=(seed,))

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(iter(self.model.weights.values())).device

    def to(self, device: str) -> "Trained":
        """The same on another device."""
        return replace(self, model=self.model.to(device))

    def sampler(
        self,
        steps: int | None = None,
        sampler: str | Mapping[str, Any] | None = None,
        guidance: float | None = None,
    ) -> Sampler:
        """What `sample` draws by. Raises ValueError, naming the choices, for one that cannot draw from this model."""
        spec = sectioned("sampler", self._usual(steps) if sampler is None else sampler)
        if guidance not in (None, 1):
            spec = self._guided(spec, guidance)
        if spec["name"] not in SAMPLERS:
            raise ValueError(f"sampler: {spec['name']!r} is not one of {', '.join(self.samplers)}")
        if steps is not None and spec["name"] != "once":
            spec["steps"] = steps
        elif steps not in (None, 1):
            raise ValueError(f"steps: {steps}: a map is drawn from in one step")
        found: Sampler = built(SAMPLERS, spec)
        if not isinstance(self.model, found.needs):
            raise ValueError(f"sampler: {spec['name']!r} cannot draw from this model; {', '.join(self.samplers)} can")
        if found.score and self._scoreless:
            raise ValueError(f"sampler: {spec['name']!r} goes by the score, which independent pairs from N(0, I) alone have")
        return found

    def _guided(self, spec: Mapping[str, Any], scale: float) -> dict[str, Any]:
        """The same steps with guidance."""
        at_least(0, guidance=scale)
        if not isinstance(self.model, Conditional | InformedTokens):
            raise ValueError(f"guidance: {scale:g}: this model is not conditional; there is nothing to go by")
        if not self.model.dropout:
            raise ValueError(
                f"guidance: {scale:g}: the model was trained with a dropout of 0, and knows nothing without a class"
            )
        if spec["name"] == "guided" or isinstance(self.model, InformedTokens):
            return {**spec, "scale": scale}
        if spec["name"] not in TABLEAUX:
            raise ValueError(f"sampler: {spec['name']!r} takes no guidance; {', '.join(TABLEAUX)} do")
        return {**spec, "name": "guided", "solver": spec["name"], "scale": scale}

    @property
    def samplers(self) -> list[str]:
        """The names of those that can draw from this model."""
        return [name for name in SAMPLERS if self._serves(name)]

    def _serves(self, name: str) -> bool:
        usual: Sampler = SAMPLERS[name]()
        return isinstance(self.model, usual.needs) and not (usual.score and self._scoreless)

    def _usual(self, steps: int | None) -> str:
        """A map is drawn from once, a flow by jumps, a field by Euler's steps, tokens by their chain, or one by one."""
        order = ["jumps", "euler", "langevin", "once"] if steps not in (None, 1) else ["once", "jumps", "euler", "langevin"]
        return next(name for name in (*order, "ctmc", "autoregressive") if self._serves(name))

    @property
    def _scoreless(self) -> bool:
        """Whether a velocity gives no score: that of independent pairs from N(0, I) alone does."""
        return self.origin.given or self.origin.source is not None or not self.origin.independent

    @threads(1)
    def sample(
        self,
        n: int | None = None,
        steps: int | None = None,
        *,
        sampler: str | Mapping[str, Any] | None = None,
        seed: int = 0,
        x0: Any = None,
        label: Any = None,
        guidance: float | None = None,
        condition: Any = None,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """`n` draws `(n, dim)` in `steps` steps. The same seed gives the same draws.

        `sampler` is a name or a row, such as `{"name": "sde", "noise": "alpha"}`; left out, a map is applied once, a flow
        map jumps, and a field takes Euler's steps, 50 unless `steps` says otherwise. `x0` `(n, dim)`, in the rows' own
        units, are the points to start from; left out, they are drawn from the source. `progress(done, of)` hears of rows.

        Of a conditional model `label` is a class, or one for each draw, and `condition` the numbers `(k,)` or `(n, k)`, in
        their own units; left out, draws are of all classes together. `guidance` is the scale by which they go further than
        the label asks (`rectiflow.models.guided`); 1 is none.

        Raises ValueError for fewer than one step or row, for a sampler that cannot draw from this model, for x0 of another
        width, for a class that it does not know, and for guidance, or no label, where the model was trained with a dropout
        of 0.
        """
        how, generator = self.sampler(steps, sampler, guidance), stream("sample", seed)
        if x0 is None:
            n = _rows(label, condition) if n is None else n
            at_least(1, n=n)
            begun = self.origin.law().sample(n, generator)
        else:
            begun = self._in(x0, "x0")
            if n not in (None, len(begun)):
                raise ValueError(f"n: {n}: x0 has {len(begun)} rows, and each is drawn from once")
        given = self._given(len(begun), label, condition)
        if isinstance(how, Guidance) and given is None:
            raise ValueError(
                f"guidance: {how.scale:g}: goes beyond what is asked for, and nothing is; {self.origin.choices}"
            )
        return self._drawn(how, begun, given, generator, progress)

    def _drawn(
        self,
        how: Sampler,
        begun: Tensor,
        given: Tensor | None,
        generator: Generator,
        progress: Callable[[int, int], None] | None = None,
    ) -> np.ndarray:
        """Where source points `(n, dim)` are taken, in the rows' own units."""
        device, model = self.device, self.model.seed(0)
        found: list[Tensor] = []
        for part, of_part in _parts(begun, given, PART):
            found.append(transport(model, how, part[None].to(device), [generator], of_part)[0].cpu())
            if progress:
                progress(sum(map(len, found)), len(begun))
        return self._out(torch.cat(found).numpy())

    @threads(1)
    def rollout(
        self,
        states: Any,
        actions: Any,
        steps: int | None = None,
        *,
        sampler: str | Mapping[str, Any] | None = None,
        seed: int = 0,
    ) -> np.ndarray:
        """The states `(n, times + 1, dim)` that follow from `states` `(n, dim)` under `actions` `(n, times, numbers)`, or
        `(times, numbers)` for all: of a model whose rows are changes of a state, or `whole` next states, told the state and
        the action before, in this order. Each time is drawn in `steps` steps by a `sampler`, as `sample` has them.

        Raises ValueError for another number of states or actions than the model's, and for values that are missing.
        """
        rows, condition = as_rows(states, "states"), self.origin.condition
        names = condition.names if condition else ()
        known, numbers = names[: self.origin.dim], len(names) - self.origin.dim
        if numbers < 1 or self.origin.classes:
            raise ValueError("states: this model was trained without states and actions as condition")
        if rows.shape[1] != self.origin.dim:
            raise ValueError(f"states: rows of {rows.shape[1]} numbers; the model's have {len(known)}: {', '.join(known)}")
        taken = as_array(actions)
        taken = np.broadcast_to(taken, (len(rows), *taken.shape)) if taken.ndim == 2 else taken
        if taken.ndim != 3 or len(taken) != len(rows) or taken.shape[2] != numbers:
            raise ValueError(
                f"actions: an array of shape {taken.shape}; it should be ({len(rows)}, times, {numbers}): "
                f"{', '.join(names[self.origin.dim :])}"
            )
        if taken.dtype.kind not in "iuf" or not np.isfinite(taken).all():
            raise ValueError("actions: some are missing; every one should be a finite number")
        how, generator, found = self.sampler(steps, sampler), stream("rollout", seed), [rows.astype(np.float64)]
        for at in np.moveaxis(taken, 1, 0):
            told = np.concatenate([found[-1], at], 1)
            begun, given = self.origin.law().sample(len(rows), generator), self._given(len(rows), None, told)
            drawn = self._drawn(how, begun, given, generator)
            found.append(drawn if condition and condition.whole else found[-1] + drawn)
        return np.stack(found, 1)

    @threads(1)
    def velocity(self, t: Any, x: Any, *, label: Any = None, condition: Any = None) -> np.ndarray:
        """`v(t, x)` at rows x `(n, dim)` in their own units, and in them; t is a number or `(n,)`, 0 at the source and 1 at
        the target. Of a conditional model that of a `label` or `condition`, as `sample` has them, or of all together.
        Raises ValueError for a model that is no field.
        """
        if not isinstance(self.model, Field):
            raise ValueError("velocity: this model is a map, not a field")
        inside, device = self._in(x, "x"), self.device
        time = torch.as_tensor(np.asarray(t, np.float32))
        if time.shape not in ((), (len(inside),)):
            raise ValueError(f"t: of shape {tuple(time.shape)}; it should be a number, or one for each row of x")
        model = self.model.seed(0).given(self._given(len(inside), label, condition))
        with torch.no_grad():
            v: np.ndarray = model(time.expand(len(inside))[None].to(device), inside[None].to(device))[0].cpu().numpy()
        return v if self.origin.units is None else v / self.origin.units.slope(inside.numpy())

    @threads(1)
    def log_prob(
        self,
        x: Any,
        *,
        solver: str | Mapping[str, Any] = "rk4",
        steps: int | None = None,
        divergence: str | Mapping[str, Any] | None = None,
        label: Any = None,
        condition: Any = None,
    ) -> np.ndarray:
        """`log p(x)` `(n,)` in nats at rows x `(n, dim)`, a density in the rows' own units. Of a conditional model it is
        `log p(x | label)`, as `sample` has labels and conditions, or left out that of all together.

        That of a bijection is its own. That of a field is solved from the row to the source by a `solver`, a name or a row
        of SOLVERS, 20 `steps` unless either says otherwise, with the divergence of the field by a name or a row of
        DIVERGENCES: exact up to 16 dimensions, and Hutchinson's above, unless said. Raises ValueError for a model, or a
        source, without a density, for a solver of order one, and for what is not known.
        """
        inside = self._in(x, "x")
        spec = sectioned("solver", solver)
        if steps is not None or spec == {"name": "rk4"}:
            spec["steps"] = STEPS if steps is None else steps
        score = self._score(built(SOLVERS, spec), divergence)
        given, most = self._given(len(inside), label, condition), max(1, POINTS // inside.shape[1])
        with torch.no_grad():
            parts = [score(part, of_part) for part, of_part in _parts(inside, given, most)]
        found = torch.cat(parts).double().cpu().numpy()
        return found if self.origin.units is None else found + self.origin.units.log_slope(inside.numpy())

    def _score(self, solver: Solver, divergence: str | Mapping[str, Any] | None) -> Score:
        model, device = self.model.seed(0), self.device
        if isinstance(model, Density):
            return lambda x, given: model.given(given).log_prob(x[None].to(device))[0]
        if isinstance(model, Tokens):
            return lambda x, given: model.log_prob(x[None].to(device), given)[0]
        if not isinstance(model, Field):
            raise ValueError("log_prob: this model has no density; a field or a bijection has")
        if divergence is None:
            divergence = "exact" if self.origin.dim <= Exact.most else "hutchinson"
        how = built(DIVERGENCES, sectioned("divergence", divergence))
        source, generator = self.origin.log_prob(), stream("probes", 0)

        def begun(x: Tensor) -> Tensor:
            return source(x[0].double().cpu())[None].to(x)

        def score(x: Tensor, given: Tensor | None) -> Tensor:
            pushed = Pushforward.of(model.given(given), begun, solver, how)
            return pushed.log_prob(x[None].to(device), generator).log_prob[0]

        return score

    def _given(self, n: int, label: Any, condition: Any) -> Tensor | None:
        """What tells the network the label and the condition of n rows."""
        given, choices = self.origin.conditions(n, label, condition), self.origin.choices
        if given is None and self.model.conditional and not getattr(self.model, "dropout", 1):
            raise ValueError(
                f"label: None: the model, trained with a dropout of 0, knows no draws of all classes; {choices}"
            )
        return None if given is None else given.to(self.device)

    def save(self, path: Any) -> None:
        """Write all of it as one safetensors file, which `rectiflow.load` reads."""
        from rectiflow.saved import save

        save(self, path)

    def _in(self, rows: Any, name: str) -> Tensor:
        """Rows in their own units as x, `(n, dim)` in float32."""
        own = as_rows(rows)
        if own.shape[1] != self.origin.dim:
            raise ValueError(f"{name}: rows of {own.shape[1]} numbers; the model's have {self.origin.dim}")
        if self.origin.vocabulary:
            return self._tokens(own, name)
        with np.errstate(all="ignore"):
            x = self.origin.units(own) if self.origin.units else own.astype(np.float32)
        if len(bad := np.flatnonzero(~np.isfinite(x).all(1))):
            raise ValueError(f"{name}: row {bad[0]} lies outside of what the model's numbers can be")
        return torch.from_numpy(x)

    def _tokens(self, own: np.ndarray, name: str) -> Tensor:
        """Rows of tokens, `(n, dim)` of int64. Raises ValueError for a number that is none of its column's."""
        x = torch.from_numpy(own.astype(np.int64))
        if len(bad := np.flatnonzero((own != x.numpy()).any(1))):
            raise ValueError(f"{name}: row {bad[0]} has numbers that are not whole; tokens are")
        check(x, self.origin.vocabulary)
        return x

    def _out(self, x: np.ndarray) -> np.ndarray:
        units = self.origin.units
        if units is None:
            return x
        own = units.back(x)
        return np.floor(own).clip(0, units.levels - 1) if units.levels else own


def _rows(label: Any, condition: Any) -> int:
    """How many rows these are for; 1 where they are for any number."""
    if label is not None and not is_one(label):
        return len(label)
    return len(condition) if np.ndim(condition) == 2 else 1


def _parts(x: Tensor, given: Tensor | None, most: int) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Rows, so many at a time, each part with its conditions `(1, n, conditions)`."""
    parts = x.split(most)
    conditions = [None] * len(parts) if given is None else given.split(most, 1)
    yield from zip(parts, conditions, strict=True)
