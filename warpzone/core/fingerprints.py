"""What code a stage consists of: a fingerprint of each module that it reaches.

A stage depends on the small file that `write_fingerprints` makes for its script. A
comment, a docstring or another layout changes no fingerprint, so nothing runs again.
The version of each package that is imported is in it, too: it decides results as our
own code does.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.core.files import one_line, read_text, write_lines


def write_fingerprints(
    scripts: Iterable[Path], folder: Path, worlds: Iterable[str]
) -> None:
    """Write ``NAME.txt`` for each script: a line a module, a line a package.

    Args:
        scripts: In a folder beside ``warpzone/``.
        folder: Where to. Files of scripts that are gone are removed.
        worlds: Modules that are imported by name, see `warpzone.envs.registry`; whoever
            reaches the registry reaches them.
    """
    worlds = list(worlds)
    wanted = set()
    for script in scripts:
        root = script.resolve().parents[1]
        modules, packages = reach(script.resolve(), root, worlds)
        lines = [f"{fingerprint(path)}  {path.relative_to(root)}" for path in modules]
        lines += [f"{_version(name)}  {name}" for name in packages]
        path = folder / f"{script.stem}.txt"
        write_lines(path, lines)
        wanted.add(path)
    for path in set(folder.glob("*.txt")) - wanted:
        path.unlink()


def reach(
    script: Path, root: Path, worlds: Iterable[str]
) -> tuple[list[Path], list[str]]:
    """Return the files that a script imports, itself too, and the packages."""
    registry = _files_of("warpzone.envs.registry", root)
    files: set[Path] = set()
    names: set[str] = set()
    new = {script}
    while new:
        files |= new
        found = {name for path in new for name in imported_names(path)}
        if registry and registry[-1] in new:
            found |= set(worlds)
        names |= found
        new = {path for name in found for path in _files_of(name, root)} - files
    tops = {name.split(".")[0] for name in names}
    installed = _distributions()
    packages = {package for top in tops for package in installed.get(top, [])}
    return sorted(files), sorted(packages)


def imported_names(path: Path) -> frozenset[str]:
    """Return every dotted name that a file imports, also inside functions.

    Raises:
        InputError: If the file is no Python, or a name begins with a dot.
    """
    try:
        return _imported_names(read_text(path))
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


@cache
def _imported_names(text: str) -> frozenset[str]:
    names = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: write the whole module's name")
            # What is imported may be a module or something in one.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(names)


def fingerprint(path: Path) -> str:
    """Return a hash of what a file does: its syntax tree without docstrings.

    Files beside a module that are not Python are part of it: native code, for example.
    """
    digest = hashlib.sha256(_syntax_tree(read_text(path)))
    for beside in sorted(path.parent.glob(f"{path.stem}.*")):
        if beside.suffix not in (".py", ".pyc"):
            digest.update(beside.read_bytes())
    return digest.hexdigest()[:16]


@cache
def _syntax_tree(text: str) -> bytes:
    tree = ast.parse(text)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [part for part in body if not _is_text(part)]  # pyright: ignore[reportAttributeAccessIssue]
    return ast.dump(tree).encode()


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a docstring, and does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def _files_of(name: str, root: Path) -> list[Path]:
    """Return the files that run when a name of the library is imported."""
    parts = name.split(".")
    if parts[0] != "warpzone":
        return []
    files = []
    for end in range(1, len(parts) + 1):
        module = root.joinpath(*parts[:end])
        for path in (module / "__init__.py", module.with_suffix(".py")):
            if path.is_file():
                files.append(path)
    return files


_version = cache(version)


@cache
def _distributions() -> dict[str, list[str]]:
    return {top: list(names) for top, names in packages_distributions().items()}
