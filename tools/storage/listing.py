"""What dvc.lock and the listings of folders name, and what they may not."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from dvc.repo import Repo

from tools.storage.errors import StorageError

OID = re.compile(r"[0-9a-f]{32}(\.dir)?")


class Out(NamedTuple):
    """An output of a stage, as dvc.lock records it."""

    path: Path
    """Relative to the repository."""
    oid: str
    """MD5 of the content; of a folder: of its listing, followed by ``.dir``."""
    cached: bool
    """False if git keeps it."""


def md5(path: Path) -> str:
    """Return the MD5 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def listing_of(folder: Path) -> bytes:
    """Return the listing that DVC writes of a folder; dvc.lock names it by its MD5."""
    files = [
        {"md5": md5(path), "relpath": path.relative_to(folder).as_posix()}
        for path in folder.rglob("*")
        if path.is_file()
    ]
    return json.dumps(sorted(files, key=lambda file: file["relpath"])).encode()


def oid_of(path: Path) -> str | None:
    """Return what dvc.lock would record of a file or folder, None where none is."""
    if path.is_dir():
        return hashlib.md5(listing_of(path)).hexdigest() + ".dir"
    return md5(path) if path.is_file() else None


def recorded_outs(repo: Repo, revisions: Iterable[str] | None = None) -> list[Out]:
    """Return the outputs that dvc.lock records, here or in commits.

    Raises:
        StorageError: A path leads out of the repository or a hash is none.
    """
    if revisions is not None:
        revisions = list(revisions)
        branches = repo.brancher(revs=revisions, workspace=False) if revisions else ()
        return [out for _ in branches for out in recorded_outs(repo)]
    outs = []
    for out in repo.index.outs:
        oid = out.hash_info.value if out.hash_info else None
        if oid is None:
            continue
        path = Path(os.path.relpath(out.fs_path, repo.root_dir))
        if out.protocol != "local" or path.is_absolute() or ".." in path.parts:
            raise StorageError(f"{path} is outside of the repository", "dvc.lock")
        if not OID.fullmatch(oid):
            raise StorageError(f"{path} has the hash {oid!r}, not an MD5", "dvc.lock")
        outs.append(Out(path, oid, out.use_cache))
    return outs


def parse_listing(content: bytes, oid: str) -> dict[str, str]:
    """Read a listing: object names by path, relative to the folder.

    A listing comes from the remote, and its hash from whoever wrote dvc.lock.

    Raises:
        StorageError: If a path is absolute, leads out of the folder, or comes twice, or
            if it is no listing.
    """
    where = f"listing {oid}"
    try:
        listed = json.loads(content)
        if not isinstance(listed, list):
            raise TypeError
        entries = [(entry["relpath"], entry["md5"]) for entry in listed]
        members = {PurePosixPath(name): member for name, member in entries}
    except (ValueError, TypeError, KeyError, RecursionError):
        raise StorageError("is not the listing of a folder", where) from None
    for name, member in entries:
        path = PurePosixPath(name)
        if not (isinstance(member, str) and re.fullmatch("[0-9a-f]{32}", member)):
            reason = f"{name!r} has the hash {str(member)[:80]!r}, not an MD5"
            raise StorageError(reason, where)
        # As written: what is written in two ways could come twice.
        strange = path.is_absolute() or ".." in path.parts or str(path) != name
        if strange or name == "." or any(c in name for c in "\\\0\n"):
            raise StorageError(f"{name!r} is no path inside of the folder", where)
        if members.keys() & set(path.parents):
            raise StorageError(f"{name!r} is below a file", where)
    if len(members) < len(entries):
        raise StorageError("a path comes twice", where)
    return dict(entries)
