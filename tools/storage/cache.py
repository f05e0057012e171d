"""The cache and the workspace: rehash every byte, and heal what is damaged."""

import os
import shutil
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Lock

from dvc.repo import Repo
from dvc_data.hashfile import load
from dvc_data.hashfile.checkout import checkout
from dvc_data.hashfile.hash_info import HashInfo
from dvc_objects.fs.local import localfs

from tools.storage.errors import DamagedError, StorageError
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
        # With what a kill has left there, and of DVC's copies in the cache. In one that
        # repositories share they may be somebody else's.
        shutil.rmtree(self.scratch, ignore_errors=True)
        if Path(self.odb.path).is_relative_to(self.root):
            for path in Path(self.odb.path).rglob("*.tmp"):
                path.unlink()
        self.scratch.mkdir(parents=True)
        self._lock = Lock()

    def path_of(self, oid: str) -> Path:
        """Return where the cache keeps an object."""
        return Path(self.odb.oid_to_path(oid))

    def stored(self) -> set[str]:
        """Return the names of all objects in the cache."""
        paths = Path(self.odb.path).glob("??/*")
        return set(
            filter(OID.fullmatch, (path.parent.name + path.name for path in paths))
        )

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
        places: dict[str, set[Path]] = defaultdict(set)
        for out in outs:
            if out.cached:
                places[out.oid].add(out.path)
        listings = {oid: places[oid] for oid in places if oid.endswith(".dir")}
        healed = self._heal(listings, remote)
        for oid, folders in listings.items():
            if self.path_of(oid).is_file():
                content = self.path_of(oid).read_bytes()
                for name, member in parse_listing(content, oid).items():
                    places[member] |= {folder / name for folder in folders}
        files = {oid: places[oid] for oid in places.keys() - listings.keys()}
        return list(places), healed + self._heal(files, remote)

    def _heal(self, objects: dict[str, set[Path]], remote: Remote | None) -> int:
        def heal(oid: str) -> int:
            paths = sorted(objects[oid])
            if self.is_whole(oid):
                return 0
            if any(self.adopt(path, oid) for path in paths):
                return 1
            if remote and self.take_in(oid, partial(remote.get, oid)):
                return 1
            places = "cache, workspace or remote" if remote else "cache or workspace"
            self.problems.append(
                StorageError(
                    f"no whole copy in {places}",
                    f"{', '.join(map(str, paths[:2]))} ({oid})",
                    "`make repro` makes it again, or `make pull` from a remote with it",
                )
            )
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
        not tell why it failed.) What was there and is kept nowhere else is set aside.
        """
        changed = [out for out in outs if out.cached and not self.is_in_place(out)]
        for out in changed:
            target = self.root / out.path
            if not target.parent.resolve().is_relative_to(self.root.resolve()):
                raise StorageError("a link leads out of the repository", str(out.path))
            with tempfile.TemporaryDirectory(dir=self.scratch) as folder:
                new = Path(folder, "new")
                content = load(self.odb, HashInfo("md5", out.oid))
                checkout(str(new), localfs, content, self.odb)
                if oid_of(new) != out.oid:
                    raise DamagedError("reads back damaged", str(out.path))
                target.parent.mkdir(parents=True, exist_ok=True)
                if self.is_kept(target):
                    shutil.move(target, Path(folder, "old"))
                elif os.path.lexists(target):
                    self.set_aside(target, target.name)
                shutil.move(new, target)
        return len(changed)

    def is_in_place(self, out: Out) -> bool:
        """Compare an output in the workspace with dvc.lock."""
        path = self.root / out.path
        may_link = "symlink" in self.odb.cache_types
        return (may_link or not path.is_symlink()) and oid_of(path) == out.oid

    def is_kept(self, path: Path) -> bool:
        """Return whether the cache or git has all of a file or folder."""
        files = path.rglob("*") if path.is_dir() else [path]
        return not path.is_symlink() and all(
            file.is_dir()
            or (file.is_file() and (self.is_whole(md5(file)) or is_in_git(file)))
            for file in files
        )

    def copy_edited(self, outs: Iterable[Out]) -> list[tuple[Path, Path]]:
        """Copy to the quarantine what a run may overwrite and is kept nowhere else.

        Returns:
            What was copied, and where to.
        """
        return [
            (out.path, self.set_aside(path, path.name, _copy))
            for out in outs
            if (path := self.root / out.path).exists()
            and not self.is_in_place(out)
            and not self.is_kept(path)
        ]

    def set_aside(
        self, path: Path, name: str, take: Callable[..., object] = shutil.move
    ) -> Path:
        """Move, or else copy, a file or folder to the quarantine under a new name."""
        with self._lock:
            self.quarantine.mkdir(parents=True, exist_ok=True)
            number = 1
            while os.path.lexists(place := self.quarantine / f"{name}.{number}"):
                number += 1
            take(path, place)
            self.quarantined += 1
            return place


def is_in_git(path: Path) -> bool:
    """Return whether git has the content of a file."""
    git = ["git", "-C", str(path.parent)]
    found = subprocess.run([*git, "hash-object", path], capture_output=True, text=True)
    known = [*git, "cat-file", "-e", found.stdout.strip()]
    return subprocess.run(known, capture_output=True).returncode == 0


def _copy(path: Path, place: Path) -> None:
    (shutil.copytree if path.is_dir() else shutil.copy2)(path, place)
