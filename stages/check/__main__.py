"""Check all of `params.yaml` before anything runs: every section, every name, and that they fit together.

Every generated data set depends on this stage's output, which never changes: `dvc repro` therefore comes here first
whenever the file was edited, and a mistake stops it before any work. So does a `grid.yaml` that lags behind, which is
written anew. This stage also removes what rows that are gone have left behind.
"""

from stages.check.prune import prune
from stages.check.whole import check
from stages.grid import write_grid
from stages.shared.files import write_text
from stages.shared.params import GRID, PARAMS, Refused, read
from stages.shared.places import DATA
from stages.shared.start import run


def main(_: list[str]) -> None:
    """`python -m stages.check`"""
    rows = check(read())
    if write_grid():
        raise Refused(f"{GRID} did not follow from {PARAMS} any more and is written anew: run the same command again")
    prune(read(), rows)
    write_text(DATA / "checked", "ok\n")


if __name__ == "__main__":
    run(main)
