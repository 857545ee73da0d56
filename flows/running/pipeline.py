"""The graph of `dvc.yaml` and the life of one stage in it, through DVC's own objects.

`dvc repro` runs one stage at a time. `Pipeline.reproduce` does for a stage what it does (skip, restore from the run cache,
or run and save), under the same locks around the same parts, so that stages may run beside each other in one process, and
beside a `dvc` command in another terminal. Starting DVC anew for every stage would cost more than most stages do.
"""

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from difflib import get_close_matches
from itertools import takewhile
from pathlib import Path
from typing import Any

from dvc.dvcfile import PROJECT_FILE
from dvc.repo import Repo
from dvc.repo.reproduce import collect_stages, get_active_graph, plan_repro
from dvc.rwlock import rwlock
from dvc.stage import PipelineStage, Stage, create_stage
from dvc.stage.cache import RunCacheNotFoundError, StageCache
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from flows.running import claims
from stages.shared.files import write_text
from stages.shared.params import Refused

claims.keep_whole()

Run = Callable[[Stage], None]

RAN, RESTORED, UNCHANGED = "ran", "restored from the run cache", "unchanged"
LOCK_FILE = "dvc.lock"
# Seconds between two writes of dvc.lock. One takes a second where there are a hundred stages. What is not written when the
# process is killed comes back from the run cache.
WRITE_EVERY = 15.0
DEVICE_SECTION = "compute"  # a stage that reads this section of params.yaml computes on a device


class RunCache(StageCache):
    """DVC's run cache for a project that is not the working directory; DVC's own looks for dvc.yaml there."""

    def _create_stage(self, cache: dict[str, Any], wdir: str | None = None) -> PipelineStage:
        path, outs = str(Path(self.repo.root_dir) / PROJECT_FILE), [out["path"] for out in cache["outs"]]
        stage = create_stage(PipelineStage, repo=self.repo, path=path, cmd=cache["cmd"], wdir=wdir, outs=outs)
        StageLoader.fill_from_lock(stage, cache)
        return stage


class Pipeline:
    """The stages of a project, by name. Several threads may reproduce different stages at once."""

    def __init__(self, root: Path = Path()) -> None:
        self.root = root.resolve()
        self.repo = Repo(str(self.root), _wait_for_lock=True)
        self.repo.stage_cache = RunCache(self.repo)
        self.graph = get_active_graph(self.repo.index.graph)
        whole = collect_stages(self.repo, [str(self.root / PROJECT_FILE)])
        self.stages = {name_of(stage): stage for stage in plan_repro(self.graph, whole)}
        self._one = threading.Lock()  # DVC's lock tells processes apart, not threads
        self._unwritten: dict[str, Stage] = {}
        self._written = time.monotonic()
        with self._locked():
            claims.mend(*self._claims)

    @property
    def _claims(self) -> tuple[str, Any, bool]:
        """Where DVC's list of claims is, how it is reached, and which kind of lock it has."""
        return self.repo.tmp_dir, self.repo.fs, self.repo.config["core"].get("hardlink_lock", False)

    def plan(self, targets: Iterable[str] = ()) -> dict[str, list[str]]:
        """The targets (all stages if none) and what they need, in the order of `dvc repro`: each stage's dependencies.

        A target is a stage, or a whole group: `train@moons-icfm-round0`, `train`. Raises Refused for a name that is neither.
        """
        chosen = [stage for target in targets for stage in self._named(target)]
        stages = plan_repro(self.graph, chosen) if chosen else self.stages.values()
        return {name_of(stage): [name_of(needed) for needed in self.graph.successors(stage)] for stage in stages}

    def _named(self, target: str) -> list[Stage]:
        found = [stage for name, stage in self.stages.items() if target in (name, name.split("@")[0])]
        if not found:
            close = get_close_matches(target, self.stages, 3, 0.5) or dict.fromkeys(
                name.split("@")[0] for name in self.stages
            )
            raise Refused(f"{PROJECT_FILE}: there is no stage {target!r}; there is {', '.join(close)}")
        return found

    def on_device(self, name: str) -> bool:
        """Whether a stage reads where to compute, and so may take a GPU."""
        return any(DEVICE_SECTION in getattr(dep, "params", ()) for dep in self.stages[name].deps)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        with self._one, self.repo.lock:
            yield

    def reproduce(self, name: str, run: Run, force: bool = False) -> str:
        """Bring a stage up to date, `run(stage)` executing its command, and say what it took: RAN, RESTORED or UNCHANGED.

        Raises DvcException, and what `run` raises; then nothing is recorded.
        """
        stage, busy = self.stages[name], ExitStack()
        with self._locked():
            if not force and not stage.changed():
                return UNCHANGED
            if not stage.cmd:  # a file that the user tracks with `dvc add`
                stage.run()
                stage.dump(update_pipeline=False)
                return RAN
            stage.remove_outs()
            if not force and self._restored(stage):
                self._record(stage)
                return RESTORED
            stage.save_deps()
            busy.enter_context(self._claimed(stage))
        try:
            run(stage)
        except BaseException:
            with self._locked():
                busy.close()
            raise
        with self._locked():  # once: in between, another process would find outputs that nobody claims
            busy.close()
            self._record(stage)
        return RAN

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Claim what all stages write, to read it: none of them starts meanwhile. LockError while one of them runs."""
        outs = [out.fs_path for stage in self.stages.values() for out in stage.outs]
        folder, files, hardlink = self._claims
        with ExitStack() as busy:
            with self._locked():
                busy.enter_context(rwlock(folder, files, "rectiflow verify", outs, [], hardlink))
            yield

    def _restored(self, stage: Stage) -> bool:
        try:
            self.repo.stage_cache.restore(stage)
        except RunCacheNotFoundError:
            return False
        return True

    def _claimed(self, stage: Stage) -> AbstractContextManager[None]:
        """Tell other DVC processes which files a running command reads and writes; LockError if one of them is at it."""
        reads, writes = ([item.fs_path for item in items] for items in (stage.deps, stage.outs))
        folder, files, hardlink = self._claims
        command = stage.cmd if isinstance(stage.cmd, str) else "; ".join(stage.cmd)
        return rwlock(folder, files, command, reads, writes, hardlink)

    def _record(self, stage: Stage) -> None:
        """Save and commit the outputs, and note the stage for dvc.lock."""
        uncached = any(not out.use_cache and not (out.is_metric or out.is_plot) for out in stage.outs)
        stage.save(run_cache=not uncached)
        stage.commit()
        self._note(stage)

    def _note(self, stage: Stage) -> None:
        """Write the stage into dvc.lock, now or soon."""
        if not self._in_lock(stage):
            stage.dump(update_pipeline=False)
            return
        self._unwritten[stage.name] = stage
        if time.monotonic() - self._written > WRITE_EVERY:
            self._write(last=False)

    def _write(self, last: bool) -> None:
        """Bring dvc.lock up to date, its stages in the order of `dvc repro`, whichever ended first.

        Before the last time, a stage waits for those in front of it: `dvc repro` writes new ones at the end, and so comes to
        the same file after a kill.
        """
        path = self.root / LOCK_FILE
        content = parse_yaml_for_update(path.read_text("utf-8"), path) if path.exists() else {}
        recorded = content.get("stages", {})
        order = [name for name, stage in self.stages.items() if self._in_lock(stage)]
        whole = order if last else takewhile({*recorded, *self._unwritten}.__contains__, order)
        self._written = time.monotonic()
        if not (noted := [name for name in whole if name in self._unwritten]):
            return
        if not content:
            content.update({"schema": "2.0"})
        recorded = content.setdefault("stages", {})
        for name in noted:
            recorded.update(to_lockfile(self._unwritten[name]))
        # What is no stage any more keeps its entry, as with DVC.
        place = {name: k for k, name in enumerate(order)}
        for name in sorted(recorded, key=lambda name: place.get(name, -1)):
            recorded[name] = recorded.pop(name)
        write_text(path, dumps_yaml(content))  # the old one or the new one, whole, whenever the process is killed
        for name in noted:
            del self._unwritten[name]

    def _in_lock(self, stage: Stage) -> bool:
        """Whether dvc.lock tells of a stage: not of a tracked file, nor of one in a dvc.yaml further down."""
        return stage.path == str(self.root / PROJECT_FILE)

    def close(self) -> None:
        """Write what is not written yet. Stages that still run are no longer recorded."""
        with self._locked():
            if self._unwritten:
                self._write(last=True)
        self.repo.close()


def name_of(stage: Stage) -> str:
    """`train@...` of a pipeline's stage, the path of a file tracked by `dvc add`."""
    return getattr(stage, "name", None) or stage.path_in_repo
