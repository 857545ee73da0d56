"""The section of the report on gradient flows: energies and modes over time, pictures of the steps, and what was found."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rectiflow.statistics import estimate
from stages.report import animation
from stages.report.figures import COLOURS, panels, plt, uri
from stages.report.html import Section, figure, note, section, table
from stages.report.printing import html, plain
from stages.report.results import select

BESIDE = 6  # pictures of a strip


class Followed(NamedTuple):
    """A gradient flow: its row of `params.yaml`, what was measured at every step, and points of every step `(steps, n,
    dim)`.
    """

    row: Mapping[str, Any]
    steps: pd.DataFrame
    frames: np.ndarray

    @property
    def problem(self) -> str:
        """What it has in common with those that it may be compared with."""
        energy, source = (
            " ".join(str(value) for value in self.row.get(key, {"name": "kl"}).values()) for key in ("energy", "source")
        )
        target = "" if self.row.get("target", "target") == "target" else "'s source"
        return f"{energy} to {self.row['dataset']}{target}, from {source}"

    @property
    def scheme(self) -> str:
        """The scheme with its options."""
        name, *options = self.row["scheme"].values()
        said = ", ".join(f"{key} {value}" for key, value in self.row["scheme"].items() if key != "name")
        return f"{name} ({said})" if options else str(name)


def sections(found: Mapping[str, Followed], results: pd.DataFrame) -> list[Section]:
    """One section; nothing where no gradient flow was followed."""
    if not found:
        return []
    said = (
        "Steps of Jordan, Kinderlehrer and Otto, <code>p' = argmin F(p) + W2²(p, p_k) / (2 tau)</code>. Energies in nats; "
        "exact are the steps of quantiles and closed forms, where source and target are products of a line and a Gaussian. "
        "W2 is between the last law's points and the test set, or points of the exact law; its floor is that of two samples "
        "of the second. TV over modes is how far the shares of the modes are from the target's."
    )
    parts = [note(said)]
    for problem in dict.fromkeys(of.problem for of in found.values()):
        here = {name: of for name, of in found.items() if of.problem == problem}
        parts += [f"<h3>{escape(problem)}</h3>", *findings(here), measured(here, results)]
        parts.append(figure(over_time(here), "Energy over time and, where the target has modes, the share of the last one."))
        parts.append(figure(strip(here), "Evenly spaced steps of the first seed, scheme by scheme."))
        parts.append(animation.player(problem, {name: of.frames for name, of in here.items()}, tau(here)))
    return [section("gradient_flows", "Gradient flows", *parts, animation.SCRIPT)]


def picture(found: Mapping[str, Followed]) -> bytes | None:
    """The first gradient flows as an animated PNG, which moves wherever pictures are shown; None without any."""
    if not found:
        return None
    first = next(iter(found.values())).problem
    return animation.file({name: of.frames for name, of in found.items() if of.problem == first}, "PNG")


def tau(found: Mapping[str, Followed]) -> dict[str, float]:
    """The length of a step of each."""
    return {name: float(of.row["tau"]) for name, of in found.items()}


def findings(found: Mapping[str, Followed]) -> list[str]:
    """What the rows say of each other, in sentences."""
    said = []
    for name, of in found.items():
        first, last = (of.steps[of.steps.step == k] for k in (0, of.steps.step.max()))
        rise = of.steps.groupby("seed").energy.diff().max()
        ended = f"F falls from {plain(estimate(first.energy.tolist()))} to {plain(estimate(last.energy.tolist()))}"
        exact = last.exact.iloc[0]
        if np.isfinite(exact) and of.row["scheme"]["name"] != "exact":
            ended += f" (exact steps: {exact:.4f}, {100 * (last.energy.mean() / exact - 1):+.1f} %)"
        ended += ", in every step" if rise <= 0 else f", not in every step: one rises by {rise:.2g}"
        if "mode_1" in of.steps:
            ended += f"; {100 * last.mode_1.mean():.1f} % of the mass is at the last mode"
        said.append(f"<li><b>{escape(name)}</b>: {ended}.</li>")
    return [f"<ul>{''.join(said)}</ul>"]


COLUMNS = {
    "jko_energy": "F at the end", "jko_energy_exact": "F of exact steps", "jko_w2_exact": "W2 to the exact law",
    "jko_w2_exact_floor": "floor", "jko_w2": "W2 to the test set", "jko_w2_floor": "floor", "jko_modes": "TV over modes",
    "jko_length": "length of the way", "jko_potential": "correlation of the potential recovered",
}  # fmt: skip


def measured(found: Mapping[str, Followed], results: pd.DataFrame) -> str:
    """The numbers at the end, a row for each gradient flow."""
    values = {
        (name, metric): select(results, metric, dataset=of.row["dataset"], method=name).value.tolist()
        for name, of in found.items() for metric in COLUMNS
    }  # fmt: skip
    shown = [metric for metric in COLUMNS if any(values[name, metric] for name in found)]
    rows = []
    for name, of in found.items():
        cells = [html(estimate(values[name, metric])) if values[name, metric] else "" for metric in shown]
        rows.append([escape(name), escape(of.scheme), f"{of.row['tau']:g}", str(of.row["steps"]), *cells])
    return table(["gradient flow", "scheme", "tau", "steps", *(COLUMNS[metric] for metric in shown)], rows)


def over_time(found: Mapping[str, Followed]) -> str:
    """Energies, and the share of the last mode, against time: means over seeds, the exact steps dashed."""
    modes = [name for name, of in found.items() if "mode_1" in of.steps]
    drawn, axes = panels(2 if modes else 1)
    for k, (name, of) in enumerate(found.items()):
        mean, colour = of.steps.groupby("time").mean(), COLOURS[k % len(COLOURS)]
        style: dict[str, Any] = {"color": colour, "lw": 1.2, "ls": ["-", "--", ":"][k // len(COLOURS) % 3], "label": name}
        axes[0].plot(mean.index, mean.energy, **style)
        if name in modes:
            axes[1].plot(mean.index, mean.mode_1, **style)
    if all((of.steps.energy > 0).all() for of in found.values()):
        axes[0].set_yscale("log")
    axes[0].set(xlabel="time", ylabel="F (nats)")
    axes[0].legend(fontsize=6, ncols=2)
    if modes:
        axes[1].set(xlabel="time", ylabel="share of the last mode")
    return uri(drawn, "svg")


def strip(found: Mapping[str, Followed]) -> str:
    """Pictures of BESIDE evenly spaced steps, the first and the last among them, a row for each gradient flow."""
    points = np.concatenate([of.frames.reshape(-1, of.frames.shape[-1]) for of in found.values()])
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    drawn, axes = plt.subplots(
        len(found), BESIDE, figsize=(1.7 * BESIDE, 1.8 * len(found)), squeeze=False, layout="constrained"
    )
    for row, (name, of) in zip(axes, found.items(), strict=True):
        for ax, k in zip(row, strip_steps(len(of.frames) - 1), strict=True):
            ax.plot(*of.frames[k].T[:2], ".", ms=0.8, color=COLOURS[0], rasterized=True)
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
            ax.set_title(f"{name}, step {k}", fontsize=7)
    return uri(drawn, "png")


def strip_steps(last: int) -> Sequence[int]:
    """The steps that are shown."""
    return [round(k * last / (BESIDE - 1)) for k in range(BESIDE)]
