"""Run the pipeline (`make repro`): dvc repro, and checks before and after it.

Before: params.yaml and dvc.lock can be read, and no other run is under way; what is
wrong ends in one line. After: every object that dvc.lock names is in the cache and
whole; dvc itself ends with success when the disk is full while it caches a folder.
What a kill left half done, and would end every later run, is mended: DVC's run cache,
and dvc.lock, which DVC does not write at one stroke. What agents left behind that
params.yaml no longer names is set aside in .leftovers/, and taken out of dvc.lock: a
clone never had it. DVC's run cache brings it back when it is named again.

Arguments are handed to dvc repro. Then outputs that are not in the workspace are left
out of the check afterwards, dvc.lock keeps what it has, and a dry run is not checked.
"""

import shutil
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from contextlib import suppress
from pathlib import Path

from dvc.cli import main as dvc
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml

from tools.storage.__main__ import main as storage
from warpzone.core.errors import InputError
from warpzone.core.files import locked, write_text
from warpzone.core.leftovers import set_aside
from warpzone.core.params import load_params
from warpzone.core.yaml import read_yaml

PARAMS = Path("params.yaml")
LOCK = Path("dvc.lock")
RUNNING = Path(".dvc/tmp/repro.lock")
BEFORE = Path(".dvc/tmp/dvc.lock.before")
"""dvc.lock as it was before a run; gone when the run ends by itself."""


def main() -> None:
    parser = ArgumentParser(
        prog="python -m tools.repro",
        usage="%(prog)s [ARGUMENT ...], or make repro ARGS='ARGUMENT ...'",
        description=__doc__,
        epilog="The arguments are those of dvc repro, which `dvc repro --help` lists.",
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    _, arguments = parser.parse_known_args()
    try:
        params = load_params(PARAMS)
        with locked(RUNNING):
            keep_lock()
            remove_empty_runs()
            if "--dry" not in arguments:
                set_aside(params)
            code = dvc(["repro", *arguments])
            check_lock()
            if not (code or arguments):
                tidy_lock()
            BEFORE.unlink(missing_ok=True)
            if code:
                sys.exit(code)
            if "--dry" not in arguments:
                storage(["verify", "--local", *(["--present"] if arguments else [])])
    except InputError as error:
        sys.exit(f"error: {error}")


def keep_lock() -> None:
    """Keep a copy of dvc.lock until the run has ended.

    If an earlier run was killed while DVC wrote it, it is taken back first: DVC's run
    cache still knows what had been done since.

    Raises:
        InputError: In one line, if it cannot be read and there is no copy.
    """
    try:
        check_lock()
    except InputError:
        if not BEFORE.exists():
            raise
        print(
            f"{LOCK}: half written when a run was killed: taken back", file=sys.stderr
        )
        BEFORE.replace(LOCK)
        check_lock()
    if LOCK.exists():
        shutil.copy(LOCK, BEFORE)


def check_lock() -> None:
    """Check that dvc.lock can be read.

    Raises:
        InputError: In one line, if it cannot.
    """
    if not LOCK.exists():
        return
    if "\n<<<<<<< " in f"\n{LOCK.read_text(encoding='utf-8', errors='replace')}":
        raise InputError(
            f"{LOCK}: has a merge's conflict marks: take either side (git checkout "
            f"--ours {LOCK}), then run this again"
        )
    try:
        document = read_yaml(LOCK)
    except InputError as error:
        raise InputError(f"{error}: get it back with git checkout {LOCK}") from None
    if not (isinstance(document, dict) and isinstance(document.get("stages"), dict)):
        raise InputError(
            f"{LOCK}: holds no stages: get it back with git checkout {LOCK}"
        )


def tidy_lock() -> None:
    """Leave in dvc.lock the stages of dvc.yaml only, in its order, as in a clone."""
    if not LOCK.exists():
        return
    with Repo() as repo:
        names = [stage.addressing for stage in repo.index.stages]
    document = read_yaml(LOCK)
    recorded = document["stages"]
    stages = {name: recorded[name] for name in names if name in recorded}
    if list(stages) != list(recorded):
        write_text(LOCK, dumps_yaml(document | {"stages": stages}))


def remove_empty_runs() -> None:
    """Remove folders without a run from DVC's run cache: it does not expect any."""
    # What else is wrong with the repository dvc will say.
    with suppress(DvcException), Repo() as repo:
        for folder in Path(repo.stage_cache.cache_dir).glob("*/*"):
            if folder.is_dir() and not any(folder.iterdir()):
                folder.rmdir()


if __name__ == "__main__":
    main()
