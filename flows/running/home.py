"""Prefect's place in a project: its database, profile and logs lie in `.prefect/`, and nothing is sent anywhere.

A server that `make ui` started here is used while it answers; without one a flow has a private server for its time.
"""

import ipaddress
import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

from flows.running.child import tied
from flows.running.room import none
from stages.shared.params import Refused

HOME = Path(".prefect")
LOG = HOME / "logs/private.log"  # what private servers complain of
ADDRESS = HOME / "address"  # the API of the server that runs here

AUTH, CLIENT_AUTH = "PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING"  # USER:PASSWORD
JOBS = ("slurm", "pbs", "lsf", "sge")  # runners of `flows.repro` whose stages report from other machines

PRIVATE: list[subprocess.Popen[bytes]] = []  # the server of this process, if it has one

DEFAULTS = {
    "PREFECT_HOME": str(HOME.resolve()),
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # Prefect's own private server, for what does not start ours
}


def answers(url: str, seconds: float = 1.0) -> bool:
    """Whether something listens at a URL's host and port."""
    parts = urlsplit(url)
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 80), seconds):
            return True
    except OSError:
        return False


def prepare() -> None:
    """Set what the user has not set himself."""
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if AUTH in os.environ:  # whoever may start the server may use it
        os.environ.setdefault(CLIENT_AUTH, os.environ[AUTH])
    if "PREFECT_API_URL" not in os.environ and ADDRESS.exists() and answers(url := ADDRESS.read_text().strip()):
        os.environ["PREFECT_API_URL"] = url


def module_started() -> str:
    """The module of `python -m MODULE` while Python still imports the packages it is in; nothing otherwise."""
    words = sys.orig_argv
    return words[words.index("-m") + 1] if sys.argv[:1] == ["-m"] and "-m" in words[:-1] else ""


def loopback(host: str) -> bool:
    """Whether a host is this machine, for itself alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def jobs_wanted(words: Sequence[str]) -> bool:
    """Whether a command line asks for stages on other machines."""
    return any(f"--runner={name}" in words or ("--runner", name) in pairwise(words) for name in JOBS)


def private_server(words: Sequence[str]) -> None:
    """Start a server for this process alone, unless there is one, and do not wait for it: see `wait_for_server`. `words`
    are those of the command line.

    To be called before Prefect is imported, which reads its settings then; starting and importing take some seconds each.
    The server ends with this process, whatever ends that, and is out of the reach of Ctrl-C in a terminal: the flow needs
    it to say that it was stopped. Where stages report from other machines it listens to
    these, and takes a password of this run.
    """
    if "PREFECT_API_URL" in os.environ:
        return
    if full := none(Path()):
        sys.exit(f"error: {full}")
    host = "0.0.0.0" if jobs_wanted(words) else "127.0.0.1"
    if host != "127.0.0.1":
        os.environ[AUTH] = os.environ[CLIENT_AUTH] = f"run:{secrets.token_urlsafe()}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        port = probe.getsockname()[1]
    program = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
    env = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
    command = tied([sys.executable, *program, "--host", host, "--port", str(port), "--log-level", "error"])
    LOG.parent.mkdir(parents=True, exist_ok=True)
    with open(LOG, "ab") as log:
        PRIVATE.append(subprocess.Popen(command, env=env, stderr=log, start_new_session=True))
    os.environ["PREFECT_API_URL"] = f"http://127.0.0.1:{port}/api"


def wait_for_server(seconds: float = 120.0) -> None:
    """Until the private server answers, if there is one. Raises Refused if it ends, or is not there in time."""
    end = time.monotonic() + seconds
    while PRIVATE and not answers(os.environ["PREFECT_API_URL"]):
        if PRIVATE[0].poll() is not None or time.monotonic() > end:
            raise Refused(f"Prefect's server did not start (exit code {PRIVATE[0].poll()}); see {LOG}; is {HOME}/ writable?")
        time.sleep(0.1)
