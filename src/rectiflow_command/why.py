"""What the next run would do, and why: which key, file, module or pin changed, from what to what. Nothing is run;
`grid.yaml` is brought up to date, as every run does first.

    rectiflow why                          # the whole project
    rectiflow why sample@moons-icfm-round0

A stage depends on what others write. Whether that differs only a run can tell, so stages behind one that would run are named
apart from it. What `code` and `check` write is known beforehand, and so nothing runs after a comment was edited.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

import click
from dvc.dependency.param import ParamsDependency
from dvc.output import Output
from dvc.stage import Stage

from flows.running.pipeline import LOCK_FILE, Pipeline, name_of
from stages.code import CODE, Code, stamps
from stages.grid import write_grid
from stages.shared.params import parse_file

KNOWN = ("code", "check")  # what these write is known without running them
NOTHING = object()
OUTPUTS = {"deleted": "is gone", "not in cache": "is not in the cache"}  # what DVC says of them


class Verdict(NamedTuple):
    """Why a stage would run: its own `reasons`; and the stages that it is `after`, for whose sake alone it may run, if what
    they write differs. It would not if both are empty.
    """

    reasons: list[str]
    after: list[str]


class Project:
    """A project with its lock, and the stamps of its code as they would be."""

    def __init__(self, root: Path) -> None:
        write_grid(root)
        self.pipeline = Pipeline(root)
        self.root, self.repo = self.pipeline.root, self.pipeline.repo
        lock = self.root / LOCK_FILE
        self.recorded: Mapping[str, Any] = parse_file(lock).get("stages", {}) if lock.exists() else {}
        self.code = Code(self.root)
        self.stamps = {str(CODE / name): text for name, text in stamps(self.code).items()}

    def verdicts(self, targets: Sequence[str]) -> dict[str, Verdict]:
        """Of the targets (all stages if none) and what they need, in the order of a run."""
        found: dict[str, Verdict] = {}
        for name, needs in self.pipeline.plan(targets).items():
            running = [one for one in needs if any(found[one])]
            after = [one for one in running if one not in KNOWN]
            found[name] = Verdict([*self.reasons(self.pipeline.stages[name], running)], after)
        return found

    def reasons(self, stage: Stage, running: Sequence[str]) -> Iterator[str]:
        """A stage's own; of what stages write that would run before it nothing is said."""
        name = name_of(stage)
        if name not in self.recorded:
            yield "it has never run here"
            return
        if stage.cmd_changed:
            yield f"its command was {self.recorded[name]['cmd']!r}, is {stage.cmd!r}"
        awaited = {out.def_path for one in running for out in self.pipeline.stages[one].outs}
        said: dict[str, None] = {}
        for dep in stage.deps:
            said |= dict.fromkeys(self.of_dependency(dep, awaited))
        yield from said
        for out in stage.outs:
            for path, how in out.status().items():
                yield f"{path} {OUTPUTS.get(how, 'is not what it wrote')}"

    def of_dependency(self, dep: Output, awaited: Iterable[str]) -> Iterator[str]:
        """What changed of a dependency: parameters, the code behind a stamp, or a file."""
        if isinstance(dep, ParamsDependency):
            yield from parameters(dep)
        elif (stamp := self.stamps.get(dep.def_path)) is not None:
            if dep.hash_info.value != md5(stamp.encode()).hexdigest():
                yield from self.edits(dep, stamp)
        elif not any(f"{dep.def_path}/".startswith(f"{path}/") or path.startswith(f"{dep.def_path}/") for path in awaited):
            for path, how in dep.workspace_status().items():
                yield f"{path} {'is gone' if how == 'deleted' else 'changed' if dep.hash_info else 'is new'}"

    def edits(self, dep: Output, stamp: str) -> Iterator[str]:
        """The modules and pins that differ between the stamp a stage ran with and that of today."""
        if not dep.hash_info:
            yield f"it now depends on {dep.def_path}"
            return
        old = Path(self.repo.cache.local.oid_to_path(dep.hash_info.value))
        if not old.exists():
            yield "its code changed; what it was is not in the cache"
            return
        before, now = lines(old.read_text()), lines(stamp)
        for name in sorted({*before, *now}):
            if (was := before.get(name)) != (is_ := now.get(name)):
                yield self.edit(name, was, is_)

    def edit(self, name: str, was: str | None, now: str | None) -> str:
        """One line of a stamp in words: a pin, an entry of a table, or a module's digest."""
        if name.startswith(("PIN ", "ENTRY ")):
            kind, _, what = name.partition(" ")
            named = f"the pin of {what}" if kind == "PIN" else f"the entry {what!r}"
            return f"{named} was {was or 'not there'}, is {now or 'not there'}"
        file = self.code.file(name)
        said = str(file.relative_to(self.root)) if file else name
        return f"{said} {'is imported now' if was is None else 'is no longer imported' if now is None else 'changed'}"


def lines(stamp: str) -> dict[str, str]:
    """The lines of a stamp: digests by module, pins by distribution, entries of tables by name."""
    found = {}
    for line in stamp.splitlines():
        first, gap, rest = line.partition("  ")
        if first == "PIN":
            distribution, _, version = rest.partition("==")
            found[f"PIN {distribution}"] = version or "not pinned"
        elif gap:
            found[rest] = first
        else:
            name, _, place = line.rpartition(" ")
            found[f"ENTRY {name or place}"] = place
    return found


def parameters(dep: ParamsDependency) -> Iterator[str]:
    """The keys of a file that differ, each with what it was and what it is."""
    before, now = dep.hash_info.value or {}, dep.read_params()
    for key in dep.params:
        for where, was, is_ in differing(key, before.get(key, NOTHING), now.get(key, NOTHING)):
            yield f"{dep.def_path}: {where}: {shown(was)} -> {shown(is_)}"


def differing(key: str, was: Any, now: Any) -> Iterator[tuple[str, Any, Any]]:
    """The keys below one whose values are not the same."""
    if isinstance(was, Mapping) and isinstance(now, Mapping):
        for name in {**was, **now}:
            yield from differing(f"{key}.{name}", was.get(name, NOTHING), now.get(name, NOTHING))
    elif was != now:
        yield key, was, now


def shown(value: Any) -> str:
    return "(none)" if value is NOTHING else json.dumps(value, default=str)


# ---- In words.


def told(verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """What would run: stages of the same kind with the same reasons in a line, then what is behind them."""
    running = {name: verdict for name, verdict in verdicts.items() if any(verdict)}
    if not running:
        yield "nothing would run: all is up to date"
        return
    sure = sum(bool(verdict.reasons) for verdict in running.values())
    yield f"{sure} of {len(verdicts)} stages would run"
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, verdict in running.items():
        if verdict.reasons:
            groups.setdefault((name.partition("@")[0], *verdict.reasons), []).append(name)
    for (_, *reasons), names in groups.items():
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"{names[0]}{more}:"
        yield from (f"    {reason}" for reason in reasons)
    if behind := Counter(name.partition("@")[0] for name, verdict in running.items() if not verdict.reasons):
        said = ", ".join(kind if count == 1 else f"{kind} ({count})" for kind, count in behind.items())
        yield f"behind them, where what they write differs: {said}"


def of_stage(name: str, verdicts: Mapping[str, Verdict]) -> Iterator[str]:
    """Why one stage would run, down to the first causes."""
    if not any(verdicts[name]):
        yield f"{name} would not run"
        return
    yield (
        f"{name} would run:"
        if verdicts[name].reasons
        else f"{name} may run, if what stands before it writes something else:"
    )
    yield from (f"    {reason}" for reason in verdicts[name].reasons)
    seen, todo = set(), list(verdicts[name].after)
    while todo:
        if (one := todo.pop(0)) not in seen:
            seen.add(one)
            todo += verdicts[one].after
            yield from (f"    after {one}: {reason}" for reason in verdicts[one].reasons)


def why(root: Path, targets: Sequence[str] = ()) -> Iterator[str]:
    """What would run and why, line by line. Raises Refused for a name that is no stage's, and for bad parameters;
    DvcException for a folder without a project.
    """
    project = Project(root)
    try:
        verdicts = project.verdicts(targets)
    finally:
        project.pipeline.close()
    if targets and all(target in verdicts for target in targets):
        for name in targets:
            yield from of_stage(name, verdicts)
    else:
        yield from told(verdicts)


@click.command()
@click.argument("stages", nargs=-1, metavar="[STAGE]...")
@click.option("--root", default=".", type=click.Path(path_type=Path), help="The project's folder.")
def command(stages: tuple[str, ...], root: Path) -> None:
    """What the next run would do, and why.

    STAGE is one stage, or all of a kind; without it the whole project is looked at. Nothing is run.

    \b
    Examples:
      rectiflow why
      rectiflow why train
      rectiflow why sample@moons-icfm-round0
    """
    for line in why(root, stages):
        click.echo(line)
