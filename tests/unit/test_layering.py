"""Who may import whom, read from the sources."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# Pure computation from arrays to arrays: nothing here can reach a clock, a file, a socket or the environment.
ALLOWED_IN_MODELS = {
    "__future__",
    "abc",
    "collections",
    "dataclasses",
    "decimal",
    "enum",
    "functools",
    "hashlib",
    "itertools",
    "json",
    "math",
    "models",
    "numba",
    "numpy",
    "operator",
    "river",
    "sklearn",
    "struct",
    "types",
    "typing",
}
# The modules that start a whole worker; everything else gets what it needs handed in.
MAY_IMPORT_APP = {"worker.backtest", "worker.commands.run", "worker.demo"}
READS_OR_WRITES = {"input", "open", "print"}


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def sources(package: str) -> dict[str, ast.Module]:
    """Every module of a package, parsed."""
    paths = sorted((ROOT / package).rglob("*.py"))
    return {module_name(path): ast.parse(path.read_text(encoding="utf-8"), path) for path in paths}


def imports(tree: ast.AST) -> Iterator[str]:
    """Full names of what a tree imports, wherever in it; `from a import b` counts as `a` and as `a.b`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            assert node.module is not None
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_when_loaded(tree: ast.Module) -> Iterator[str]:
    """As `imports`, but only what runs when the module is loaded: not in functions, not for type checkers."""
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.If)):
            continue
        yield from imports(node)


def foreign_to_models(tree: ast.AST) -> set[str]:
    return {name.split(".")[0] for name in imports(tree)} - ALLOWED_IN_MODELS


def built_ins_called(tree: ast.AST) -> set[str]:
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    return {func.id for func in calls if isinstance(func, ast.Name)}


def importers(of: str, trees: Iterable[tuple[str, ast.Module]]) -> set[str]:
    return {name for name, tree in trees if name != of and of in imports(tree)}


def test_models_import_only_arithmetic_and_themselves() -> None:
    foreign = {name: foreign_to_models(tree) for name, tree in sources("models").items()}
    assert {name: found for name, found in foreign.items() if found} == {}


def test_models_neither_read_nor_write() -> None:
    called = {name: built_ins_called(tree) & READS_OR_WRITES for name, tree in sources("models").items()}
    assert {name: found for name, found in called.items() if found} == {}


def test_only_the_commands_construct_a_whole_worker() -> None:
    assert importers("worker.app", sources("worker").items()) <= MAY_IMPORT_APP


def test_the_product_does_not_import_its_tests() -> None:
    trees = {**sources("models"), **sources("worker")}
    assert {
        name for name, tree in trees.items() if "tests" in {n.split(".")[0] for n in imports(tree)}
    } == set()


def test_modules_import_each_other_in_one_direction() -> None:
    trees = {**sources("models"), **sources("worker")}
    graph = {name: {*imported_when_loaded(tree)} & {*trees} - {name} for name, tree in trees.items()}
    order = [*TopologicalSorter(graph).static_order()]  # raises CycleError, which names the cycle
    assert {*order} == {*trees}


@pytest.mark.parametrize(
    ("line", "foreign"),
    [
        ("import kafka", {"kafka"}),
        ("from datetime import datetime", {"datetime"}),
        ("def late():\n    import os.path", {"os"}),
        ("from worker.settings import Settings", {"worker"}),
        ("from sklearn.ensemble import IsolationForest", set()),
        ("from models import tables", set()),
    ],
)
def test_a_breach_is_seen_wherever_it_stands(line: str, foreign: set[str]) -> None:
    assert foreign_to_models(ast.parse(line)) == foreign


def test_an_import_of_a_submodule_from_its_package_is_seen() -> None:
    assert importers("worker.app", [("worker.task", ast.parse("from worker import app"))]) == {"worker.task"}
