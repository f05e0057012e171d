"""Run the small pipeline in two fresh copies and show the first difference.

The copies lie in folders with names of different lengths, share no cache, and emulate
on different numbers of threads. Everything that dvc.lock records has to be the same,
the hash of every output above all. The log is .dvc/tmp/verify-repro.log.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from tools.pipeline_copy import (
    SMALL,
    PipelineError,
    copy_repository,
    recorded_outputs,
    recorded_stages,
    repro,
    run_check,
)
from warpzone.core.yaml import read_yaml

# Names of the copies, and how many processors Python believes in there.
COPIES = {"one": "1", "another-with-a-long-name": "3"}


def check(folder: Path, log: TextIO) -> str:
    """Run the pipeline in both copies and compare them.

    Raises:
        PipelineError: A run failed, or the two are not the same.
    """
    copies = []
    for name, processors in COPIES.items():
        print(f"verify-repro: copy {name!r}")
        copies.append(folder / name / "copy")
        copy_repository(Path.cwd(), copies[-1], read_yaml(SMALL))
        repro(copies[-1], log, PYTHON_CPU_COUNT=processors)
    for difference in differences(*copies):
        raise PipelineError(f"the two runs differ first in {difference}")
    return f"{len(recorded_outputs(copies[0]))} outputs are the same"


def differences(first: Path, second: Path) -> Iterator[str]:
    """Name what differs, by stage in the order of the pipeline."""
    ours, theirs = recorded_stages(first), recorded_stages(second)
    for stage in ours | theirs:
        for kind in ("cmd", "params", "deps", "outs"):
            a, b = (stages.get(stage, {}).get(kind) for stages in (ours, theirs))
            if a == b:
                continue
            if kind == "outs" and a:
                for out in a:
                    for file in differing_files(first, second, out["path"]):
                        yield f"stage {stage}, {file}"
            yield f"stage {stage}, {kind}: {a} and {b}"


def differing_files(first: Path, second: Path, out: str) -> list[str]:
    """Return the files of an output that are not the same in both copies."""
    a, b = (contents(copy, copy / out) for copy in (first, second))
    return sorted(name for name in a | b if a.get(name) != b.get(name))


def contents(copy: Path, out: Path) -> dict[str, bytes]:
    files = out.rglob("*") if out.is_dir() else [out]
    return {
        path.relative_to(copy).as_posix(): path.read_bytes()
        for path in files
        if path.is_file()
    }


if __name__ == "__main__":
    run_check("verify-repro", __doc__, check)
