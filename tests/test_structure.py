"""The arrangement of the code: which module may import which, and how long one may be."""

import ast
from graphlib import TopologicalSorter
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


PACKAGE = TESTS.parent / "memctl"

# From the top to the bottom: a module imports from its own room and from the floors below. Rooms on
# the same floor do not import each other.
FLOORS = (
    {"__main__"},
    {"cli"},
    {"demo"},
    {"output"},
    {"insight", "documents", "agent_memory"},
    {"usual_memories"},
    {"jobs"},
    {"config"},
    {"storage"},
    {"errors", "signals"},
)
MOST_LINES = 400

# The parts of jobs that only SQLite has; the others see the database through `storage.store`.
ONLY_ON_SQLITE = {"alerts", "compact", "copies", "erase", "redact", "watchdog"}


def product_modules() -> dict[str, Path]:
    """Return the files of the product by the full names of their modules.

    Packages are left out. They are empty, except `memctl` itself: every module may import it for
    the version, and it imports the Python API on demand.
    """
    return {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path
        for path in PACKAGE.rglob("*.py")
        if path.name != "__init__.py"
    }


def product_imports() -> dict[str, set[str]]:
    """Return the modules of the product that each one imports, also in functions and for types."""
    modules = product_modules()
    return {name: imported_modules(path) & set(modules) for name, path in modules.items()}


def room(module: str) -> str:
    """Return the room of a module: `memctl.jobs.decay` is in `jobs`."""
    return module.split(".")[1]


def floor(module: str) -> int:
    """Return the floor of a module, counted from the top."""
    return next(number for number, rooms in enumerate(FLOORS) if room(module) in rooms)


def test_imports_point_down() -> None:
    upward = [
        f"{importer} -> {imported}"
        for importer, modules in product_imports().items()
        for imported in modules
        if room(importer) != room(imported) and floor(importer) >= floor(imported)
    ]

    assert upward == []


def test_imports_form_no_cycle() -> None:
    assert list(TopologicalSorter(product_imports()).static_order())


def test_only_storage_imports_sqlite3() -> None:
    importers = [
        name
        for name, path in product_modules().items()
        if room(name) != "storage" and "sqlite3" in imported_modules(path)
    ]

    assert importers == []


def test_jobs_see_the_database_through_the_store() -> None:
    importers = {
        name.removeprefix("memctl.jobs.")
        for name, path in product_modules().items()
        if room(name) == "jobs"
        and any(module.startswith("memctl.storage.sqlite") for module in imported_modules(path))
    }

    assert importers == ONLY_ON_SQLITE


def test_packages_are_empty() -> None:
    packages = [path for path in PACKAGE.rglob("__init__.py") if path.parent != PACKAGE]

    assert packages
    assert [path for path in packages if path.read_text().strip()] == []


def test_there_are_few_rooms_and_no_long_modules() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in product_modules().items()}

    assert {name: length for name, length in lengths.items() if length > MOST_LINES} == {}
    assert len({room(name) for name in lengths if name.count(".") > 1}) <= 10
