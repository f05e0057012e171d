"""The rules of the house: who may import whom, and where a world may be named.

What a stage of dvc.yaml depends on is tests/core/test_fingerprints.py's business.
"""

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

from warpzone.core.yaml import read_yaml

ROOT = Path(__file__).resolve().parent.parent
LIBRARY = sorted((ROOT / "warpzone").rglob("*.py"))
STAGES = sorted((ROOT / "stages").glob("*.py"))

# Each part of the library, and which others it may import. A new part needs a line.
MAY_IMPORT = {
    "core": set(),
    "envs": {"core"},
    "episodes": {"core", "envs"},
    "agents": {"core", "envs", "episodes"},
    "training": {"core", "envs", "episodes", "agents"},
    "report": {"core", "envs", "episodes"},
}


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported_names(path: Path) -> Iterator[str]:
    """Every dotted name that a file imports, also inside functions."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{relative(path)}: relative import"
            assert node.module
            # A name that is imported may be a module or something in one.
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@cache
def imported_files(path: Path) -> frozenset[Path]:
    """Files of the library that a file imports, and their packages if they do a thing.

    A package whose ``__init__.py`` holds a docstring only can change nothing.
    """
    files = set()
    for name in imported_names(path):
        parts = name.split(".")
        if parts[0] != "warpzone":
            continue
        for end in range(1, len(parts) + 1):
            module = ROOT.joinpath(*parts[:end])
            package = module / "__init__.py"
            if module.with_suffix(".py").is_file():
                files.add(module.with_suffix(".py"))
            elif package.is_file() and len(tree_of(package).body) > 1:
                files.add(package)
    return frozenset(files)


def part_of(path: Path) -> str:
    return path.relative_to(ROOT / "warpzone").parts[0].removesuffix(".py")


def pipeline_stages() -> dict[str, Any]:
    """Each stage of dvc.yaml by name."""
    stages = read_yaml(ROOT / "dvc.yaml")["stages"]
    assert stages
    return stages


def script_of(stage: dict[str, Any]) -> Path:
    """The script that a stage runs."""
    python, script, *_ = stage["cmd"].split()
    assert python == "python", stage["cmd"]
    return ROOT / script


def test_a_part_of_the_library_imports_only_what_it_may() -> None:
    assert len(LIBRARY) > 10
    # The package itself comes before all of its parts.
    itself = ROOT / "warpzone" / "__init__.py"
    assert not imported_files(itself)
    for path in set(LIBRARY) - {itself}:
        part = part_of(path)
        assert part in MAY_IMPORT, f"{relative(path)}: give {part!r} a line"
        others = {part_of(file) for file in imported_files(path) - {itself}} - {part}
        assert others <= MAY_IMPORT[part], relative(path)


def test_no_file_of_the_library_imports_itself_in_a_circle() -> None:
    # A package is begun before what is in it, and may import that.
    graph = {
        path: imported_files(path) - {parent / "__init__.py" for parent in path.parents}
        for path in LIBRARY
    }
    assert sum(map(len, graph.values())) > 20
    # Raises CycleError, which names the circle.
    TopologicalSorter(graph).prepare()


def test_the_library_imports_neither_stages_nor_dvc() -> None:
    for path in LIBRARY:
        packages = {name.split(".")[0] for name in imported_names(path)}
        # Only DVC knows where the files of a revision are, and stages import nothing
        # but the library.
        if relative(path) == "warpzone/core/revisions.py":
            packages.remove("dvc")
        forbidden = {"stages", "tools", "benchmarks", "tests", "dvc"}
        assert not packages & forbidden, relative(path)


def test_a_stage_imports_no_stage() -> None:
    # A script's own folder is on its path, so the bare name would work, too.
    forbidden = {"stages", *(path.stem for path in STAGES)}
    for path in STAGES:
        packages = {name.split(".")[0] for name in imported_names(path)}
        assert not packages & forbidden, relative(path)


def test_every_package_says_what_it_is() -> None:
    # All other docstrings are ruff's business.
    packages = [path for path in LIBRARY if path.name == "__init__.py"]
    assert len(packages) >= 4
    for path in packages:
        assert ast.get_docstring(tree_of(path)), relative(path)


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_a_stage_script_says_what_it_reads_and_writes(path: Path) -> None:
    docstring = (ast.get_docstring(tree_of(path)) or "").lower()
    assert "reads" in docstring
    assert "writes" in docstring


def test_dvc_yaml_runs_every_stage_script_and_nothing_else() -> None:
    assert {script_of(stage) for stage in pipeline_stages().values()} == set(STAGES)


def test_cartpole_is_a_file_and_a_row() -> None:
    """Whoever adds a world writes both, and a section of params.yaml."""
    files = [ROOT / "dvc.yaml", *LIBRARY, *STAGES]
    naming = {
        relative(path): text
        for path in files
        if "cartpole" in (text := path.read_text(encoding="utf-8").lower())
    }
    assert set(naming) == {"warpzone/envs/cartpole.py", "warpzone/envs/registry.py"}
    lines = naming["warpzone/envs/registry.py"].splitlines()
    row = [number for number, line in enumerate(lines) if "cartpole" in line]
    assert len(row) == 4
    assert row == list(range(row[0], row[0] + 4))


@pytest.mark.parametrize("part", ["core", "episodes", "agents", "training", "report"])
def test_only_a_world_knows_itself(part: str) -> None:
    for path in (ROOT / "warpzone" / part).rglob("*.py"):
        for name in imported_names(path):
            assert not name.startswith(("warpzone.envs.mario", "warpzone.envs.nes"))


def test_dvc_yaml_says_what_each_stage_does_and_stays_short() -> None:
    for name, stage in pipeline_stages().items():
        assert stage["desc"].endswith("."), name
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 170
