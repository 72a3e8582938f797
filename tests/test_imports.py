"""Imports go one way: train -> weights -> ast_model, train -> data, weights -> data's files.

Within train: cli -> report, serve -> inference, experiments -> the rest. `inference` never meets
the loop.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("ast_model", "data", "weights", "train")
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in (ROOT / room).rglob("*.py")
}
MAY_IMPORT = {
    "ast_model": (),
    "data": (),
    "weights": ("ast_model", "data.files", "data.download"),
    "train": ("ast_model", "data", "weights"),
    "train.inference": ("ast_model", "data", "weights", "train"),
    "train.experiments": ("ast_model", "data", "weights", "train"),
    "train.report": ("ast_model", "data", "weights", "train"),
    "train.serve": ("ast_model", "data", "weights", "train"),
    "train.cli": ("ast_model", "data", "weights", "train"),
}
NEVER = {
    "train": (
        "train.inference",
        "train.experiments",
        "train.report",
        "train.serve",
        "train.cli",
    ),
    "train.inference": (
        "train.loop",
        "train.crossval",
        "train.experiments",
        "train.report",
        "train.serve",
        "train.cli",
    ),
    "train.experiments": ("train.inference", "train.report", "train.serve", "train.cli"),
    "train.report": ("train.serve", "train.cli"),
    "train.serve": (
        "train.loop",
        "train.crossval",
        "train.experiments",
        "train.report",
        "train.cli",
    ),
}
# What a classifier brings with it when a method needs it, and the public names of a package.
LATER = {
    "ast_model.classifier": ("weights", "data"),
    "train": ("train",),
    "train.__main__": ("train",),
}


def room_of(module: str) -> str:
    """The longest room that a module is in."""
    return max((r for r in MAY_IMPORT if f"{module}.".startswith(f"{r}.")), key=len)


def within(module: str, rooms: tuple[str, ...]) -> bool:
    return any(f"{module}.".startswith(f"{room}.") for room in rooms)


def imports(path: Path) -> list[str]:
    """Every module of ours that a file imports, also within functions, but not for types alone."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
        elif isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [name if name in MODULES else node.module for name in inner]
    return [name for name in found if name.partition(".")[0] in ROOMS]


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_one_way(module):
    room = room_of(module)
    for name in imports(MODULES[module]):
        if within(name, LATER.get(module, ())) or (within(name, (room,)) and room != "train"):
            continue
        assert within(name, (*MAY_IMPORT[room], room)), f"{module} imports {name}"
        assert not within(name, NEVER.get(room, ())), f"{module} imports {name}"


@pytest.mark.parametrize("module", [name for name in MODULES if not within(name, ("train.cli",))])
def test_only_the_command_line_parses_and_prints(module):
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    imported = {
        alias.name.partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert "print" not in names
    assert not imported & {"tyro", "argparse"}
