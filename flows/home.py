"""Prefect's place in a project: its database, profile and logs lie in `.prefect/`, and nothing is sent anywhere.

A server that `make ui` started here is used while it answers;
without one Prefect starts a private server for the time of the flow.
"""

import os
import socket
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

from flows.child import tied

HOME = Path(".prefect")
ADDRESS = HOME / "address"  # the API of the server that runs here

DEFAULTS = {
    "PREFECT_HOME": str(HOME.resolve()),
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DVC_NO_ANALYTICS": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
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
    if "PREFECT_API_URL" not in os.environ and ADDRESS.exists() and answers(url := ADDRESS.read_text().strip()):
        os.environ["PREFECT_API_URL"] = url


def tie_private_server() -> None:
    """Let Prefect's private server end with this process, whatever ends that.

    Prefect leaves it behind when a signal ends the flow; and where Ctrl-C in a terminal ends the server, the flow waits a
    minute and more for its answers. So it is tied to this process, and out of the terminal's reach.
    """
    if "PREFECT_API_URL" in os.environ:
        return
    from prefect.server.api.server import SubprocessASGIServer

    def start(server: SubprocessASGIServer) -> subprocess.Popen[bytes]:
        words = ["-m", "uvicorn", "--factory", "prefect.server.api.server:create_app", "--lifespan", "on"]
        env = {**os.environ, "PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1"}
        command = tied([sys.executable, *words, "--host", "127.0.0.1", "--port", str(server.port), "--log-level", "error"])
        return subprocess.Popen(command, env=env, start_new_session=True)

    SubprocessASGIServer._run_uvicorn_command = start
