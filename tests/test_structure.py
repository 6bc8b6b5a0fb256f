"""How the code is arranged: who may import whom."""

import ast
from pathlib import Path

TESTS = Path(__file__).parent


def imported_modules(path: Path) -> set[str]:
    """Return the modules that a file imports from anywhere in it, each under its full name."""
    imported = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            imported |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return imported


def test_no_test_module_is_imported() -> None:
    tests = {f"tests.{path.stem}" for path in TESTS.glob("test_*.py")} | {"tests.conftest"}

    found = {
        path.relative_to(TESTS).as_posix(): sorted(imported_modules(path) & tests)
        for path in TESTS.rglob("*.py")
    }

    assert {path: modules for path, modules in found.items() if modules} == {}
