"""Which modules of the project a module imports, transitively, read from the source."""

import ast
from pathlib import Path

ROOT = Path(__file__).parent.parent
PACKAGES = {"rectiflow": ROOT / "src", "stages": ROOT, "flows": ROOT}


def source(module: str) -> Path | None:
    """The file of a project module, or None for a package or a foreign module."""
    head = module.split(".")[0]
    place = PACKAGES.get(head, ROOT / "nowhere") / module.replace(".", "/")
    return next((path for path in (place.with_name(place.name + ".py"), place / "__main__.py") if path.exists()), None)


def imported(path: Path) -> set[str]:
    """The project modules that a file names in its import statements, wherever they stand."""
    found, tree = set(), ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []  # never executed
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in found if source(module)}


def closure(module: str) -> set[Path]:
    """The files that running `python -m module` executes, relative to the project; package docstrings left out."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        if name not in seen:
            seen.add(name)
            todo += imported(source(name))
    return {source(name).relative_to(ROOT) for name in seen}
