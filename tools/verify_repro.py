"""Run the small pipeline in two fresh clones and show the first difference.

The clones lie in folders with names of different lengths, share no cache, and emulate
on different numbers of threads. Everything that dvc.lock records has to be the same,
and every byte of every output.
"""

import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.smoke import (
    SmokeError,
    interrupt,
    make_copy,
    recorded_outputs,
    recorded_stages,
    repro,
)

# Names of the clones, and how many processors Python believes in there.
CLONES = {"one": "1", "another-with-a-long-name": "3"}


def main() -> None:
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="warpzone-verify-") as name:
        folder = Path(name).resolve()
        try:
            first, second = (run(folder / clone / "copy") for clone in CLONES)
        except SmokeError as error:
            sys.exit(f"verify-repro failed: {error}")
        except KeyboardInterrupt:
            sys.exit(130)
        difference = next(differences(first, second), None)
        if difference:
            sys.exit(f"verify-repro failed: the two runs differ first in {difference}")
        count = len(recorded_outputs(first))
    seconds = time.monotonic() - began
    print(f"verify-repro passed in {seconds:.0f} s: {count} outputs are the same")


def run(copy: Path) -> Path:
    """Run the small pipeline in a new copy of the working tree."""
    make_copy(copy)
    print(f"verify-repro: clone {copy.parent.name!r}")
    with (copy.parent / "log").open("w", buffering=1, encoding="utf-8") as log:
        repro(copy, log, PYTHON_CPU_COUNT=CLONES[copy.parent.name])
    return copy


def differences(first: Path, second: Path) -> Iterator[str]:
    """Name what differs: by stage in the order of the pipeline, then by file."""
    ours, theirs = recorded_stages(first), recorded_stages(second)
    if list(ours) != list(theirs):
        yield f"the stages: {list(ours)} and {list(theirs)}"
    for stage in ours:
        for kind in ("cmd", "params", "deps", "outs"):
            a, b = (run[stage].get(kind) for run in (ours, theirs))
            if a != b:
                yield f"stage {stage}, {kind}: {first_unequal(a, b)}"
        for out in ours[stage].get("outs", []):
            both = (files_of(copy, out["path"]) for copy in (first, second))
            for path in sorted(set().union(*both)):
                a, b = first / path, second / path
                if not (a.is_file() and b.is_file()):
                    yield f"stage {stage}, {path}: it is in one of them only"
                elif a.read_bytes() != b.read_bytes():
                    yield f"stage {stage}, {path}: {unequal_byte(a, b)}"
    if (first / "dvc.lock").read_bytes() != (second / "dvc.lock").read_bytes():
        yield f"dvc.lock: {unequal_byte(first / 'dvc.lock', second / 'dvc.lock')}"


def first_unequal(a: Any, b: Any) -> str:
    """Name the first of two lists' entries that differ."""
    if isinstance(a, list) and isinstance(b, list):
        for one, other in zip(a, b, strict=False):
            if one != other:
                return f"{one} and {other}"
    return f"{a} and {b}"


def files_of(copy: Path, name: str) -> set[str]:
    """Return the files of an output, relative to the copy."""
    path = copy / name
    files = path.rglob("*") if path.is_dir() else [path]
    return {file.relative_to(copy).as_posix() for file in files if file.is_file()}


def unequal_byte(a: Path, b: Path) -> str:
    one, other = a.read_bytes(), b.read_bytes()
    pairs = enumerate(zip(one, other, strict=False))
    same = next((i for i, (x, y) in pairs if x != y), min(len(one), len(other)))
    return f"from byte {same} on ({len(one)} and {len(other)} bytes)"


if __name__ == "__main__":
    main()
