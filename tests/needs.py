"""What some tests need of the machine beside Python: where it is, or a skip that says which command installs it.

With CI=true nothing may be left out: there the test fails instead.
"""

import os
import pwd
import shutil
from glob import glob
from typing import NoReturn

import pytest

BROWSER = "RECTIFLOW_CHROMIUM"  # the path of one that is not on PATH
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
POSTGRES = ("initdb", "pg_ctl", "psql")
POSTGRES_USER = "postgres"  # PostgreSQL refuses to run as root; Debian's package makes this user for it


def lacking(what: str, command: str) -> NoReturn:
    """Skip the test that asks, or fail it with CI=true."""
    reason = f"needs {what}: {command}"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def browser() -> str:
    """The path of a browser that Playwright can drive."""
    found = os.environ.get(BROWSER) or next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or lacking("Chromium", f"apt-get install chromium, or set {BROWSER} to a browser's path")


def postgres() -> dict[str, str]:
    """The paths of PostgreSQL's programs."""
    folders = [*sorted(glob("/usr/lib/postgresql/*/bin")), *os.environ["PATH"].split(os.pathsep)]
    found = {name: shutil.which(name, path=os.pathsep.join(folders)) for name in POSTGRES}
    paths = {name: path for name, path in found.items() if path}
    if len(paths) < len(POSTGRES) or (os.geteuid() == 0 and not has_user(POSTGRES_USER)):
        lacking("PostgreSQL", "apt-get install postgresql")
    return paths


def has_user(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True
