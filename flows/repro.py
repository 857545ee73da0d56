"""`dvc repro` with stages side by side: `python -m flows.repro [STAGE ...]` runs the working tree in place.

The same results and the same dvc.lock as `dvc repro`. No server is needed; if `make ui` runs, the UI shows it.
"""

import argparse
import os
import sqlite3
import sys
from collections import Counter
from pathlib import Path

from dvc.exceptions import DvcException
from prefect import flow
from prefect.exceptions import PrefectException
from prefect.logging.handlers import APILogHandler
from prefect.states import Completed, Failed, State

from flows.cluster import stages as cluster
from flows.running.home import wait_for_server
from flows.running.room import lacked, none
from flows.running.slots import Slots
from flows.running.stages import run_stages
from flows.running.timeline import timed
from flows.running.times import noted, process_began
from stages.grid import write_grid
from stages.shared.params import Refused


@flow(name="repro", flow_run_name="repro", persist_result=False)
def repro(
    targets: list[str] | None = None, force: bool = False, workers: int = 2, root: str = ".",
    runner: str = "threads", address: str | None = None,
) -> State:  # fmt: skip
    """Bring stages up to date.

    Args:
        targets: Stages and what they need; all if there are none.
        force: Run them even where nothing changed.
        workers: How many stages run at once on the CPU.
        root: The project's folder.
        runner: Where stages run: in `threads` of this process, on the nodes of a `dask` or `ray` cluster, or as jobs of a
            queue: `slurm`, `pbs`, `lsf`, `sge`.
        address: Where a Dask or Ray cluster is; if there is none, it is one of this machine, for this run.
    """
    try:
        write_grid(Path(root))
        if runner == "threads":
            return verdict(run_stages(Path(root), targets or [], force, Slots(workers), times=noted()))
        return verdict(cluster.run_stages(Path(root), targets or [], force, workers, runner, address))
    except (Refused, DvcException, OSError, sqlite3.Error) as error:
        return Failed(message=" ".join(str(error).split()) + lacked([str(error)]))


def verdict(states: dict[str, State]) -> State:
    """Completed if every stage is; else Failed, naming what failed and what was not run."""
    failed = [name for name, state in states.items() if state.is_failed() or state.is_crashed()]
    left = [name for name, state in states.items() if not state.is_final()]
    if failed or left:
        full = lacked(states[name].message for name in failed)
        return Failed(message=f"failed: {', '.join(failed) or 'none'}; not run: {', '.join(left) or 'none'}{full}")
    count = Counter("cached" if state.name == "Cached" else "run" for state in states.values())
    return Completed(message=f"{count['run']} stages run, {count['cached']} cached")


def main(argv: list[str] | None = None, prog: str = "python -m flows.repro") -> int:
    """What the words of a command line ask for; the exit code."""
    parser = argparse.ArgumentParser(prog, description=__doc__.split("\n")[0], allow_abbrev=False)
    parser.add_argument("targets", nargs="*", metavar="STAGE", help="stages to bring up to date (default: all)")
    parser.add_argument(
        "--root", default=".", help="the project's folder, such as experiments/exercises (default: this one)"
    )
    parser.add_argument("--force", action="store_true", help="run them even where nothing changed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 2, help="stages at once (default: %(default)s)")
    parser.add_argument("--runner", choices=["threads", *cluster.ENGINES], default="threads", help="where stages run")
    parser.add_argument("--cluster", metavar="ADDRESS", help="of the Dask scheduler or Ray head (default: on this machine)")
    args = parser.parse_args(argv)
    if args.workers < 1:
        parser.error(f"--workers: {args.workers} must be at least 1")
    if args.cluster and args.runner == "threads":
        parser.error("--cluster: say which by --runner dask or --runner ray")
    try:
        wait_for_server()
        with timed(Path(args.root), process_began()):
            state = repro(args.targets, args.force, args.workers, args.root, args.runner, args.cluster, return_state=True)
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except PrefectException as error:
        if not (full := none(Path())):
            raise
        print(f"error: Prefect's server could not go on: {' '.join(str(error).split())}; {full}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("error: stopped; what was finished is kept, the next run goes on from there", file=sys.stderr)
        return 130
    APILogHandler().flush()  # what a server without room has to say comes first
    print(("" if state.is_completed() else "error: ") + (state.message or state.name or ""), file=sys.stderr)
    return 0 if state.is_completed() else 1


if __name__ == "__main__":
    sys.exit(main())
