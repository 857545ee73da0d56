"""Results and parameters of git revisions, DVC experiments and the working tree, read without checking anything out."""

import io
import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from dvc.exceptions import DvcException
from dvc.repo.experiments.utils import exp_refs, resolve_name
from dvc.scm import Git
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError
from scmrepo.exceptions import SCMError

from stages.report.results import COLUMNS, FLOW, select
from stages.shared.measures import drawn
from stages.shared.params import PARAMS, Refused, section

RESULTS = Path("reports/results.csv")
WORKSPACE = "workspace"  # the working tree's name among revisions, as in DVC


class Commit(NamedTuple):
    """What git says of a commit."""

    sha: str
    date: str
    subject: str

    @property
    def short(self) -> str:
        return self.sha[:7]


@dataclass(frozen=True)
class Revision:
    """Measurements and parameters under the name the user gave; the working tree has no commit."""

    name: str
    commit: Commit | None
    results: pd.DataFrame
    params: Mapping[str, Any]

    @property
    def evaluations(self) -> list[float]:
        """The evaluations that the draws of its W2 took, each number once."""
        return sorted(select(self.results, "w2").nfe.unique())


def revision(name: str) -> Revision:
    """A git revision, a DVC experiment or `workspace`. Raises Refused in one line."""
    return read(name, None if name == WORKSPACE else commits("--no-walk", resolve(name))[0])


def read(name: str, commit: Commit | None) -> Revision:
    """What is stored at a commit, or lies in the working tree. Raises Refused naming revision and file."""
    where = name if commit is None or name.startswith(commit.short) else f"{name} ({commit.short})"
    text, params = content(commit, RESULTS, where), parse_params(commit, where)
    return Revision(name, commit, parse_results(text, where, params), params)


def history(path: Path = RESULTS, n: int = 10) -> list[Commit]:
    """The last `n` commits up to HEAD that changed a file, the oldest first."""
    return commits("--diff-filter=AMT", f"--max-count={n}", "HEAD", "--", path.as_posix())[::-1]


def resolve(name: str) -> str:
    """The commit's hash. Raises Refused naming the branches and experiments there are."""
    # `-` never begins a revision, but would begin an option.
    if name and not name.startswith("-"):
        try:
            return git("rev-parse", "--verify", "--end-of-options", f"{name}^{{commit}}").strip()
        except Refused:
            pass
        if found := experiment(name):
            return found
    branches = git("for-each-ref", "--format=%(refname:short)", "refs/heads").split()
    raise Refused(
        f"{name!r} is neither a git revision nor an experiment; there are the branches {listed(branches)}, "
        f"the experiments {listed(experiments())}, and {WORKSPACE!r} for the working tree"
    )


def experiment(name: str) -> str | None:
    """The commit of an experiment of the given name, if there is one; HEAD's own where several baselines have it."""
    try:
        with closing(Git(".")) as scm:
            found = resolve_name(scm, name)[name]
            return found and scm.get_ref(str(found))
    except (DvcException, SCMError) as error:
        raise Refused(" ".join(str(error).split())) from error


def experiments() -> list[str]:
    with closing(Git(".")) as scm:
        return sorted({ref.name for ref in exp_refs(scm)})


def listed(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more if names else "(none)"


def git(*args: str) -> str:
    """What a git command prints. Raises Refused with git's own words."""
    return io.TextIOWrapper(io.BytesIO(raw(*args)), "utf-8", "replace").read()  # with one kind of line end


def raw(*args: str) -> bytes:
    """The same as bytes."""
    try:
        done = subprocess.run(["git", *args], capture_output=True, check=False)
    except (FileNotFoundError, ValueError) as error:  # no git, or a NUL in a name
        raise Refused(f"git: {error}") from error
    if done.returncode:
        raise Refused(f"git: {' '.join(done.stderr.decode('utf-8', 'replace').split())}")
    return done.stdout


def commits(*which: str) -> list[Commit]:
    """Hash, date and subject of the commits that `git log` lists."""
    # The user's configuration must not add lines of its own.
    lines = git("-c", "log.showSignature=false", "log", "--no-color", "--format=%H%x1f%cs%x1f%s", *which)
    return [Commit(*line.split("\x1f", 2)) for line in lines.split("\n") if line]


def content(commit: Commit | None, path: Path, where: str) -> str:
    """A file's text at a commit or in the working tree."""
    try:
        if commit is None:
            return path.read_text("utf-8", "replace")
        # `./`: relative to here, as the working tree's file is, wherever in its git repository the project lies.
        return git("cat-file", "blob", f"{commit.sha}:./{path.as_posix()}")
    except (FileNotFoundError, Refused) as error:
        have = "`dvc repro` makes it" if commit is None else f"it changed last in {listed([c.short for c in history(path)])}"
        raise Refused(f"{where}: there is no {path.as_posix()}; {have}") from error


def parse_results(text: str, where: str, params: Mapping[str, Any] | None = None) -> pd.DataFrame:
    """`results.csv` as a frame of COLUMNS. Raises Refused where it is not one.

    A revision from before the draws had roles needs its `params` to tell them.
    """
    columns = [name for name in COLUMNS if name != "role" or "role" in text.partition("\n")[0].split(",")]
    kinds = dict.fromkeys(columns, str) | {"round": int, "seed": int, "nfe": float, "value": float}
    # A data set may be called NA; only a value may be missing.
    missing: dict[str, Any] = {"keep_default_na": False, "na_values": {"value": ["", "nan"]}}
    try:
        results = pd.read_csv(io.StringIO(text), usecols=columns, dtype=kinds, **missing)
    except (ValueError, pd.errors.ParserError) as error:
        raise Refused(f"{where}: {RESULTS.as_posix()}: {' '.join(str(error).split())}") from error
    if "role" not in columns:
        results = results.assign(role=roles(results, reference_steps(params or {}, where)))
    return results[COLUMNS]


def roles(results: pd.DataFrame, steps: int) -> np.ndarray:
    """The roles of rows that carry none: the reference draw took so many Euler steps, the draw of one step a single one."""
    euler = results.metric.isin(drawn()) & (results.solver == "euler")
    return np.select([euler & (results.nfe == steps), euler & (results.nfe == 1)], ["reference", "one_step"], "")


def reference_steps(params: Mapping[str, Any], where: str) -> int:
    """The Euler steps of the reference draw, as the parameters give them. Raises Refused where they do not."""
    try:
        steps = section(params, "sample.trajectory_steps")
    except Refused as error:
        raise Refused(f"{where}: {error}") from error
    if not isinstance(steps, int):
        raise Refused(f"{where}: {PARAMS}: sample.trajectory_steps: {steps!r} should be a number of steps")
    return steps


def parse_params(commit: Commit | None, where: str) -> dict[str, Any]:
    """`params.yaml` as plain values. Raises Refused where it is not YAML or has no sections."""
    try:
        params = YAML(typ="safe").load(content(commit, PARAMS, where))
    except YAMLError as error:
        raise Refused(f"{where}: {' '.join(str(error).split())}") from error
    if not isinstance(params, dict):
        raise Refused(f"{where}: {PARAMS}: expected sections, got {type(params).__name__}")
    return params


def measured(results: pd.DataFrame, metrics: Sequence[str]) -> pd.DataFrame:
    """One value for each model, measure and seed, in the results' order of models. Raises Refused for several."""
    parts = []
    for name in metrics:
        rows = select(results, name)
        if rows.duplicated([*FLOW, "seed"]).any():
            raise Refused(f"metric {name!r} has several values for one seed")
        parts.append(rows.assign(metric=name))
    return results[FLOW].drop_duplicates().merge(pd.concat(parts), on=FLOW)[[*FLOW, "metric", "seed", "value"]]


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """The parameters that differ: dotted key, old and new value, empty where there is none."""
    before, after = dict(flat(old)), dict(flat(new))
    pairs = {key: (before.get(key, ""), after.get(key, "")) for key in [*before, *after]}
    found = [(key, *pair) for key, pair in pairs.items() if pair[0] != pair[1]]
    # Before there were blocks, `flows` was merged from others: it says what they say a second time.
    parts = ("round0.", "reflows.", "until.")
    again = {(f"flows.{key.partition('.')[2]}", *pair) for key, *pair in found if key.startswith(parts)}
    return [row for row in found if row not in again]


def flat(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Dotted keys and values as JSON, lists whole."""
    if isinstance(value, Mapping) and (value or not key):
        for name, inner in value.items():
            yield from flat(inner, f"{key}.{name}".lstrip("."))
    else:
        yield key, json.dumps(value, default=str, ensure_ascii=False)
