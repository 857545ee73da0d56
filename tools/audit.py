"""Known vulnerabilities of what constraints.txt pins, as pip-audit finds them: `python -m tools.audit PIP-AUDIT`.

A finding that audit.toml does not allow, with a reason, fails. That the database could not be asked is said, no more.
"""

import argparse
import json
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ALLOWED, PINS = Path("audit.toml"), Path("constraints.txt")
PATIENCE = 300  # seconds for all packages


def allowed(text: str) -> dict[str, str]:
    """Reasons by the ids of audit.toml. Raises ValueError for a row without either."""
    rows = tomllib.loads(text).get("allowed", [])
    for row in rows:
        if set(row) != {"id", "reason"} or not all(isinstance(said, str) and said.strip() for said in row.values()):
            raise ValueError(f"{ALLOWED}: {row}: should have an id and a reason")
    return {row["id"]: row["reason"] for row in rows}


def ask(program: str) -> dict[str, Any] | None:
    """What pip-audit answers, or None where it could not ask."""
    command = [program, "-r", str(PINS), "--no-deps", "--disable-pip", "--progress-spinner", "off", "-f", "json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
        return json.loads(done.stdout)
    except (OSError, subprocess.TimeoutExpired, json.JSONDecodeError):
        return None


def verdict(answer: Mapping[str, Any] | None, reasons: Mapping[str, str]) -> tuple[list[str], bool]:
    """The lines of a report on an answer, and whether it is well."""
    packages = (answer or {}).get("dependencies", [])
    asked = [package for package in packages if "vulns" in package]
    lines, well = [], True
    for package in asked:
        for found in package["vulns"]:
            names = [found["id"], *found.get("aliases", [])]
            reason = next((reasons[name] for name in names if name in reasons), None)
            well = well and reason is not None
            fixed = f"fixed in {', '.join(found['fix_versions'])}" if found.get("fix_versions") else "not fixed yet"
            told = f"allowed: {reason}" if reason else f"{fixed}; pin another version, or give a reason in {ALLOWED}"
            lines.append(f"{package['name']} {package['version']}: {found['id']}: {told}")
    if not asked:
        lines.append("the database of vulnerabilities could not be asked; nothing is known of any package")
    elif len(asked) < len(packages):
        unknown = ", ".join(package["name"] for package in packages if "vulns" not in package)
        lines.append(f"{len(asked)} of {len(packages)} packages were asked for; nothing is known of {unknown}")
    else:
        lines.append(f"{len(asked)} packages were asked for")
    return lines, well


def main() -> int:
    parser = argparse.ArgumentParser("python -m tools.audit", description=__doc__.split("\n")[0])
    parser.add_argument("program", help="pip-audit's path")
    args = parser.parse_args()
    try:
        lines, well = verdict(ask(args.program), allowed(ALLOWED.read_text()))
    except (OSError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(f"audit: {line}" for line in lines))
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
