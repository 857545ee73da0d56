"""Prefect's server, workers and deployments of this project: `python -m flows.ui start` and `stop`.

Everything lies in `.prefect/`: the database, logs, and who is running. The server listens on this machine alone; another
address takes a password. `worker` is a worker of a server elsewhere, in the foreground, as a container runs it.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any, NoReturn

import psutil

from flows.running.home import ADDRESS, AUTH, CLIENT_AUTH, HOME, answers, loopback
from stages.shared.files import write_text
from stages.shared.params import Refused, read

PIDS, LOGS = HOME / "running.json", HOME / "logs"
POOLS = ("cpu", "gpu")
KEEP = 30  # days
EVENTS = 7  # days, Prefect's own: nothing here looks at older ones
PATIENCE = 120  # seconds for the server to answer; it takes 5 to 15


def start(host: str, port: int, keep: int = KEEP) -> str:
    """Start what is not running, with a database that keeps runs for some days; the UI's address. Raises Refused."""
    if not loopback(host) and not os.environ.get(AUTH):
        raise Refused(
            f"--host: {host!r} can be reached from other machines, and whoever reaches the UI can run code here: "
            f"set {AUTH}=USER:PASSWORD first, or use 127.0.0.1"
        )
    if not 1 <= port <= 65535:
        raise Refused(f"--port: {port} should be between 1 and 65535")
    if not 1 <= keep <= 36500:
        raise Refused(f"--keep: {keep} should be between 1 and 36500 days")
    url = f"http://{near(host)}:{port}"
    if running():
        raise Refused(f"it is already running at {where()}; `make ui-stop` ends it")
    if answers(url):
        raise Refused(f"--port: {port} is taken by another program; choose another")
    read()  # what the forms offer
    env = retention(keep) | environment(f"{url}/api")
    try:
        launch("server", ["server", "start", "--host", host, "--port", str(port)], env)
        wait_for(url)
        create_pools(env)
        deploy(env)
        for pool in POOLS:
            launch(
                f"worker-{pool}", ["worker", "start", "--pool", pool, "--type", "process", "--name", pool], worker(env, pool)
            )
    except BaseException:
        stop()
        raise
    write_text(ADDRESS, f"{url}/api\n")
    return url


def near(host: str) -> str:
    """How this machine itself reaches a server that listens on a host, as a URL writes it."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{name}]" if ":" in name else name


def environment(api: str) -> dict[str, str]:
    """What server, workers and runs share. A server's password is its clients' password."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    root = Path.cwd()
    env = {**os.environ, "PATH": path, "PREFECT_API_URL": api, "RECTIFLOW_ROOT": str(root)}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), os.environ.get("PYTHONPATH")]))
    env.setdefault("PREFECT_WORKER_QUERY_SECONDS", "3")  # a run starts that soon; Prefect's 10 is for many workers
    env.setdefault("PREFECT_SERVER_UI_API_URL", "/api")  # where the browser found the page, under whatever name
    if AUTH in env:
        env.setdefault(CLIENT_AUTH, env[AUTH])
    return env


def retention(days: int) -> dict[str, str]:
    """What lets the server delete runs that ended so long ago, with their logs and artifacts, and events."""
    return {
        "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
        "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(days * 86400),
        "PREFECT_SERVER_EVENTS_RETENTION_PERIOD": f"P{min(days, EVENTS)}D",
    }


def worker(env: Mapping[str, str], pool: str) -> dict[str, str]:
    """A pool's runs see the GPUs, or none."""
    return dict(env) if pool == "gpu" else {**env, "CUDA_VISIBLE_DEVICES": ""}


def serve(pool: str) -> NoReturn:
    """Become a worker of the server at PREFECT_API_URL, which gets the pools and deployments first. Raises Refused."""
    url = os.environ.get("PREFECT_API_URL", "")
    if not url:
        raise Refused("worker: set PREFECT_API_URL to the API of the server that it should work for")
    read()
    env = environment(url)
    create_pools(env)
    deploy(env)
    words = prefect("worker", "start", "--pool", pool, "--type", "process", "--with-healthcheck")
    os.execve(words[0], words, worker(env, pool))


def prefect(*words: str) -> list[str]:
    return [sys.executable, "-m", "prefect", *words]


def launch(name: str, words: list[str], env: Mapping[str, str]) -> None:
    """Start a process that stays, and remember it."""
    LOGS.mkdir(parents=True, exist_ok=True)
    with open(LOGS / f"{name}.log", "ab") as log:
        process = subprocess.Popen(
            prefect(*words), env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    # A process number is used again one day: with the time of its start it is unique.
    entry = {"name": name, "pid": process.pid, "started": psutil.Process(process.pid).create_time()}
    write_text(PIDS, json.dumps([*recorded(), entry]) + "\n")


def recorded() -> list[dict[str, object]]:
    return json.loads(PIDS.read_text()) if PIDS.exists() else []


def running() -> list[psutil.Process]:
    """The remembered processes that live."""
    found = []
    for entry in recorded():
        try:
            process = psutil.Process(int(str(entry["pid"])))
            if abs(process.create_time() - float(str(entry["started"]))) < 1 and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            pass
    return found


def wait_for(url: str) -> None:
    """Until the server answers. Raises Refused with the end of its log if it does not."""
    end = time.monotonic() + PATIENCE
    while not answers(url):
        if not running() or time.monotonic() > end:
            log = (LOGS / "server.log").read_text(errors="replace").strip().splitlines()
            errors = [line for line in log if "error" in line.lower()]
            raise Refused(
                f"the server did not start: {(errors or log or ['no output'])[-1].strip()}; see {LOGS / 'server.log'}"
            )
        time.sleep(0.3)


def create_pools(env: Mapping[str, str]) -> None:
    """Work pools of type process, which start a run as a process of this machine."""
    os.environ.update(env)  # before Prefect is imported: it reads its settings once
    from prefect import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.workers.process import ProcessWorker

    template = ProcessWorker.get_default_base_job_template()
    with get_client(sync_client=True) as client:
        for pool in POOLS:
            client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template), overwrite=True)


def deploy(env: Mapping[str, str]) -> None:
    """Register the flows of prefect.yaml, with the choices that params.yaml offers now."""
    done = subprocess.run(prefect("--no-prompt", "deploy", "--all"), env=env, capture_output=True, text=True)
    if done.returncode:
        raise Refused(f"deploying the flows failed: {(done.stderr or done.stdout).strip().splitlines()[-1]}")
    label()


def label() -> None:
    """Give the forms the titles and descriptions of the flows' annotations; Prefect takes the bare names instead."""
    from prefect import get_client
    from prefect.client.schemas.actions import DeploymentUpdate
    from prefect.flows import Flow, load_flow_from_entrypoint

    with get_client(sync_client=True) as client:
        for deployment in client.read_deployments():
            schema = deployment.parameter_openapi_schema or {"properties": {}}
            flow: Flow[..., Any] = load_flow_from_entrypoint(deployment.entrypoint or "")
            schema["additionalProperties"] = False  # a mistyped name is refused before a run exists
            for name, parameter in signature(flow.fn).parameters.items():
                for field in getattr(parameter.annotation, "__metadata__", ()):
                    said = {"title": getattr(field, "title", None), "description": getattr(field, "description", None)}
                    schema["properties"][name].update({key: text for key, text in said.items() if text})
            client.update_deployment(deployment.id, DeploymentUpdate(parameter_openapi_schema=schema))


def stop() -> int:
    """End everything that was started, runs included; how many processes that were."""
    parents = running()
    family = {child for parent in parents for child in [parent, *descendants(parent)]}
    ended(parents, psutil.Process.terminate, 8)
    ended(family, psutil.Process.kill, 5)
    for path in (PIDS, ADDRESS):
        path.unlink(missing_ok=True)
    return len(parents)


def descendants(process: psutil.Process) -> list[psutil.Process]:
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def ended(processes: Iterable[psutil.Process], how: Callable[[psutil.Process], None], seconds: float) -> None:
    """Signal all of them, then wait."""
    signalled = list(processes)
    for process in signalled:
        try:
            how(process)
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(signalled, seconds)


def where() -> str:
    return ADDRESS.read_text().strip().removesuffix("/api") if ADDRESS.exists() else "an address not yet known"


def main(argv: list[str] | None = None, prog: str = "python -m flows.ui") -> int:
    """What the words of a command line ask for; the exit code."""
    parser = argparse.ArgumentParser(prog, description="Prefect's UI for this project.")
    parser.add_argument("what", choices=["start", "stop", "worker"])
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=4200, help="port to listen on (default: %(default)s)")
    parser.add_argument("--pool", choices=POOLS, default="cpu", help="what a worker works for (default: %(default)s)")
    parser.add_argument("--keep", type=int, default=KEEP, metavar="DAYS", help="delete older runs (default: %(default)s)")
    args = parser.parse_args(argv)
    try:
        if args.what == "start":
            print(f"The UI is at {start(args.host, args.port, args.keep)} ; `make ui-stop` ends it.")
        elif args.what == "worker":
            serve(args.pool)
        else:
            print("stopped" if stop() else "nothing was running")
    except Refused as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
