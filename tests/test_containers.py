"""The image's steps carried out where there is nothing else, and manifests by those who read them."""

import os
import re
import shlex
import shutil
import subprocess
from fnmatch import fnmatch
from pathlib import Path

import kubernetes_validate
import needs
import pytest
import tiny
from imports import ROOT
from ruamel.yaml import YAML

STEPS = [
    line.split(" ", 1)
    for line in (ROOT / "Containerfile").read_text().replace("\\\n", " ").splitlines()
    if line and not line.startswith("#")
]
PASSWORDS = {"POSTGRES_PASSWORD": "one", "PREFECT_SERVER_API_AUTH_STRING": "me:two"}


def words(instruction: str) -> list[str]:
    return [rest for name, rest in STEPS if name == instruction]


# ---- The image.


def ignored(name: str) -> bool:
    """Whether .containerignore leaves a path out: the last of its patterns that fits says so."""
    out = False
    parents = [name, *map(str, Path(name).parents)]
    for line in (ROOT / ".containerignore").read_text().splitlines():
        pattern = line.lstrip("!")
        if line and not line.startswith("#") and any(fnmatch(part, pattern.removeprefix("**/")) for part in parents):
            out = not line.startswith("!")
    return out


def copied(root: Path, place: Path, sources: list[str], target: str) -> None:
    """What COPY does with files and folders of a clone, as far as these steps use it."""
    for source in sources:
        for path in sorted((root / source).rglob("*")) if (root / source).is_dir() else [root / source]:
            name = path.relative_to(root)
            if ignored(str(name)) or (path.is_dir() and not path.is_symlink()):
                continue
            inner = path.relative_to(root / source) if (root / source).is_dir() else Path(path.name)
            where = place / target / inner
            where.parent.mkdir(parents=True, exist_ok=True)
            where.unlink(missing_ok=True)  # a later step may copy it once more
            shutil.copyfile(path, where, follow_symlinks=False)


@pytest.mark.skipif("CI" not in os.environ, reason="installs 2 GB, for minutes; CI=true runs it")
def test_the_images_steps_make_a_place_in_which_the_pipeline_runs(tmp_path):
    """Each step in its order, `/project` and `/opt/venv` being folders of the test, packages from pip's cache."""
    root, project, venv = tiny.clone(tmp_path / "clone"), tmp_path / "project", tmp_path / "venv"
    (root / "secrets.env").write_text("POSTGRES_PASSWORD=mine")
    project.mkdir()

    def placed(text: str) -> str:
        return text.replace("/opt/venv", str(venv)).replace("/project", str(project)).replace("--no-cache-dir ", "")

    pip = {
        name: value for name, value in os.environ.items() if name.startswith(("PIP_", "http", "HTTP", "SSL_", "REQUESTS_"))
    }
    env = {"PATH": "/usr/local/bin:/usr/bin:/bin", "TORCH_INDEX": "", "PIP_CACHE_DIR": pip_cache(), **pip}
    for name, rest in STEPS:
        match name:
            case "ENV":
                key, _, value = placed(rest).partition("=")
                env[key] = value
            case "COPY":
                *sources, target = [word for word in shlex.split(rest) if not word.startswith("--")]
                copied(root, project, sources, target)
            case "RUN" if not re.match(r"apt-get|useradd", rest):
                done = subprocess.run(
                    ["sh", "-c", placed(rest)], cwd=project, env=env, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, done.stderr[-2000:]
    assert tiny.git(project, "log", "--format=%s").split() == ["image"], "the clone's history stays out"
    assert not list(project.glob("*.env"))
    (entrypoint,) = map(YAML(typ="safe").load, words("ENTRYPOINT"))
    (command,) = map(YAML(typ="safe").load, words("CMD"))

    def run(*rest: str) -> subprocess.CompletedProcess[str]:
        program = shutil.which(entrypoint[0], path=env["PATH"])
        assert program == str(venv / "bin/python")
        return subprocess.run([program, *entrypoint[1:], *rest], cwd=project, env=env, capture_output=True, text=True)

    assert run(*command).stdout.startswith("usage: python -m flows.repro")
    done = run("flows.repro", "couple@bimodal-independent")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 stages run" in done.stderr


def pip_cache() -> str:
    done = subprocess.run(["pip", "cache", "dir"], capture_output=True, text=True, check=False)
    return done.stdout.strip()


def test_the_image_runs_as_a_user_without_rights_and_by_the_pins():
    assert words("USER") == ["rectiflow"]
    assert [name for name, _ in STEPS].index("USER") < [name for name, _ in STEPS].index("COPY")
    installs = [step for step in words("RUN") if step.startswith("pip")]
    assert installs
    assert all("-c constraints.txt" in step for step in installs)


# ---- compose.yaml.


def compose(*command: str, **passwords: str) -> subprocess.CompletedProcess[str]:
    """A command of docker compose, whichever there is."""
    plugin = shutil.which("docker") and not subprocess.run(["docker", "compose", "version"], capture_output=True).returncode
    program = ["docker", "compose"] if plugin else ["docker-compose"]
    if not shutil.which(program[0]):
        needs.lacking("docker compose", "apt-get install docker-compose")
    env = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **passwords}
    return subprocess.run([*program, "-f", "compose.yaml", *command], cwd=ROOT, env=env, capture_output=True, text=True)


def test_compose_takes_the_file_and_only_this_machine_reaches_its_ports():
    done = compose("config", **PASSWORDS)
    assert done.returncode == 0, done.stderr
    services = YAML(typ="safe").load(done.stdout)["services"]
    assert set(services) == {"database", "server", "worker"}
    assert all("healthcheck" in service for service in services.values())
    ports = YAML(typ="safe").load(ROOT / "compose.yaml")["services"]["server"]["ports"]
    assert ports == ["127.0.0.1:4200:4200"]
    assert not any("ports" in services[name] for name in ("database", "worker"))
    assert services["worker"]["environment"]["PREFECT_API_AUTH_STRING"] == "me:two"


@pytest.mark.parametrize("missing", PASSWORDS)
@pytest.mark.parametrize("value", [None, ""])
def test_without_a_password_nothing_starts(missing, value):
    given = {name: text for name, text in PASSWORDS.items() if name != missing} | ({} if value is None else {missing: value})
    done = compose("config", **given)
    assert done.returncode != 0
    assert "set it in secrets.env" in done.stderr


# ---- Kubernetes.

MANIFESTS = list(YAML(typ="safe").load_all((ROOT / "kubernetes/job.yaml").read_text()))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: manifest["kind"])
def test_kubernetes_knows_every_key(manifest):
    kubernetes_validate.validate(manifest, "1.32", strict=True)


def test_the_job_has_the_least_rights_and_says_what_it_needs():
    pod = MANIFESTS[-1]["spec"]["template"]["spec"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert not pod["automountServiceAccountToken"]
    for container in pod["initContainers"] + pod["containers"]:
        rights = container["securityContext"]
        assert rights["readOnlyRootFilesystem"]
        assert not rights["allowPrivilegeEscalation"]
        assert rights["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} <= set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
    uid = re.search(r"--uid (\d+)", (ROOT / "Containerfile").read_text())[1]
    assert pod["securityContext"]["runAsUser"] == int(uid)
