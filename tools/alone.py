"""Open the repository for one command at a time, with what a kill has left mended."""

import json
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
from dvc.lock import LockError, make_lock
from dvc.repo import Repo, lock_repo
from dvc.rwlock import SCHEMA
from voluptuous import Invalid

from warpzone.core.errors import InputError

RUNNING = Path(".dvc/tmp/repro.lock")
"""Held by whichever of our commands reads or writes outputs."""


@contextmanager
def alone() -> Iterator[Repo]:
    """Open the repository, while no stage runs in it and no other DVC works on it.

    Raises:
        InputError: One does; the message names its pid.
    """
    with _open() as repo, ExitStack() as stack:
        folder = Path(str(repo.tmp_dir)).resolve()
        try:
            stack.enter_context(lock_repo(repo))
        except LockError:
            pid = (folder / "lock").read_text().strip()
            raise InputError(_busy(pid, "its DVC command")) from None
        _check_stages(folder)
        yield repo


def _busy(pid: object, what: str) -> str:
    return f"process {pid} is at work here ({what}): wait for it or end it"


def _open() -> Repo:
    """Open the repository; remove DVC's databases of hashes if they are damaged."""
    try:
        repo = Repo()
    except sqlite3.DatabaseError:
        # It opens none for a commit.
        repo = Repo(rev="HEAD")
    with repo:
        paths = Path(repo.site_cache_dir).rglob("*.db")
        damaged = [path for path in paths if _is_damaged(path)]
    for path in damaged:
        for end in ("", "-wal", "-shm"):
            Path(f"{path}{end}").unlink(missing_ok=True)
        print(f"{path}: damaged, removed: DVC hashes again", file=sys.stderr)
    return Repo()


def _is_damaged(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path)) as database:
            return database.execute("PRAGMA quick_check(1)").fetchone() != ("ok",)
    except sqlite3.OperationalError:
        # Locked, or on a disk that is full or read-only.
        return False
    except sqlite3.DatabaseError:
        return True


def _check_stages(folder: Path) -> None:
    """Remove DVC's list of the files that stages work on, unless a stage does.

    A kill may leave it empty, or with a process whose number another has by now.

    Raises:
        InputError: A stage runs.
    """
    path = folder / "rwlock"
    with make_lock(f"{path}.lock"):
        try:
            held: Any = SCHEMA(json.loads(path.read_bytes()))
        except FileNotFoundError:
            return
        except (ValueError, Invalid):
            print(f"{path}: half written by a killed DVC: removed", file=sys.stderr)
            held = SCHEMA({})
        read = [info for infos in held["read"].values() for info in infos]
        for info in [*held["write"].values(), *read]:
            if _works_in(info["pid"], folder.parents[1]):
                raise InputError(_busy(info["pid"], info["cmd"]))
        path.unlink()


def _works_in(pid: int, root: Path) -> bool:
    """Return whether a process lives that is not this one and works in a folder."""
    try:
        folder = Path(psutil.Process(pid).cwd())
        return pid != os.getpid() and folder.is_relative_to(root)
    except psutil.AccessDenied:
        return True
    except psutil.NoSuchProcess:
        return False
