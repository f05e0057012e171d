"""What dvc.lock and the listings of folders name, and what they may not."""

import hashlib
import json
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tools.storage.errors import UnsafeError

if TYPE_CHECKING:
    from dvc.repo import Repo

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


def recorded_outs(repo: "Repo", revisions: Iterable[str] | None = None) -> list[Out]:
    """Return the outputs that dvc.lock records, here or in commits.

    Raises:
        UnsafeError: A path leads out of the repository or a hash is none.
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
            raise UnsafeError(f"{path} is outside of the repository", "dvc.lock")
        if not OID.fullmatch(oid):
            raise UnsafeError(f"{path} has the hash {oid!r}, not an MD5", "dvc.lock")
        outs.append(Out(path, oid, out.use_cache))
    return outs


def parse_listing(content: bytes, oid: str) -> dict[str, str]:
    """Read a listing: object names by path, relative to the folder.

    A listing comes from the remote, and its hash from whoever wrote dvc.lock.

    Raises:
        UnsafeError: If a path is absolute, leads out of the folder, or comes twice, or
            if it is no listing.
    """

    def refuse(reason: str) -> UnsafeError:
        return UnsafeError(reason, f"listing {oid}")

    try:
        entries = json.loads(content)
    except (ValueError, RecursionError):
        raise refuse("is not JSON") from None
    if not isinstance(entries, list):
        raise refuse("is not a list")
    members: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"relpath": str(name), "md5": str(member)} if len(entry) == 2:
                pass
            case _:
                raise refuse(f"has the entry {str(entry)[:80]!r}")
        if not re.fullmatch("[0-9a-f]{32}", member):
            raise refuse(f"{name!r} has the hash {member[:80]!r}, not an MD5")
        parts = name.split("/")
        if {"", ".", ".."} & set(parts) or any(c in name for c in "\\\0\n"):
            raise refuse(f"{name!r} is no path inside of the folder")
        if name in members:
            raise refuse(f"{name!r} comes twice")
        members[name] = member
    for name in members:
        parents = [str(parent) for parent in Path(name).parents]
        if both := members.keys() & set(parents):
            raise refuse(f"{both.pop()!r} is a file and a folder")
    return members
