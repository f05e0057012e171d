"""Run the whole pipeline at small size in a throw-away copy of the working tree.

Lays tests/smoke_params.yaml over params.yaml, runs `dvc repro`, checks what it wrote,
and runs it again, which must do nothing. Then it runs the notebook on these results.
The log is .dvc/tmp/smoke.log.
"""

import subprocess
import sys
from pathlib import Path
from typing import TextIO

from tools.pipeline_copy import (
    LOCK,
    SMALL,
    PipelineError,
    copy_repository,
    environment,
    recorded_outputs,
    repro,
    run_check,
)
from warpzone.core.yaml import read_yaml

NOTEBOOK = "notebooks/analysis.py"


def check(folder: Path, log: TextIO) -> str:
    """Run the pipeline twice and check both runs, then run the notebook.

    Raises:
        PipelineError: A run failed, left an output empty, or was repeated needlessly.
    """
    copy = folder / "copy"
    copy_repository(Path.cwd(), copy, read_yaml(SMALL))

    print("smoke: first run, everything")
    stages = repro(copy, log)
    files, size = measure_outputs(copy)

    print("smoke: second run, nothing")
    before = (copy / LOCK).read_bytes()
    if repeated := repro(copy, log):
        raise PipelineError(f"the second dvc repro ran {repeated}, expected nothing")
    if (copy / LOCK).read_bytes() != before:
        raise PipelineError("the second dvc repro changed dvc.lock")

    print("smoke: the notebook")
    analyse(copy, log)
    return f"{len(stages)} stages wrote {files} files, {size / 1e6:.1f} MB"


def analyse(copy: Path, log: TextIO) -> None:
    """Run the notebook as a script.

    Raises:
        PipelineError: It failed.
    """
    done = subprocess.run(
        [sys.executable, NOTEBOOK],
        cwd=copy,
        env=environment(copy),
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=subprocess.STDOUT,
    )
    if done.returncode:
        raise PipelineError(f"{NOTEBOOK} ended with status {done.returncode}")


def measure_outputs(copy: Path) -> tuple[int, int]:
    """Return the number of files written and their size in bytes.

    Raises:
        PipelineError: There is no output, or an empty one.
    """
    sizes: list[int] = []
    for out in recorded_outputs(copy):
        files = [path for path in (out, *out.rglob("*")) if path.is_file()]
        new = [path.stat().st_size for path in files]
        if not sum(new):
            raise PipelineError(f"{out.relative_to(copy)} is empty")
        sizes += new
    if not sizes:
        raise PipelineError("dvc repro wrote nothing")
    return len(sizes), sum(sizes)


if __name__ == "__main__":
    run_check("smoke", __doc__, check)
