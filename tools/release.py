"""A release: `python -m tools.release 0.2.0` gives the unreleased changes a version and a date, commits and tags them."""

import argparse
import re
import subprocess
import sys
from datetime import date
from pathlib import Path

CHANGELOG = Path("CHANGELOG.md")
UNRELEASED = "## [Unreleased]\n"
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")


class NotReleased(Exception):
    """Why there is no release; one line."""


def git(*words: str) -> str:
    done = subprocess.run(["git", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise NotReleased(f"git {words[0]}: {' '.join((done.stderr or done.stdout).split())}")
    return done.stdout


def numbers(version: str) -> tuple[int, ...]:
    """(0, 2, 0) of 0.2.0. Raises NotReleased for what is no version."""
    if not VERSION.fullmatch(version):
        raise NotReleased(f"{version!r} is no version; it should be like 0.2.0")
    return tuple(map(int, version.split(".")))


def check(version: str) -> None:
    """Raises NotReleased unless the tree is clean and the version comes after all tags."""
    wanted = numbers(version)
    if changed := git("status", "--porcelain").splitlines():
        raise NotReleased(f"the tree has changes that are not committed: {changed[0].strip()}")
    released = [tag[1:] for tag in git("tag", "--list", "v*").split() if VERSION.fullmatch(tag[1:])]
    if last := max(released, key=numbers, default=None):
        if numbers(last) >= wanted:
            raise NotReleased(f"{version} does not come after {last}, which is tagged already")


def moved(text: str, version: str, day: date) -> str:
    """The changelog with its unreleased changes under a version, none unreleased. Raises NotReleased if there was none."""
    before, found, after = text.partition(UNRELEASED)
    if not found:
        raise NotReleased(f"{CHANGELOG} has no line {UNRELEASED.strip()!r}")
    changes, rest = re.match(r"(.*?)(?=^## \[|\Z)(.*)", after, re.DOTALL | re.MULTILINE).groups()  # type: ignore[union-attr]
    if not re.search(r"^- ", changes, re.MULTILINE):
        raise NotReleased(f"{CHANGELOG} tells of no unreleased change")
    return f"{before}{UNRELEASED}\n## [{version}] - {day.isoformat()}\n{changes}{rest}"


def release(version: str, dry: bool, day: date) -> str:
    """Change, commit and tag, or say what would be done. Raises NotReleased."""
    check(version)
    text = moved(CHANGELOG.read_text(), version, day)
    if dry:
        return f"would date {CHANGELOG}, commit it, and tag v{version}"
    CHANGELOG.write_text(text)
    git("add", str(CHANGELOG))
    git("commit", "-m", f"Release {version}")
    git("tag", "-a", f"v{version}", "-m", f"rectiflow {version}")
    return f"tagged v{version}; `git push --follow-tags` publishes it"


def main() -> int:
    parser = argparse.ArgumentParser("python -m tools.release", description=__doc__)
    parser.add_argument("version", help="like 0.2.0")
    parser.add_argument("--dry-run", action="store_true", help="check, and say what would be done")
    args = parser.parse_args()
    try:
        print(release(args.version, args.dry_run, date.today()))
    except (NotReleased, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
