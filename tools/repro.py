"""Run the pipeline (`make repro`): dvc repro, and checks before and after it.

Before: params.yaml and dvc.lock can be read, and nothing else is at work here; what is
wrong ends in one line. What a kill left half done, and would end every later run, is
mended: DVC's lists and databases, its run cache, and dvc.lock, which DVC does not write
at one stroke. Outputs that somebody has edited are copied to .dvc/cache/quarantine.
What agents left behind that params.yaml no longer names is set aside in .leftovers/,
and taken out of dvc.lock: a clone never had it. DVC's run cache brings it back when it
is named again. After: every object that dvc.lock names is in the cache and whole; dvc
itself ends with success when the disk is full while it caches a folder.

Arguments are handed to dvc repro. Then outputs that are not in the workspace are left
out of the check afterwards, dvc.lock keeps what it has, and a dry run is not checked.
"""

import json
import re
import sqlite3
import subprocess
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from dvc.cli import DvcParserError
from dvc.cli import main as dvc
from dvc.cli.parser import get_main_parser
from dvc.exceptions import DvcException
from dvc.repo import Repo

from tools import lockfile
from tools.alone import RUNNING, alone
from tools.storage.__main__ import run as storage
from tools.storage.cache import Cache
from tools.storage.errors import StorageError, explain
from tools.storage.listing import Out, oid_of, recorded_outs
from warpzone.core.errors import InputError
from warpzone.core.files import locked, write_json
from warpzone.core.leftovers import set_aside
from warpzone.core.names import PARAMS, RECORDINGS
from warpzone.core.params import Params, load_params

LEFT = Path(".dvc/tmp/left.json")
"""Hashes of the outputs as the last run that failed has left them."""
OUTPUTS = ("data", "models", "metrics", "plots")

_TEMPORARY = re.compile(r"\..+\.partial|\.[\w-]{22}\.tmp")
"""Files that we, or DVC, write beside an output and then rename."""


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
        options, unknown = get_main_parser().parse_known_args(["repro", *arguments])
        if unknown:
            raise InputError(f"dvc repro knows no {unknown[0]}: see dvc repro --help")
        with locked(RUNNING):
            sys.exit(repro(params, arguments, is_dry=options.dry))
    except DvcParserError:
        sys.exit(254)
    except (StorageError, InputError, DvcException, OSError, sqlite3.Error) as error:
        sys.exit(f"error: {explain(error, {})}")


def repro(params: Params, arguments: list[str], *, is_dry: bool) -> int:
    """Run dvc repro, and what comes before and after it; return its exit status."""
    with alone() as repo:
        lockfile.mend(repo)
        if not is_dry:
            sweep(repo)
            keep_edited(repo)
            set_aside(params)
            note_recordings()
    # A stage that has ended may find another DVC at work.
    code = dvc(["--wait-for-lock", "repro", *arguments])
    with alone() as repo:
        lockfile.mend(repo)
        if code:
            write_json(LEFT, {str(out.path): oid_of(out.path) for out in outs_of(repo)})
        elif not arguments:
            lockfile.tidy(repo)
    if not (code or is_dry):
        print(storage(["verify", "--local", *(["--present"] if arguments else [])]))
    return code


def sweep(repo: Repo) -> None:
    """Remove what a kill has left beside outputs and in DVC's run cache.

    DVC hashes the files beside outputs, and expects no run cache without a run.
    """
    beside = [path for folder in OUTPUTS for path in Path(folder).rglob(".*")]
    runs = Path(repo.stage_cache.cache_dir)
    for path in [*Path().glob(".*"), *beside, *runs.glob("*/*/.*")]:
        if _TEMPORARY.fullmatch(path.name) and path.is_file():
            path.unlink()
    for folder in runs.glob("*/*"):
        if folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


def outs_of(repo: Repo) -> list[Out]:
    """Return the outputs of all stages, with an empty hash if dvc.lock has none."""
    outs = {out.path: out for out in recorded_outs(repo)}
    for out in repo.index.outs:
        path = Path(out.def_path)
        outs.setdefault(path, Out(path, "", out.use_cache))
    return list(outs.values())


def keep_edited(repo: Repo) -> None:
    """Copy outputs that somebody has edited, which the run may overwrite."""
    left = json.loads(LEFT.read_bytes()) if LEFT.exists() else {}
    outs = [out for out in outs_of(repo) if oid_of(out.path) != left.get(str(out.path))]
    for path, place in Cache(repo).copy_edited(outs):
        print(f"{path}: is not what dvc.lock records: kept in {place}", file=sys.stderr)


def note_recordings() -> None:
    """Say which recordings of people git does not know."""
    command = ["git", "ls-files", "--others", "--exclude-standard", RECORDINGS]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    if names := ", ".join(listed.splitlines()):
        lack = "not in git, so clones and queued experiments lack it"
        print(f"{names}: {lack}: git add it", file=sys.stderr)


if __name__ == "__main__":
    main()
