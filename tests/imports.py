"""The project's modules, and where it lies."""

from pathlib import Path

from stages.code import SOURCES, Code

ROOT = Path(__file__).parent.parent
CODE = Code(ROOT, {**SOURCES, "flows": Path()})
