"""Prefect's place in a project: its database, profile and logs lie in `.prefect/`, and nothing is sent anywhere.

A server that `make ui` started here is used while it answers;
without one Prefect starts a private server for the time of the flow.
"""

import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

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
