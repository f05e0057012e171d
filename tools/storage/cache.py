"""The cache and the workspace: rehash every byte, and heal what is damaged."""

import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

from dvc.repo import Repo
from dvc_data.hashfile import load
from dvc_data.hashfile.checkout import checkout
from dvc_data.hashfile.hash_info import HashInfo
from dvc_objects.fs.local import localfs

from tools.storage.errors import DamagedError, MissingError, StorageError, UnsafeError
from tools.storage.listing import OID, Out, listing_of, md5, oid_of, parse_listing
from tools.storage.remote import Remote, each


class Cache:
    """The objects and the workspace of a repository, whose lock the caller holds."""

    def __init__(self, repo: Repo) -> None:
        self.root = Path(repo.root_dir)
        self.odb = repo.cache.local
        self.quarantine = Path(self.odb.path).parents[1] / "quarantine"
        self.quarantined = 0
        self.problems: list[StorageError] = []
        self.scratch = Path(str(repo.tmp_dir), "storage")
        # With what a kill has left there.
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self._lock = Lock()

    def path_of(self, oid: str) -> Path:
        """Return where the cache keeps an object."""
        return Path(self.odb.oid_to_path(oid))

    def stored(self) -> set[str]:
        """Return the names of all objects in the cache."""
        paths = Path(self.odb.path).glob("??/*")
        names = {path.parent.name + path.name for path in paths}
        return {name for name in names if OID.fullmatch(name)}

    def complete(
        self, outs: list[Out], remote: Remote | None = None
    ) -> tuple[list[str], int]:
        """Rehash the objects of outputs in the cache, and heal what is not whole.

        From the workspace if it is there, else from the remote. What cannot be healed
        is added to the problems.

        Returns:
            The names of all objects, and how many were healed.
        """
        # Where in the workspace each object belongs.
        files: dict[str, list[Path]] = {}
        listings: dict[str, list[Path]] = {}
        for out in outs:
            kind = listings if out.oid.endswith(".dir") else files
            if out.cached and out.path not in kind.setdefault(out.oid, []):
                kind[out.oid].append(out.path)
        healed = self._heal(listings, remote)
        for oid, folders in listings.items():
            if self.path_of(oid).is_file():
                content = self.path_of(oid).read_bytes()
                for name, member in parse_listing(content, oid).items():
                    paths = [folder / name for folder in folders]
                    files.setdefault(member, []).extend(paths)
        healed += self._heal(files, remote)
        return [*files, *listings], healed

    def _heal(self, objects: dict[str, list[Path]], remote: Remote | None) -> int:
        def heal(oid: str) -> int:
            if self.is_whole(oid):
                return 0
            if any(self.adopt(path, oid) for path in objects[oid]):
                return 1
            if remote and self.take_in(oid, partial(remote.get, oid)):
                return 1
            places = f"{', '.join(map(str, objects[oid][:2]))} ({oid})"
            self.problems.append(MissingError(places, has_remote=remote is not None))
            return 0

        return sum(each(heal, objects, remote))

    def is_whole(self, oid: str) -> bool:
        """Rehash an object of the cache, and set it aside if it is damaged."""
        path = self.path_of(oid)
        if not path.is_file():
            return False
        if md5(path) == oid[:32]:
            return True
        self.set_aside(path, oid)
        return False

    def adopt(self, path: Path, oid: str) -> bool:
        """Copy an output to the cache if it is what the object should be."""
        source = self.root / path
        if oid.endswith(".dir"):
            listing = listing_of(source) if source.is_dir() else b""
            return self.take_in(oid, lambda path: path.write_bytes(listing))
        copy = partial(shutil.copyfile, source)
        return source.is_file() and self.take_in(oid, copy)

    def take_in(self, oid: str, write: Callable[[Path], object]) -> bool:
        """Add what ``write`` puts at a path to the cache if it is whole."""
        with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
            path = Path(folder, "object")
            with suppress(FileNotFoundError, DamagedError):
                write(path)
            if not path.is_file() or md5(path) != oid[:32]:
                return False
            self.odb.add(str(path), localfs, oid, hardlink=True)
            return True

    def check_out(self, outs: list[Out]) -> int:
        """Make the workspace what dvc.lock says; return how many outputs changed.

        Each output is built under .dvc/tmp, read back, and renamed to its place.
        (`Repo.checkout` trusts times, removes what is there before it writes, and does
        not tell why it failed.) What was there and is not in the cache is set aside.
        """
        changed = [out for out in outs if out.cached and not self.is_in_place(out)]
        for out in changed:
            target = self.root / out.path
            if not target.parent.resolve().is_relative_to(self.root.resolve()):
                raise UnsafeError("a link leads out of the repository", str(out.path))
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                new = Path(folder, "new")
                content = load(self.odb, HashInfo("md5", out.oid))
                checkout(str(new), localfs, content, self.odb)
                if oid_of(new) != out.oid:
                    raise DamagedError("reads back damaged", str(out.path))
                target.parent.mkdir(parents=True, exist_ok=True)
                if os.path.lexists(target):
                    self.retire(target, Path(folder, "old"))
                shutil.move(new, target)
        return len(changed)

    def is_in_place(self, out: Out) -> bool:
        """Compare an output in the workspace with dvc.lock."""
        path = self.root / out.path
        may_link = "symlink" in self.odb.cache_types
        return (may_link or not path.is_symlink()) and oid_of(path) == out.oid

    def retire(self, target: Path, old: Path) -> None:
        """Take an output from its place; set it aside unless the cache has it all."""
        files = [target] if target.is_file() else sorted(target.rglob("*"))
        known = all(
            path.is_dir() or (path.is_file() and self.is_whole(md5(path)))
            for path in files
        )
        if known and not target.is_symlink():
            shutil.move(target, old)
        else:
            self.set_aside(target, target.name)

    def set_aside(self, path: Path, name: str) -> None:
        """Move a file or folder to the quarantine under a new name."""
        with self._lock:
            self.quarantine.mkdir(parents=True, exist_ok=True)
            number = 1
            while os.path.lexists(place := self.quarantine / f"{name}.{number}"):
                number += 1
            shutil.move(path, place)
            self.quarantined += 1
