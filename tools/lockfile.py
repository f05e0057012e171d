"""dvc.lock, which DVC does not write at one stroke: tell one that a kill has cut."""

import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from dvc.dvcfile import Lockfile
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.utils.serialize import dumps_yaml, loads_yaml

from warpzone.core.errors import InputError
from warpzone.core.files import write_bytes, write_text
from warpzone.core.yaml import read_yaml

LOCK = Path("dvc.lock")
WHOLE = Path(".dvc/tmp/dvc.lock.whole")
"""dvc.lock as it was when it was last seen whole; empty if there was none."""
CUT = Path(".dvc/tmp/dvc.lock.cut")

_MARKS = re.compile(rb"^(<{7}|={7}|>{7}|\|{7})( |$)", re.MULTILINE)


def mend(repo: Repo) -> None:
    """Take dvc.lock back to what it was when last seen whole, if it is cut.

    DVC's run cache still knows what has been done since. What is whole is remembered.

    Raises:
        InputError: In one line, if a merge left a conflict, or if dvc.lock is not
            whole and was not seen before.
    """
    content = LOCK.read_bytes() if LOCK.exists() else b""
    if _MARKS.search(content):
        raise InputError(
            f"{LOCK}: has a merge's conflict marks: take either side (git checkout "
            f"--ours {LOCK}, or --theirs), then run this again"
        )
    whole = WHOLE.read_bytes() if WHOLE.exists() else None
    flaw = _flaw(repo, content, whole) if LOCK.exists() else None
    if flaw is None:
        if content != whole:
            write_bytes(WHOLE, content)
        return
    if whole is None or _git("ls-files", "--unmerged", str(LOCK)):
        raise InputError(
            f"{LOCK}: {flaw}: get it back with git checkout {LOCK}, or remove it"
        )
    write_bytes(CUT, content)
    if whole:
        write_bytes(LOCK, whole)
    else:
        LOCK.unlink()
    repo._reset()
    print(
        f"{LOCK}: {flaw}: half written when a run was killed: taken back; what it was "
        f"is in {CUT}",
        file=sys.stderr,
    )


def _flaw(repo: Repo, content: bytes, whole: bytes | None) -> str | None:
    """Return why dvc.lock is not whole, or None."""
    try:
        stages = Lockfile(repo, str(LOCK.absolute())).load().get("stages")
    except DvcException:
        return "cannot be read"
    if not stages:
        return "holds no stages"
    if content in (whole, _git("show", f"HEAD:./{LOCK}")):
        return None
    if not content.endswith(b"\n"):
        return "ends within a line"
    named = {}
    # What is wrong with dvc.yaml, DVC tells.
    with suppress(DvcException):
        named = {stage.addressing: stage for stage in repo.index.stages}
    # DVC adds stages at the end, and takes none out.
    known = [*loads_yaml(whole)["stages"]] if whole else []
    lost = named.keys() & known[len(stages) :]
    if lost and [*stages] == known[: len(stages)]:
        return f"lacks {', '.join(sorted(lost))}"
    name, last = [*stages.items()][-1]
    outs = last.get("outs", [])
    if name in named and len(outs) < len(named[name].outs):
        return f"ends within the stage {name}"
    for out in outs:
        folder = out.get("md5", "").endswith(".dir")
        if not {"md5", "size", *(["nfiles"] if folder else [])} <= out.keys():
            return f"ends within the stage {name}"
    return None


def tidy(repo: Repo) -> None:
    """Leave in dvc.lock the stages of dvc.yaml only, in its order, as in a clone."""
    if not LOCK.exists():
        return
    document = read_yaml(LOCK)
    recorded = document["stages"]
    names = [stage.addressing for stage in repo.index.stages]
    stages = {name: recorded[name] for name in names if name in recorded}
    if list(stages) != list(recorded):
        write_text(LOCK, dumps_yaml(document | {"stages": stages}))
        write_bytes(WHOLE, LOCK.read_bytes())


def _git(*words: str) -> bytes:
    """Return what git says."""
    return subprocess.run(["git", *words], capture_output=True).stdout
