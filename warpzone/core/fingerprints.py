"""What code a stage consists of: a fingerprint of each module that it reaches.

A stage depends on the small file that `write_fingerprints` makes for its script. A
comment, a docstring or another layout changes no fingerprint, so nothing runs again.
The version of each package that is imported is in it, too: it decides results as our
own code does.
"""

import ast
import hashlib
import sys
from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, version
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.core.files import one_line, read_text, write_lines

_SET_UP = "remove .venv, then run make repro"


def write_fingerprints(
    scripts: Iterable[Path], folder: Path, worlds: Iterable[str]
) -> None:
    """Write ``NAME.txt`` for each script: a line a module, a line a package.

    Args:
        scripts: In a folder beside ``warpzone/``.
        folder: Where to. Files of scripts that are gone are removed.
        worlds: Modules that are imported by name, see `warpzone.envs.registry`; whoever
            reaches the registry reaches them.

    Raises:
        InputError: If a file is no Python, or imports a name that begins with a dot or
            is not installed.
    """
    installed, version_of = packages_distributions(), cache(version)
    worlds, wanted = set(worlds), set()
    for script in scripts:
        root = script.resolve().parents[1]
        modules, tops = _reach(script.resolve(), root, worlds)
        for top in tops - installed.keys() - sys.stdlib_module_names - {"warpzone"}:
            raise InputError(
                f"{script}: needs {top}, which is not installed: {_SET_UP}"
            )
        packages = {name for top in tops for name in installed.get(top, ())}
        lines = [f"{fingerprint(path)}  {path.relative_to(root)}" for path in modules]
        lines += [f"{version_of(name)}  {name}" for name in sorted(packages)]
        path = folder / f"{script.stem}.txt"
        write_lines(path, lines)
        wanted.add(path)
    for path in set(folder.glob("*.txt")) - wanted:
        path.unlink()


def fingerprint(path: Path) -> str:
    """Return a hash of what a file does: its syntax tree without docstrings.

    Files beside a module that are not Python are part of it: native code, for example.
    """
    digest = hashlib.sha256(_parse(path)[1])
    for beside in sorted(path.parent.glob(f"{path.stem}.*")):
        if beside.suffix not in (".py", ".pyc"):
            digest.update(beside.read_bytes())
    return digest.hexdigest()[:16]


def _reach(script: Path, root: Path, worlds: set[str]) -> tuple[list[Path], set[str]]:
    """Return the files that a script imports, itself too, and the top-level names."""
    registry = root / "warpzone/envs/registry.py"
    files: set[Path] = set()
    names: set[str] = set()
    new = {script}
    while new:
        files |= new
        found = {name for path in new for name in _parse(path)[0]}
        if registry in new:
            found |= worlds
        names |= found
        new = {path for name in found for path in _files_of(name, root)} - files
    return sorted(files), {name.split(".")[0] for name in names}


def _files_of(name: str, root: Path) -> list[Path]:
    """Return the files that run when a name of the library is imported."""
    parts = name.split(".")
    if parts[0] != "warpzone":
        return []
    modules = [root.joinpath(*parts[:end]) for end in range(1, len(parts) + 1)]
    paths = [p for m in modules for p in (m / "__init__.py", m.with_suffix(".py"))]
    return [path for path in paths if path.is_file()]


def _parse(path: Path) -> tuple[frozenset[str], bytes]:
    """Return the dotted names that a file imports, and its tree without docstrings."""
    try:
        return _parse_text(read_text(path))
    except (SyntaxError, ValueError) as error:
        raise InputError(f"{path}: {one_line(error)}") from error


@cache
def _parse_text(text: str) -> tuple[frozenset[str], bytes]:
    tree = ast.parse(text)
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"line {node.lineno}: write the whole module's name")
            # What is imported may be a module or something in one.
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(body := getattr(node, "body", None), list):
            body[:] = [part for part in body if not _is_text(part)]
    return frozenset(names), ast.dump(tree).encode()


def _is_text(node: ast.AST) -> bool:
    """Return whether a statement is a docstring, and does nothing."""
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )
