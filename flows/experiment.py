"""One run, one DVC experiment: computed in a fresh clone at a revision, saved under the run's name in the user's repository.

This is what the UI triggers. The user's working tree is never touched, and any number of experiments may run at once.
"""

import re
from logging import getLogger
from pathlib import Path
from typing import Annotated, Any

from dvc.exceptions import DvcException
from prefect import flow, get_run_logger, runtime
from prefect.exceptions import FailedRun
from prefect.states import Completed, Failed, State
from pydantic import Field
from ruamel.yaml import YAML

from flows.repro import verdict
from flows.revisions import artifacts, form
from flows.revisions import commits as revisions
from flows.revisions.workspace import command, dvc, environment, workspace
from flows.running.slots import SHARED, Slots
from flows.running.stages import run_stages
from stages.shared.params import GRID, PARAMS, Refused, read

OUTPUTS = ("dvc.lock", "reports")  # what an experiment keeps even where the revision did not have it


# A run that ended as Failed says why in one line; Prefect would add a traceback of its own code.
getLogger("prefect.flow_runs").addFilter(lambda record: not (record.exc_info and isinstance(record.exc_info[1], FailedRun)))


def choices(*sections: str) -> Any:
    """The rows of sections of `params.yaml` as the choices of a form's field. In a run those of its revision count."""
    try:
        rows = [name for part in sections for name in read().get(part) or {}]
    except Refused:  # the user is at it
        rows = []
    return Field(json_schema_extra={"enum": rows} if rows else {})


Names = Annotated[
    list[Annotated[str, choices("datasets", "tables", "latents")]],
    Field(title="Data sets", description="Leave empty for those of the revision's grid.", json_schema_extra={"position": 1}),
]
Methods = Annotated[
    list[Annotated[str, choices("methods")]],
    Field(title="Methods", description="Each is run on every data set; leave empty for the grid's own combinations."),
]
Rounds = Annotated[
    int | None,
    Field(
        title="Reflow rounds",
        description="Rounds after round 0; leave empty for the grid's own.",
        ge=0,
        le=20,
    ),
]
Seeds = Annotated[
    list[Annotated[int, Field(ge=0, lt=2**31)]],
    Field(title="Seeds", description="Leave empty for the revision's own; intervals need two or more."),
]
Overrides = Annotated[
    list[Annotated[str, Field(pattern=r"^[^=\s]+=.+$")]],
    Field(title="Overrides", description="KEY=VALUE for any key of params.yaml, for example training.lr=0.004."),
]
Revision = Annotated[
    str, Field(title="Revision", description="The commit to start from: a branch, a tag, a hash, HEAD~1.", min_length=1)
]
Workers = Annotated[int, Field(title="Stages side by side", description="How many stages run at once.", ge=1, le=64)]


@flow(name="experiment", persist_result=False)
def experiment(
    revision: Revision = "HEAD",
    datasets: Names = [],  # noqa: B006  a form's default; nothing changes it
    methods: Methods = [],  # noqa: B006
    rounds: Rounds = None,
    seeds: Seeds = [],  # noqa: B006
    overrides: Overrides = [],  # noqa: B006
    workers: Workers = 2,
) -> State:
    """Compute the pipeline in a fresh clone and save it as a DVC experiment under this run's name."""
    changes = {"datasets": datasets, "methods": methods, "rounds": rounds, "seeds": seeds, "overrides": overrides}
    return run_experiment(run_name(), revision, changes, SHARED.get() or Slots(workers))


def run_name() -> str:
    """The run's name as a name for git."""
    return re.sub(r"[^A-Za-z0-9_]+", "-", runtime.flow_run.name or "run").strip("-") or "run"


def run_experiment(name: str, revision: str, changes: dict[str, Any], slots: Slots) -> State:
    """Completed with the experiment saved, or Failed with nothing saved and one line that says why."""
    root, log = Path(), get_run_logger()
    try:
        with workspace(root, revision) as project:
            log.info("workspace ready at %s", revision)
            form.write(project, **changes)
            checked(project)
            states = run_stages(project, [], False, slots, environment(project))
            if (state := verdict(states)).is_failed():
                return state
            save(project, name)
            artifacts.publish(project, name, computed(project, name), before(revision))
    except (Refused, DvcException) as error:
        log.error(str(error))
        return Failed(message=" ".join(str(error).split()))
    return Completed(message=f"{state.message}; saved as experiment {name}")


def checked(project: Path) -> None:
    """The rows that the workspace's own code makes of its parameters. Raises Refused with the first thing that is wrong."""
    if (project / GRID).exists():  # a revision may be older than it
        command(project, "python", "-m", "stages.grid")
    command(project, "python", "-m", "stages.check")


def save(project: Path, name: str) -> None:
    """Save the workspace as an experiment and hand it to the user's repository."""
    included = [word for path in OUTPUTS for word in ("-I", path)]
    dvc(project, "exp", "save", "--force", "--name", name, *included)
    dvc(project, "exp", "push", "--force", "--no-cache", "origin", name)


def computed(project: Path, name: str) -> revisions.Revision:
    """The workspace's results."""
    results = revisions.parse_results((project / revisions.RESULTS).read_text(), name)
    return revisions.Revision(name, None, results, YAML(typ="safe").load(project / PARAMS))


def before(revision: str) -> revisions.Revision | None:
    """The revision's own results, if it has any."""
    try:
        return revisions.revision(revision)
    except Refused:
        return None
