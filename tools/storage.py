"""Push, pull and verify what dvc.lock names, trusting nothing that was not rehashed.

DVC believes that an object is whole because it is there: a flipped byte in the cache or
on the remote passes `dvc pull`, `dvc status` and `dvc repro`. Here every byte is hashed
before it is used. What is damaged is moved to .dvc/cache/quarantine, never deleted.

The objects, the cache and the remote are DVC's own: `dvc pull` reads what this pushes,
and the reverse.
"""

import errno
import hashlib
import io
import json
import logging
import os
import re
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

from dvc.exceptions import DvcException
from dvc.repo import Repo, lock_repo
from dvc_objects.fs.generic import transfer
from dvc_objects.fs.local import localfs
from fsspec import Callback

from warpzone.agents.provenance import listing_of, md5

# A server that is gone or stalls is given up within 15 s. A request is tried twice.
CONNECT_SECONDS = 3
READ_SECONDS = 4
ATTEMPTS = 2
STALL_SECONDS = 9

# Botocore has sent and wanted CRC checksums since 2025, which S3 servers other than
# Amazon's may not know. Nothing is lost: every object is hashed here.
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    # Botocore's own attempts come on top of s3fs's.
    "AWS_MAX_ATTEMPTS": "1",
}

THREADS = 16
DAY = 24 * 60 * 60
OID = re.compile(r"[0-9a-f]{32}(\.dir)?")
SECRETS = ("access_key_id", "secret_access_key", "session_token", "password")


class StorageError(Exception):
    """What went wrong, in one line for the reader."""


class Out(NamedTuple):
    """An output of a stage, as dvc.lock records it."""

    path: Path
    """Relative to the repository."""
    oid: str
    """MD5 of the content; of a folder: of its listing, followed by ``.dir``."""
    cached: bool
    """False if git keeps it."""


def main(words: list[str]) -> None:
    # The libraries below log what they are about to raise.
    logging.disable(logging.CRITICAL)
    try:
        print(run(words))
    except StorageError as error:
        print(f"error: {error}", file=sys.stderr, flush=True)
        # Not waiting for threads that wait for a server.
        os._exit(1)
    except KeyboardInterrupt:
        os._exit(130)


def run(words: list[str]) -> str:
    """Carry out a command in the current repository and say what was done.

    Raises:
        StorageError: What went wrong, in one line that shows no secret.
    """
    arguments = parse_arguments(words)
    for name, value in CHECKSUMS.items():
        os.environ.setdefault(name, value)
    try:
        repo = Repo()
    except Exception as error:
        raise StorageError(first_line(error)) from None
    with repo, one_line_errors(repo), lock_repo(repo):
        return arguments.run(Storage(repo), arguments)


def parse_arguments(words: list[str]) -> Any:
    parser = ArgumentParser(prog="python -m tools.storage", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, action, text in (
        ("push", push, "send what the remote lacks, and read all of it back"),
        ("pull", pull, "fetch what the cache lacks, verify it, then check it out"),
        ("verify", verify, "rehash cache and workspace, and heal what is damaged"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=action)
        if action is verify:
            command.add_argument(
                "--local", action="store_true", help="do not ask the remote"
            )
            continue
        command.add_argument(
            "--experiments",
            metavar="GIT_REMOTE",
            help="also the experiments, whose git refs are on this git remote",
        )
    return parser.parse_args(words)


def push(storage: "Storage", arguments: Any) -> str:
    """Send files first, then listings, then the git refs that lead to them."""
    experiments = storage.experiments() if arguments.experiments else {}
    outs = storage.outs() + storage.outs_of(experiments.values())
    remote = storage.connect()
    oids, _ = storage.complete(outs, remote, wanted_here=False)
    sent = storage.send(oids, remote)
    storage.raise_problems("not pushed")
    if experiments:
        storage.push_refs(arguments.experiments, experiments)
    return (
        f"pushed {sent} of {len(oids)} objects and {len(experiments)} experiments; "
        "all were read back and are whole"
    )


def pull(storage: "Storage", arguments: Any) -> str:
    """Fetch and verify everything before the first file of the workspace changes."""
    remote = storage.connect()
    if arguments.experiments:
        storage.pull_refs(arguments.experiments)
    experiments = storage.experiments() if arguments.experiments else {}
    outs = storage.outs()
    oids, healed = storage.complete(
        outs + storage.outs_of(experiments.values()), remote
    )
    storage.raise_problems("nothing was checked out")
    changed = storage.check_out(outs)
    return (
        f"pulled {healed} of {len(oids)} objects, all are whole; "
        f"checked out {changed} outputs"
    )


def verify(storage: "Storage", arguments: Any) -> str:
    """Compare every byte with dvc.lock."""
    has_remote = bool(storage.repo.config["core"].get("remote"))
    remote = storage.connect() if has_remote and not arguments.local else None
    outs = storage.outs()
    oids, healed = storage.complete(outs, remote)
    # DVC's run cache holds what dvc.lock no longer names, and may bring it back.
    each(storage.is_whole, storage.stored() - set(oids), storage.pulse)
    storage.raise_problems("the rest is whole")
    changed = storage.check_out(outs)
    for out in outs:
        if not out.cached and storage.hash_of(out) != out.oid:
            storage.problems.append(
                f"{out.path} is not what dvc.lock records: git checkout {out.path}, "
                "or dvc repro"
            )
    storage.raise_problems("the rest is whole")
    return (
        f"verified {len(oids)} objects and {len(outs)} outputs: all are whole"
        + (f"; healed {healed} objects" if healed else "")
        + (f"; restored {changed} outputs" if changed else "")
        + (
            f"; {storage.quarantined} set aside in {storage.quarantine}"
            if storage.quarantined
            else ""
        )
    )


class Storage:
    """The cache and the workspace of a repository, and its remote if there is one."""

    def __init__(self, repo: Repo) -> None:
        self.repo = repo
        self.root = Path(repo.root_dir)
        self.cache = repo.cache.local
        self.folder = Path(self.cache.path)
        self.quarantine = self.folder.parents[1] / "quarantine"
        self.quarantined = 0
        self.problems: list[str] = []
        self.pulse = Pulse()
        self._lock = Lock()

    def stored(self) -> set[str]:
        """Return the names of all objects in the cache."""
        return {
            path.parent.name + path.name
            for path in self.folder.glob("[0-9a-f][0-9a-f]/*")
            if OID.fullmatch(path.parent.name + path.name)
        }

    def outs(self) -> list[Out]:
        """Return the outputs that dvc.lock records.

        Raises:
            StorageError: If a path leads out of the repository or a hash is none.
        """
        outs = []
        for out in self.repo.index.outs:
            oid = out.hash_info.value if out.hash_info else None
            if oid is None:
                continue
            path = Path(os.path.relpath(out.fs_path, self.repo.root_dir))
            if out.protocol != "local" or path.is_absolute() or ".." in path.parts:
                raise StorageError(f"dvc.lock: {path} is outside of the repository")
            if not OID.fullmatch(oid):
                raise StorageError(f"dvc.lock: {path} has the hash {oid!r}, not an MD5")
            outs.append(Out(path, oid, out.use_cache))
        return outs

    def outs_of(self, revisions: Iterable[str]) -> list[Out]:
        """Return the outputs that commits record."""
        revisions = list(revisions)
        if not revisions:
            return []
        branches = self.repo.brancher(revs=revisions, workspace=False)
        return [out for _ in branches for out in self.outs()]

    def experiments(self) -> dict[str, str]:
        """Return the commit of every experiment here, by name."""
        listed = self.repo.experiments.ls(all_commits=True)
        return {name: rev for found in listed.values() for name, rev in found}

    def connect(self) -> Any:
        """Return the remote's objects after a first question to it."""
        name = self.repo.config["core"].get("remote")
        remote = self.repo.config["remote"].get(name) if name else None
        if remote is None:
            raise StorageError(
                "no remote is set: `make s3` starts one on this machine, README.md "
                "says how to set another"
            )
        if remote["url"].startswith("s3://"):
            from s3fs import S3FileSystem

            S3FileSystem.retries = ATTEMPTS
            remote.setdefault("connect_timeout", CONNECT_SECONDS)
            remote.setdefault("read_timeout", READ_SECONDS)
        store = self.repo.cloud.get_remote_odb(name)
        # A bucket that is not there and one that is empty look alike from below.
        files: Any = store.fs.fs
        if store.fs.protocol == "s3":
            bucket = store.path.strip("/").split("/")[0]
            try:
                files.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)
            except FileNotFoundError:
                raise StorageError(
                    f"remote {name!r}: there is no bucket {bucket!r}: create it first"
                ) from None
        return store

    def complete(
        self, outs: list[Out], remote: Any, wanted_here: bool = True
    ) -> tuple[list[str], int]:
        """Rehash the objects of outputs in the cache, and heal what is not whole.

        From the workspace if it is there, else from the remote. What cannot be healed
        is added to the problems.

        Args:
            outs: The outputs.
            remote: Where to look for what the cache lacks, or None.
            wanted_here: False if an object may be missing here when the remote has it.

        Returns:
            The names of all objects, listings last, and how many were healed.
        """
        paths = {out.oid: [out.path] for out in outs if out.cached}
        for out in outs:
            if out.cached and out.path not in paths[out.oid]:
                paths[out.oid].append(out.path)
        listings = [oid for oid in paths if oid.endswith(".dir")]
        healed = self.make_whole({oid: paths[oid] for oid in listings}, remote)
        files = {oid: paths[oid] for oid in paths.keys() - set(listings)}
        for oid in listings:
            if not (self.object(oid)).is_file():
                continue
            for name, member in self.listing(oid).items():
                places = files.setdefault(member, [])
                places += [path / name for path in paths[oid]]
        healed += self.make_whole(files, remote, wanted_here)
        return [*sorted(files), *listings], healed

    def make_whole(
        self, paths: dict[str, list[Path]], remote: Any, wanted_here: bool = True
    ) -> int:
        """Rehash objects and heal those that are not whole; return how many were.

        Args:
            paths: The objects, and where in the workspace each belongs.
            remote: As for `complete`.
            wanted_here: As for `complete`.
        """

        def heal(oid: str) -> int:
            if self.is_whole(oid):
                return 0
            if any(self.adopt(path, oid) for path in paths[oid]):
                return 1
            if remote is None or (wanted_here and not self.fetch(oid, remote)):
                where = "here" if remote is None else "here nor on the remote"
                places = ", ".join(map(str, paths[oid][:2]))
                self.problems.append(f"{places} ({oid}) is whole neither {where}")
                return 0
            return int(wanted_here)

        return sum(each(heal, paths, self.pulse))

    def is_whole(self, oid: str) -> bool:
        """Rehash an object of the cache, and set it aside if it is damaged."""
        path = self.object(oid)
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
            content = listing_of(source) if source.is_dir() else None
            if content is None or hashlib.md5(content).hexdigest() != oid[:32]:
                return False
            with self.incoming(oid) as beside:
                beside.write_bytes(content)
            return True
        if not source.is_file() or md5(source) != oid:
            return False
        with self.incoming(oid) as beside:
            shutil.copyfile(source, beside)
        return True

    def fetch(self, oid: str, remote: Any) -> bool:
        """Fetch an object to the cache unless it is missing or damaged."""
        with suppress(FileNotFoundError, DamagedError), self.incoming(oid) as beside:
            self.get(oid, remote, beside)
            return True
        return False

    def get(self, oid: str, remote: Any, path: Path) -> None:
        source = remote.oid_to_path(oid)
        try:
            remote.fs.get_file(source, str(path), callback=self.pulse)
        except OSError as error:
            # The object ends before the server says: the rest was asked for, too.
            if "InvalidRange" in str(error):
                raise DamagedError(oid) from None
            raise

    def put(self, oid: str, remote: Any) -> None:
        target = remote.oid_to_path(oid)
        if remote.fs.protocol == "s3":
            bucket, key = target.strip("/").split("/", 1)
            with Watched(self.object(oid), self.pulse) as file:
                remote.fs.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=file)
        else:
            remote.fs.put_file(str(self.object(oid)), target, callback=self.pulse)

    def send(self, oids: list[str], remote: Any) -> int:
        """Send what the remote lacks or has damaged; return how many were sent."""

        def is_there(oid: str) -> bool:
            with tempfile.TemporaryDirectory(dir=self.scratch()) as folder:
                copy = Path(folder, "object")
                with suppress(FileNotFoundError, DamagedError):
                    self.get(oid, remote, copy)
                return copy.is_file() and md5(copy) == oid[:32]

        def send(oid: str) -> int:
            if is_there(oid):
                return 0
            if not self.object(oid).is_file():
                self.problems.append(f"{oid} is whole neither here nor on the remote")
                return 0
            self.put(oid, remote)
            if not is_there(oid):
                self.problems.append(f"{oid} came back from the remote damaged")
            return 1

        # A listing says that its files are there, so it comes after them.
        sent = 0
        for late in (False, True):
            if not self.problems:
                now = [oid for oid in oids if oid.endswith(".dir") is late]
                sent += sum(each(send, now, self.pulse))
        return sent

    def check_out(self, outs: list[Out]) -> int:
        """Make the workspace what dvc.lock says; return how many outputs changed.

        Each output is built beside its place and renamed. (DVC changes it in place, and
        removes it when that fails.) Whatever was there and is not in the cache is set
        aside.
        """
        changed = 0
        for out in outs:
            if not out.cached or self.hash_of(out) == out.oid:
                continue
            target = self.root / out.path
            if not target.parent.resolve().is_relative_to(self.root.resolve()):
                raise StorageError(f"{out.path}: a link leads out of the repository")
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(
                dir=target.parent, prefix=f".{target.name}."
            ) as beside:
                new = Path(beside, "new")
                self.build(out, new)
                if os.path.lexists(target):
                    self.retire(target, Path(beside, "old"))
                new.replace(target)
            changed += 1
        return changed

    def build(self, out: Out, new: Path) -> None:
        """Write an output from the cache, and read it back."""
        members = self.listing(out.oid) if out.oid.endswith(".dir") else None
        paths = {new / name: oid for name, oid in (members or {}).items()}
        if members is None:
            paths = {new: out.oid}
        else:
            new.mkdir()
        for path, oid in paths.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            links = list(self.cache.cache_types)
            transfer(localfs, str(self.object(oid)), localfs, str(path), links=links)
            if md5(path) != oid:
                raise StorageError(f"{out.path}: was written and reads back damaged")

    def retire(self, target: Path, old: Path) -> None:
        """Take an output from its place; set it aside unless the cache has it all."""
        files = [target] if target.is_file() else sorted(target.rglob("*"))
        known = all(
            path.is_dir() or (path.is_file() and self.is_whole(md5(path)))
            for path in files
        )
        if known and not target.is_symlink():
            target.replace(old)
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

    def hash_of(self, out: Out) -> str | None:
        """Hash an output in the workspace, or return None if it is not there."""
        path = self.root / out.path
        if path.is_symlink() and "symlink" not in self.cache.cache_types:
            return None
        if path.is_dir():
            return hashlib.md5(listing_of(path)).hexdigest() + ".dir"
        return md5(path) if path.is_file() else None

    def listing(self, oid: str) -> dict[str, str]:
        """Read a listing of the cache: object names by path.

        Raises:
            StorageError: If it could write outside of its folder.
        """
        return parse_listing(self.object(oid).read_bytes(), oid)

    def object(self, oid: str) -> Path:
        """Return where the cache keeps an object."""
        return Path(self.cache.oid_to_path(oid))

    def scratch(self) -> Path:
        """Return a folder beside the objects, from which files can be renamed."""
        folder = self.folder.parent / "incoming"
        folder.mkdir(parents=True, exist_ok=True)
        for left in folder.iterdir():
            # Of a pull that was killed.
            with suppress(FileNotFoundError):
                if time.time() - left.stat().st_mtime > DAY:
                    shutil.rmtree(left, ignore_errors=True)
        return folder

    @contextmanager
    def incoming(self, oid: str) -> Iterator[Path]:
        """Lend a path, and move what is written there to the cache if it is whole.

        Raises:
            DamagedError: If it is not.
        """
        with tempfile.TemporaryDirectory(dir=self.scratch()) as folder:
            beside = Path(folder, oid)
            yield beside
            if md5(beside) != oid[:32]:
                raise DamagedError(oid)
            target = self.object(oid)
            target.parent.mkdir(parents=True, exist_ok=True)
            beside.chmod(self.cache.CACHE_MODE)
            beside.replace(target)

    def push_refs(self, git_remote: str, experiments: dict[str, str]) -> None:
        """Push the git refs of experiments, and see that they arrived."""
        names = list(experiments)
        self.repo.experiments.push(git_remote, names, force=True, push_cache=False)
        listed = self.repo.experiments.ls(all_commits=True, git_remote=git_remote)
        arrived = {name for found in listed.values() for name, _ in found}
        if missing := sorted(set(names) - arrived):
            raise StorageError(f"experiments {missing} did not arrive at {git_remote}")

    def pull_refs(self, git_remote: str) -> None:
        """Fetch the git refs of all experiments."""
        self.repo.experiments.pull(git_remote, all_commits=True, pull_cache=False)

    def raise_problems(self, result: str) -> None:
        """Fail with the first problem and how many there are."""
        if self.problems:
            more = len(self.problems) - 1
            first = sorted(self.problems)[0]
            others = f", and {more} more" if more else ""
            raise StorageError(f"{first}{others}: {result}")


class DamagedError(Exception):
    """An object is not what its name says."""


class Pulse(Callback):
    """When bytes last moved, in either direction."""

    def __init__(self) -> None:
        super().__init__()
        self.last = time.monotonic()

    def relative_update(self, inc: int = 1) -> None:
        self.last = time.monotonic()


class Watched(io.FileIO):
    """A file that is being sent: whoever reads it moves bytes."""

    def __init__(self, path: Path, pulse: Pulse) -> None:
        super().__init__(path)
        self.pulse = pulse

    def read(self, size: int | None = -1, /) -> bytes:
        self.pulse.relative_update()
        return super().read(-1 if size is None else size)


def each[T](action: Callable[[str], T], oids: Iterable[str], pulse: Pulse) -> list[T]:
    """Do something for each object on threads; the first error ends it.

    Raises:
        TimeoutError: Nothing has moved for `STALL_SECONDS`. (The time-outs of the HTTP
            client do not run while it sends, nor while it waits to be allowed to.)
    """
    pulse.relative_update()
    pool = ThreadPoolExecutor(THREADS)
    waiting = {pool.submit(action, oid) for oid in oids}
    results: list[T] = []
    try:
        while waiting:
            done, waiting = wait(waiting, 0.5, FIRST_COMPLETED)
            for future in done:
                results.append(future.result())
                pulse.relative_update()
            if time.monotonic() - pulse.last > STALL_SECONDS:
                raise TimeoutError
    finally:
        # Not waiting for what hangs.
        pool.shutdown(wait=not waiting, cancel_futures=True)
    return results


def parse_listing(content: bytes, oid: str) -> dict[str, str]:
    """Read a listing: object names by path, relative to the folder.

    A listing comes from the remote, and its hash from whoever wrote dvc.lock.

    Raises:
        StorageError: If a path is absolute, leads out of the folder, or comes twice, or
            if it is no listing.
    """

    def refuse(reason: str) -> StorageError:
        return StorageError(f"listing {oid}: {reason}")

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


@contextmanager
def one_line_errors(repo: Repo) -> Iterator[None]:
    """Turn what libraries raise into one line that shows no secret."""
    try:
        yield
    except StorageError:
        raise
    except Exception as error:
        raise StorageError(redact(explain(error, repo), repo)) from None


def explain(error: BaseException, repo: Repo) -> str:
    """Say in one line what an error means for the reader."""
    name = repo.config["core"].get("remote")
    kind = type(error).__name__
    text = f"{kind} {error}"
    if (
        isinstance(error, OSError)
        and errno.errorcode.get(error.errno or 0) == "EREMOTEIO"
    ):
        return f"remote {name!r}: the server failed: {error.strerror}"
    if isinstance(error, OSError) and error.errno and error.filename:
        return f"{error.strerror}: {error.filename}"
    if kind in ("NoCredentialsError", "PartialCredentialsError"):
        return (
            f"remote {name!r}: no credentials: set AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or put them into .dvc/config.local"
        )
    if isinstance(error, PermissionError) or re.search(
        r"AccessDenied|InvalidAccessKeyId|SignatureDoesNotMatch|Forbidden|\b40[13]\b",
        text,
    ):
        return (
            f"remote {name!r}: the server refuses these credentials: check "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or .dvc/config.local"
        )
    if isinstance(error, TimeoutError | ConnectionError) or re.search(
        r"Timeout|EndpointConnection|ConnectionClosed|ClientPayload|IncompleteRead"
        r"|HTTPClient|Connect call failed|ServerDisconnected",
        text,
    ):
        return (
            f"remote {name!r}: the server does not answer: is it running, and is the "
            "endpointurl right? What had arrived is kept; the same command goes on"
        )
    if isinstance(error, DvcException):
        return first_line(error)
    return f"{kind}: {first_line(error)}"


def first_line(error: BaseException) -> str:
    """Return what an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def redact(text: str, repo: Repo) -> str:
    """Blank out every secret that is configured."""
    secrets = {os.environ.get(name) for name in os.environ if name.startswith("AWS_S")}
    for remote in repo.config["remote"].values():
        secrets |= {remote.get(key) for key in SECRETS}
    for secret in secrets:
        if secret and len(secret) >= 4:
            text = text.replace(secret, "***")
    return text


if __name__ == "__main__":
    main(sys.argv[1:])
