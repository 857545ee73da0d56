"""Stamps of the code: what a stage would compute otherwise if it were edited, in `data/code/NAME`, and no comments.

There is one for every module of `stages` that is run, one for every entry of the tables whose entries are imported on
look-up (`network.mlp`), and one for each whole table (`network`). A stage depends on its own and on those of the entries
that its row names, so that an edit to one family re-runs that family.

A stamp has a line `DIGEST  MODULE` for every project module that is imported, directly or not, and a line `PIN
DISTRIBUTION==VERSION` for every distribution that computes among their imports, as `constraints.txt` has it. The digest is
that of the syntax tree without what says nothing to the interpreter.
"""

import ast
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from rectiflow.gradient_flows import SCHEMES
from rectiflow.models import MODELS
from rectiflow.networks import NETWORKS
from rectiflow.objectives import OBJECTIVES
from rectiflow.registry import Registry
from stages.report.studies.kinds import STUDIES
from stages.shared.files import write_text
from stages.shared.params import Refused
from stages.shared.places import DATA
from stages.shared.start import run

CODE, CONSTRAINTS = DATA / "code", Path("constraints.txt")
SOURCES = {"rectiflow": Path("src"), "stages": Path()}  # where the project's packages lie
TABLES: dict[str, Registry] = {
    "model": MODELS, "network": NETWORKS, "objective": OBJECTIVES, "scheme": SCHEMES, "study": STUDIES
}  # fmt: skip

# Distributions by what is imported. A result may depend on the version of those that compute. Any other than these computes.
COMPUTING = {
    "lap": "lapx", "matplotlib": "matplotlib", "mlxtend": "mlxtend", "numpy": "numpy", "ot": "POT", "pandas": "pandas",
    "PIL": "pillow", "pyarrow": "pyarrow", "safetensors": "safetensors", "scipy": "scipy", "sklearn": "scikit-learn",
    "torch": "torch", "torchdiffeq": "torchdiffeq",
}  # fmt: skip
SERVING = {  # parameters are read, threads counted, progress is shown
    "pydantic": "pydantic", "ruamel": "ruamel.yaml", "threadpoolctl": "threadpoolctl", "tqdm": "tqdm"
}  # fmt: skip


class Module(NamedTuple):
    """What counts of a module: its digest, and the names that its import statements may import."""

    digest: str
    imports: frozenset[str]


class Code:
    """The modules of the packages `sources`, folders below `root`, read once each."""

    def __init__(self, root: Path = Path(), sources: Mapping[str, Path] = SOURCES) -> None:
        self.root, self.sources = root, sources
        self._modules: dict[str, Module] = {}

    def file(self, name: str) -> Path | None:
        """Where a module of the project lies; None for any other."""
        if (head := name.split(".")[0]) not in self.sources:
            return None
        place = self.root / self.sources[head] / name.replace(".", "/")
        return next((path for path in (place.with_name(place.name + ".py"), place / "__init__.py") if path.is_file()), None)

    def module(self, name: str) -> Module:
        """A module of the project. Raises Refused where it is not Python."""
        if name not in self._modules:
            path = self.file(name)
            assert path is not None
            try:
                tree = bare(ast.parse(path.read_bytes()))
            except (SyntaxError, ValueError) as error:  # ValueError: a NUL
                raise Refused(f"{path.relative_to(self.root)}, line {getattr(error, 'lineno', '?')}: {error}") from error
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            digest = sha256("".join(serial(tree)).encode()).hexdigest()[:16] if tree.body else ""
            self._modules[name] = Module(digest, frozenset(imports(tree, package)))
        return self._modules[name]

    def closure(self, name: str) -> set[str]:
        """A module and those of the project that are imported with it, transitively; packages on the way count."""
        seen: set[str] = set()
        todo = [name]
        while todo:
            parts = todo.pop().split(".")
            for one in (".".join(parts[: k + 1]) for k in range(len(parts))):
                if one not in seen and self.file(one):
                    seen.add(one)
                    todo += self.module(one).imports
        return {one for one in seen if self.module(one).digest}

    def foreign(self, modules: Iterable[str]) -> set[str]:
        """What modules import that is neither the project's nor Python's: the first parts of the names."""
        heads = {name.split(".")[0] for module in modules for name in self.module(module).imports}
        return heads - set(self.sources) - sys.stdlib_module_names

    @cached_property
    def pins(self) -> dict[str, str]:
        """The lines of `constraints.txt` by distribution."""
        path = self.root / CONSTRAINTS
        lines = path.read_text().splitlines() if path.exists() else []
        return {same(re.split("[=<>!~ ;]", line)[0]): line for line in lines if line and not line.startswith("#")}

    def stamp(self, modules: Iterable[str]) -> str:
        """The text for modules and what is imported with them."""
        closure = set().union(*(self.closure(module) for module in modules))
        computing = {COMPUTING.get(name, name) for name in self.foreign(closure) - set(SERVING)}
        lines = [f"{self.module(name).digest}  {name}" for name in sorted(closure)]
        lines += [f"PIN  {self.pins.get(same(name), name)}" for name in sorted(computing)]
        return "".join(f"{line}\n" for line in lines)

    def commands(self) -> Iterator[tuple[str, str]]:
        """The modules of `stages` that are run, with the names they are called by: `report` is `stages.report.__main__`."""
        folder = self.root / self.sources["stages"] / "stages"
        for path in sorted(folder.iterdir()):
            if path.suffix == ".py" and path.stem != "__init__":
                yield path.stem, f"stages.{path.stem}"
            elif (path / "__main__.py").exists():
                yield path.name, f"stages.{path.name}.__main__"


def same(name: str) -> str:
    """A distribution's name as the installer compares it."""
    return re.sub("[-_.]+", "-", name).lower()


# ---- The syntax tree.


def bare(tree: ast.Module) -> ast.Module:
    """The tree without docstrings and other sentences, without what is for type checkers alone, and without tables whose
    entries have stamps of their own.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and for_checkers(node):
            node.body = []
        for field in ("body", "orelse", "finalbody"):
            if isinstance(statements := getattr(node, field, None), list):
                setattr(node, field, [statement for statement in statements if not silent(statement)])
    return tree


def silent(statement: ast.stmt) -> bool:
    """Whether a statement says nothing to the interpreter, or nothing that its module's importers depend on."""
    match statement:
        case ast.Expr(value=ast.Constant(value=str())):
            return True
        case ast.If(orelse=[]):
            return for_checkers(statement)
        case ast.FunctionDef(name="__getattr__"):  # of a package: names for users, which no module of the project asks for
            return True
        case ast.Assign(value=ast.Call(func=made)) | ast.AnnAssign(value=ast.Call(func=made)):
            return isinstance(made, ast.Name) and made.id == Registry.__name__
    return False


def for_checkers(statement: ast.If) -> bool:
    """Whether a branch is taken by type checkers alone."""
    return ast.unparse(statement.test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING")


def serial(value: Any) -> Iterator[str]:
    """A tree in parts of a text that does not depend on the version of Python: fields that are empty are left out."""
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name, field in ast.iter_fields(value):
            if field is not None and field != [] and name not in ("type_comment", "kind"):
                yield f"{name}="
                yield from serial(field)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            yield from serial(item)
            yield ","
        yield "]"
    else:
        yield ascii(value)


def imports(tree: ast.Module, package: str) -> Iterator[str]:
    """The names that import statements may import, wherever they stand: `from a import b` may import the module a.b."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) + 1 - node.level] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


# ---- The stage.


def stamps(code: Code, tables: Mapping[str, Registry] = TABLES) -> dict[str, str]:
    """All stamps by name."""
    found = {name: code.stamp([module]) for name, module in code.commands()}
    for table, registry in tables.items():
        entries = {name: place.partition(":")[0] for name, place in registry.places.items()}
        for name, module in entries.items():
            if not code.file(module):
                raise Refused(f"{table} {name!r}: there is no module {module!r}, where its table says it is")
            found[f"{table}.{name}"] = f"{registry.places[name]}\n{code.stamp([module])}"
        found[table] = "".join(f"{name} {place}\n" for name, place in registry.places.items()) + code.stamp(entries.values())
    return found


def main(_: list[str]) -> None:
    """`python -m stages.code`: a stamp is written where it has changed, and removed where there is no such code any more."""
    found = stamps(Code())
    for name, text in found.items():
        path = CODE / name
        if not path.exists() or path.read_text() != text:
            write_text(path, text)
    for path in CODE.iterdir():
        if path.name not in found:
            path.unlink()


if __name__ == "__main__":
    run(main)
