"""The remote: send and fetch objects, and give up a server that stalls."""

import io
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dvc.repo import Repo
from fsspec import Callback

from tools.storage.errors import DamagedError, StorageError
from tools.storage.listing import md5

# A server that is gone or stalls is given up within 15 s, unless the remote's
# configuration says more. A request is tried twice.
SECONDS = {"connect_timeout": 3, "read_timeout": 4}
ATTEMPTS = 2

# Botocore has sent and wanted CRC checksums since 2025, which S3 servers other than
# Amazon's may not know. Nothing is lost: every object is hashed here.
CHECKSUMS = {
    "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
    "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    # Botocore's own attempts come on top of s3fs's.
    "AWS_MAX_ATTEMPTS": "1",
}

THREADS = 16


class Watch(Callback):
    """Notice that transfers are under way and no byte moves.

    The time-outs of the HTTP client do not run while it sends, nor while it waits to be
    allowed to.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds
        self.last = 0.0
        self.under_way: list[None] = []

    def relative_update(self, inc: int = 1) -> None:
        self.last = time.monotonic()

    @contextmanager
    def transfer(self) -> Iterator[None]:
        self.relative_update()
        self.under_way.append(None)
        try:
            yield
        finally:
            self.under_way.pop()
            self.relative_update()

    def check(self) -> None:
        """Raise TimeoutError if nothing has moved for too long."""
        if self.under_way and time.monotonic() - self.last > self.seconds:
            raise TimeoutError


class Sent(io.FileIO):
    """A file that is being sent: whoever reads it moves bytes."""

    def __init__(self, path: Path, watch: Watch) -> None:
        super().__init__(path)
        self.watch = watch

    def read(self, size: int | None = -1, /) -> bytes:
        self.watch.relative_update()
        return super().read(-1 if size is None else size)


class Remote:
    """The objects on DVC's default remote."""

    def __init__(self, repo: Repo) -> None:
        """Ask the remote a first question: what is wrong with all of it is told once.

        Raises:
            StorageError: No remote is set.
        """
        name = repo.config["core"].get("remote")
        config = repo.config["remote"].get(name) if name else None
        if config is None:
            hint = "`make s3` starts one on this machine, README.md says how to set one"
            raise StorageError("no remote is set", hint=hint)
        os.environ.update(CHECKSUMS | os.environ)
        patience = {key: max(SECONDS[key], config.get(key, 0)) for key in SECONDS}
        self.watch = Watch(ATTEMPTS * max(patience.values()) + 1)
        self.threads = config.get("jobs", THREADS)
        if config["url"].startswith("s3://"):
            from s3fs import S3FileSystem

            S3FileSystem.retries = ATTEMPTS
            config.update(patience)
        self.odb = repo.cloud.get_remote_odb(name)
        self.files: Any = self.odb.fs
        # A bucket that is not there and one that is empty look alike later on.
        if self.files.protocol == "s3":
            bucket = self.odb.path.strip("/").split("/")[0]
            self.files.fs.call_s3("list_objects_v2", Bucket=bucket, MaxKeys=1)

    def get(self, oid: str, path: Path) -> None:
        """Fetch an object as it is there.

        Raises:
            FileNotFoundError: The remote does not have it.
            DamagedError: It is shorter than the server says.
        """
        try:
            with self.watch.transfer():
                source = self.odb.oid_to_path(oid)
                self.files.get_file(source, str(path), callback=self.watch)
        except OSError as error:
            # The rest was asked for, too.
            response = getattr(error.__cause__, "response", {})
            if response.get("Error", {}).get("Code") == "InvalidRange":
                raise DamagedError("is cut on the remote", oid) from None
            raise

    def has(self, oid: str, scratch: Path) -> bool:
        """Fetch and rehash an object."""
        with tempfile.TemporaryDirectory(dir=scratch) as folder:
            copy = Path(folder, "object")
            with suppress(FileNotFoundError, DamagedError):
                self.get(oid, copy)
            return copy.is_file() and md5(copy) == oid[:32]

    def put(self, oid: str, path: Path) -> None:
        """Send an object."""
        target = self.odb.oid_to_path(oid)
        with self.watch.transfer():
            if self.files.protocol != "s3":
                self.files.put_file(str(path), target, callback=self.watch)
                return
            bucket, key = target.strip("/").split("/", 1)
            with Sent(path, self.watch) as file:
                self.files.fs.call_s3("put_object", Bucket=bucket, Key=key, Body=file)

    def send(self, paths: dict[str, Path], scratch: Path) -> int:
        """Send what the remote lacks or has damaged; return how many were sent.

        Args:
            paths: The objects, each where it is whole.
            scratch: A folder to read them back to.

        Raises:
            DamagedError: What was sent came back damaged.
        """

        def send(oid: str) -> int:
            if self.has(oid, scratch):
                return 0
            self.put(oid, paths[oid])
            if not self.has(oid, scratch):
                raise DamagedError("came back from the remote damaged", oid)
            return 1

        # A listing says that its files are there, so it comes after them.
        listings = [oid for oid in paths if oid.endswith(".dir")]
        files = paths.keys() - set(listings)
        return sum(each(send, files, self)) + sum(each(send, listings, self))


def each[T](
    action: Callable[[str], T], oids: Iterable[str], remote: Remote | None = None
) -> list[T]:
    """Do something for each object on threads; the first error ends it.

    Raises:
        TimeoutError: The remote stalls.
    """
    pool = ThreadPoolExecutor(remote.threads if remote else THREADS)
    waiting = {pool.submit(action, oid) for oid in oids}
    results: list[T] = []
    try:
        while waiting:
            done, waiting = wait(waiting, 0.5, FIRST_COMPLETED)
            results += [future.result() for future in done]
            if remote:
                remote.watch.check()
    finally:
        # Not waiting for what hangs.
        pool.shutdown(wait=not waiting, cancel_futures=True)
    return results
