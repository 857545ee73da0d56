"""The pipeline of one of several machines: outputs travel through the project's DVC remote, lock entries as plain data.

An entry of dvc.lock says all that another machine needs: which outputs a stage has made of what. The run cache would not do,
as it leaves out stages whose outputs persist; but what it knows is shared too.
"""

import os
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from dvc.config import NoRemoteError
from dvc.exceptions import DvcException, UploadError
from dvc.fs import HTTPFileSystem, generic
from dvc.stage import Stage
from dvc.stage.cache import _can_hash, _get_stage_hash
from dvc.stage.loader import StageLoader
from dvc.stage.serialize import to_lockfile
from dvc.utils.serialize import load_yaml

from flows.running.pipeline import LOCK_FILE, Pipeline, RunCache, name_of
from stages.shared.params import Refused

Entry = Mapping[str, Any]  # what dvc.lock says of a stage


class NotThere(DvcException):
    """The remote lacks outputs that a lock entry names."""


class SharedRunCache(RunCache):
    """A run cache that knows the runs of other machines: the remote has them where `dvc push --run-cache` would put them."""

    def restore(self, stage: Stage, **_: Any) -> None:
        super().restore(stage, pull=True)

    def _load(self, stage: Stage) -> Any:
        if remote := self._of_remote():
            self._copy(stage, remote, self.repo.cache.legacy)
        return super()._load(stage)

    def publish(self, stage: Stage) -> None:
        """Let other machines know the run of a stage."""
        remote = self._of_remote()
        if remote and _can_hash(stage):
            self._copy(stage, self.repo.cache.legacy, remote)

    def _of_remote(self) -> Any:
        found = self.repo.cloud.get_remote_odb(hash_name="md5-dos2unix")
        return None if isinstance(found.fs, HTTPFileSystem) else found  # which cannot list files

    def _copy(self, stage: Stage, source: Any, target: Any) -> None:
        """What is known of a stage with these dependencies."""
        key = _get_stage_hash(stage)
        old, new = (odb.fs.join(odb.path, "runs", key[:2], key) for odb in (source, target))
        for path in source.fs.find(old):
            if not target.fs.exists(twin := target.fs.join(new, source.fs.name(path))):
                generic.copy(source.fs, path, target.fs, twin)


class SharedPipeline(Pipeline):
    """The stages of a project on one of several machines."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.repo.stage_cache = SharedRunCache(self.repo)

    def remote(self) -> tuple[str, str]:
        """The default remote and where it is. Raises Refused if there is none that machines can share results through."""
        try:
            remote = self.repo.cloud.get_remote()
        except NoRemoteError as error:
            raise Refused(
                "machines share their results through a DVC remote, and there is none: `dvc remote add -d store URL`, "
                "URL being a folder that all of them see, or s3://BUCKET/PATH"
            ) from error
        if remote.worktree or remote.fs.version_aware:
            raise Refused(f"the DVC remote {remote.name!r} is cloud-versioned: machines cannot share results through it")
        try:
            remote.fs.exists(remote.path)
        except Exception as error:  # each kind of storage has errors of its own
            raise Refused(f"the DVC remote {remote.name!r}: {' '.join(str(error).split())}") from error
        return remote.name, os.fspath(self.repo.config["remote"][remote.name]["url"])

    def recorded(self) -> dict[str, Entry]:
        """The entries of dvc.lock."""
        path = self.root / LOCK_FILE
        return load_yaml(str(path)).get("stages", {}) if path.exists() else {}

    def entry(self, name: str) -> Entry:
        """What dvc.lock says, or will say, of a stage that is up to date."""
        return to_lockfile(self.stages[name])[name]

    def adopt(self, name: str, entry: Entry) -> None:
        """Take over what dvc.lock says of a stage on another machine."""
        stage = self.stages[name]
        with self._locked():
            StageLoader.fill_from_lock(stage, entry)
            stage.cmd_changed = entry["cmd"] != stage.cmd
            for out in stage.outs:
                out.obj = None  # the listing of a folder that was there before

    def record(self, name: str, entry: Entry) -> None:
        """The same, and write it into this machine's dvc.lock."""
        self.adopt(name, entry)
        with self._locked():
            self._note(self.stages[name])

    def keep(self, names: Iterable[str]) -> None:
        """Put stages into this machine's run cache, what they read and wrote being in place."""
        with self._locked():
            for name in names:
                self.repo.stage_cache.save(self.stages[name])

    def unchanged(self, name: str) -> bool:
        """Whether a stage is up to date, once outputs that are missing here have come from the remote."""
        with self._locked():
            if not self.stages[name].changed():
                return True
            if self.stages[name].changed(allow_missing=True):
                return False
        try:
            self.fetch([name])
        except NotThere:
            return False
        return True

    def here(self, name: str) -> bool:
        """Whether a stage's outputs lie in place."""
        with self._locked():
            return not self.stages[name].changed_outs()

    def travels(self, name: str) -> bool:
        """Whether all outputs of a stage go into the cache, and so through the remote."""
        return all(out.use_cache for out in self.stages[name].outs)

    def publish(self, names: Iterable[str]) -> None:
        """Send the outputs of stages to the remote. Raises DvcException."""
        stages = [self.stages[name] for name in names]
        for odb, objects in _objects(stages):
            if failed := self.repo.cloud.push(objects, odb=odb).failed:
                raise UploadError(len(failed))
        for stage in stages:
            self.repo.stage_cache.publish(stage)

    def fetch(self, names: Iterable[str]) -> None:
        """Bring the outputs of stages from the remote, where they are not in place. Raises DvcException."""
        stages = [self.stages[name] for name in names if not self.here(name)]
        for odb, objects in _objects(stages):  # not under the lock: others may go on meanwhile
            self.repo.cloud.pull(objects, odb=odb)
        for stage in stages:
            with self._locked():
                if any(out.changed_cache() for out in stage.outs):
                    raise NotThere(f"the DVC remote lacks outputs of {name_of(stage)}")
                if stage.changed_outs():  # nobody was faster
                    stage.checkout(force=True)


def _objects(stages: Iterable[Stage]) -> Iterable[tuple[Any, set[Any]]]:
    """What the outputs of stages consist of, by the place outside the default remote where they belong, if any."""
    found: dict[Any, set[Any]] = {}
    for odb, objects in chain.from_iterable(stage.get_used_objs(force=True).items() for stage in stages):
        found.setdefault(odb, set()).update(objects)
    return found.items()
