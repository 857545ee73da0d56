"""The section of the report on gradient flows: energies and modes over time, pictures of the steps, and what was found."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from rectiflow.statistics import estimate
from stages.report import animation
from stages.report.figures import COLOURS, GREY, panels, plt, uri
from stages.report.html import Section, figure, note, part, section, table
from stages.report.pace import order, pace
from stages.report.printing import plain, shown
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
    def target(self) -> str:
        """The side of the data set that the energy is that to."""
        return str(self.row.get("target", "target"))

    @property
    def source(self) -> str:
        """The law that it sets out from."""
        return " ".join(str(value) for value in self.row.get("source", {"name": "source"}).values())

    @property
    def problem(self) -> str:
        """What it has in common with those that it may be compared with."""
        energy = " ".join(str(value) for value in self.row.get("energy", {"name": "kl"}).values())
        return f"{energy} to the {self.target} of {self.row['dataset']}, from {self.source}"

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
        "of the second. TV over modes is how far the shares of the modes are from the target's. The length of a way is the "
        "sum of its steps'; none is shorter than the W2 between its ends."
    )
    parts = [note(said)]
    for k, problem in enumerate(dict.fromkeys(of.problem for of in found.values())):
        here = {name: of for name, of in found.items() if of.problem == problem}
        shown = [
            *findings(here, results),
            measured(here, results),
            *speeds(here),
            figure(over_time(here), "Means over seeds. W2 is that of some hundred points; dotted is their floor."),
            figure(strip(here), "Evenly spaced steps of the first seed, scheme by scheme."),
            moving(problem, here),
        ]
        parts.append(part(problem, *shown, unfolded=not k))
    return [section("gradient_flows", "Gradient flows", *parts, *ways(found, results))]


def picture(found: Mapping[str, Followed]) -> bytes | None:
    """The first gradient flows as an animated PNG, which moves wherever pictures are shown; None without any."""
    if not found:
        return None
    first = next(iter(found.values())).problem
    return animation.file({name: of.frames for name, of in found.items() if of.problem == first}, "PNG")


def moving(problem: str, found: Mapping[str, Followed]) -> str:
    """The steps of those that have as many as most, one after the other."""
    frames = animation.together({name: of.frames for name, of in found.items()})
    taus = {float(found[name].row["tau"]) for name in frames}
    time = ", time {:.2f}" if len(taus) == 1 else ""
    said = [f"{k}{time.format(k * min(taus))}" for k in range(len(next(iter(frames.values()))))]
    return animation.player(problem, frames, said, gif=animation.file(frames, "GIF"))


def findings(found: Mapping[str, Followed], results: pd.DataFrame) -> list[str]:
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
        if mode := last_of_modes(of.steps):
            ended += f"; {100 * last[mode].mean():.1f} % of the mass is at the last mode"
        row = f"{of.scheme}, {of.row['steps']} steps of {of.row['tau']:g}"
        said.append(f"<li><b>{escape(name)}</b> ({escape(row)}): {ended}.</li>")
    if halved := order({name: of.row for name, of in found.items()}, {name: of.steps for name, of in found.items()}):
        taus, energies = (", ".join(f"{value:.4g}" for value in values) for values in halved)
        said.append(
            f"<li>Steps of the lengths {taus} end, at the same time, at F = {energies}: differences halve with tau to the "
            f"order {halved.order:.2f} (minimising movements are of the first).</li>"
        )
    said += learned(found, results)
    return [f"<ul>{''.join(said)}</ul>"]


def learned(found: Mapping[str, Followed], results: pd.DataFrame) -> list[str]:
    """What a trained score costs, where the same problem was followed by the density, too."""
    known = [name for name, of in found.items() if not of.row.get("teacher")]

    def distance(name: str, metric: str) -> str:
        return plain(estimate(select(results, metric, dataset=found[name].row["dataset"], method=name).value.tolist()))

    return [
        f"<li>The score of {escape(of.row['teacher'])} leads {escape(name)} to W2 {distance(name, 'jko_w2')}, the density "
        f"leads {escape(known[0])} to {distance(known[0], 'jko_w2')}; the floor is {distance(name, 'jko_w2_floor')}.</li>"
        for name, of in found.items()
        if known and of.row.get("teacher") and of.row["scheme"]["name"] != "velocity"
    ]


COLUMNS = {
    "jko_energy": "F at the end", "jko_w2_exact": "W2 to exact law",
    "jko_w2_exact_floor": "floor", "jko_w2": "W2 to test set", "jko_w2_floor": "floor", "jko_modes": "TV over modes",
    "jko_length": "length", "jko_distance": "W2 of its ends",
    "jko_potential": "potential's correlation",
}  # fmt: skip


def measured(found: Mapping[str, Followed], results: pd.DataFrame) -> str:
    """The numbers at the end, a row for each gradient flow."""
    values = {
        (name, metric): select(results, metric, dataset=of.row["dataset"], method=name).value.tolist()
        for name, of in found.items() for metric in COLUMNS
    }  # fmt: skip
    metrics = [metric for metric in COLUMNS if any(values[name, metric] for name in found)]
    rows = [[escape(name), *(shown(values[name, metric]) for metric in metrics)] for name in found]
    return table(["gradient flow", *(COLUMNS[metric] for metric in metrics)], rows)


def speeds(found: Mapping[str, Followed]) -> list[str]:
    """How fast divergences fall, at first and at last, and where the mass is then."""
    rows = []
    for name, of in found.items():
        if of.row.get("energy", {"name": "kl"})["name"] != "kl" or (of.steps.groupby("time").energy.mean() <= 0).any():
            continue
        cells = [f"{time:.3g}" if np.isfinite(time) else "not yet" for time in pace(of.steps)]
        rows.append([escape(name), *cells, *last_mode(of.steps)])
    if not rows:
        return []
    said = (
        "How fast F falls: when it is half and a tenth of what it was, and the time in which it halves at first and at last."
    )
    if any(last_of_modes(of.steps) for of in found.values()):
        said += (
            " Where that is longer at last, the mass has come to the modes, and is still shared among them in another way "
            "than the target's: from one to another it passes where there is hardly any of it."
        )
    head = ["gradient flow", "F halved at time", "a tenth at", "halves in (first fifth)", "halves in (last fifth)"]
    modes = ["share of the last mode"] if any(len(row) > len(head) for row in rows) else []
    return [note(said), table([*head, *modes], rows)]


def last_mode(steps: pd.DataFrame) -> list[str]:
    """The share of the last mode at the end, where the target has modes."""
    mode = last_of_modes(steps)
    return [shown(steps[steps.step == steps.step.max()][mode].tolist())] if mode else []


def last_of_modes(steps: pd.DataFrame) -> str | None:
    """The column of the last mode."""
    modes = [column for column in steps if column.startswith("mode_")]
    return modes[-1] if modes else None


def ways(found: Mapping[str, Followed], results: pd.DataFrame) -> list[str]:
    """Gradient flows, diffusions and trained fields between the same two laws, the source and the target of a data set."""
    parts = []
    for dataset in dict.fromkeys(of.row["dataset"] for of in found.values()):
        here = {
            name: of for name, of in found.items()
            if of.row["dataset"] == dataset and {of.source, of.target} == {"source", "target"}
        }  # fmt: skip
        if len({(of.source, of.row["scheme"]["name"] == "velocity") for of in here.values()}) < 2:
            continue
        rows = []
        for name, of in here.items():
            length, distance = (
                select(results, metric, dataset=dataset, method=name).value.to_numpy()
                for metric in ("jko_length", "jko_distance")
            )
            energy = of.steps[of.steps.step == of.steps.step.max()].energy.tolist()
            end = f"{of.row['tau'] * of.row['steps']:g}"
            cells = (shown(values.tolist()) for values in (length, distance, length / distance))
            rows.append([escape(name), f"{of.source} to {of.target}", end, shown(energy), *cells])
        said = (
            f"Gradient flows of the divergence to the one law or the other, of which that to the source is a diffusion, as "
            f"models of scores turn it back; and trained fields between the source and the target of {escape(dataset)}. The "
            f"length of the shortest way is W2. F is the divergence to the law that it goes to."
        )
        head = ["way", "from and to", "time", "F at its end", "length", "W2 of its ends", "length / W2"]
        parts += [f"<h3>Ways between the two laws of {escape(dataset)}</h3>", note(said), table(head, rows)]
    return parts


def over_time(found: Mapping[str, Followed]) -> str:
    """Energies against time and the length gone, W2 to the target and, where it has modes, the share of the last one."""
    modes = [name for name, of in found.items() if last_of_modes(of.steps)]
    drawn, axes = panels(4 if modes else 3)
    for k, (name, of) in enumerate(found.items()):
        mean = of.steps.groupby("time").mean()
        style: dict[str, Any] = {
            "color": COLOURS[k % len(COLOURS)], "lw": 1.2, "ls": ["-", "--", ":"][k // len(COLOURS) % 3], "label": name
        }  # fmt: skip
        axes[0].plot(mean.index, mean.energy, **style)
        axes[1].plot(mean.length.fillna(0).cumsum(), mean.energy, **style)
        axes[2].plot(mean.index, mean.w2, **style)
        if name in modes:
            axes[3].plot(mean.index, mean[last_of_modes(of.steps)], **style)
    axes[2].axhline(np.mean([of.steps.floor.mean() for of in found.values()]), color=GREY, ls=":", lw=1)
    if all((of.steps.groupby("time").energy.mean() > 0).all() for of in found.values()):
        for ax in axes[:2]:
            ax.set_yscale("log")
    axes[0].set(xlabel="time", ylabel="F (nats)")
    axes[1].set(xlabel="length gone, in W2", ylabel="F (nats)")
    axes[2].set(xlabel="time", ylabel="W2 to the target", ylim=(0, None))
    axes[0].legend(fontsize=6, ncols=2)
    if modes:
        axes[3].set(xlabel="time", ylabel="share of the last mode")
    return uri(drawn, "svg")


def strip(found: Mapping[str, Followed]) -> str:
    """Pictures of BESIDE evenly spaced steps, the first and the last among them, two gradient flows side by side."""
    points = np.concatenate([of.frames.reshape(-1, of.frames.shape[-1]) for of in found.values()])
    low, high = np.quantile(points, [0.001, 0.999], axis=0)
    across = min(2, len(found))
    down = -(-len(found) // across)
    drawn, axes = plt.subplots(
        down, across * BESIDE, figsize=(0.9 * across * BESIDE, 1.05 * down), squeeze=False, layout="constrained"
    )
    for ax in axes.flat:
        ax.axis("off")
    for row, (name, of) in zip(axes.reshape(-1, BESIDE), found.items(), strict=False):
        for ax, k in zip(row, strip_steps(len(of.frames) - 1), strict=True):
            ax.axis("on")
            ax.plot(*of.frames[k].T[:2], ".", ms=0.6, color=COLOURS[0], rasterized=True)
            ax.set(xlim=(low[0], high[0]), ylim=(low[1], high[1]), xticks=[], yticks=[])
            ax.set_title(f"{name if k == 0 else 'step'} {k or ''}", fontsize=6)
    return uri(drawn, "png")


def strip_steps(last: int) -> Sequence[int]:
    """The steps that are shown."""
    return [round(k * last / (BESIDE - 1)) for k in range(BESIDE)]
