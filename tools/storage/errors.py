"""What can go wrong with the storage: typed, and put into words in one place.

What the libraries raise is told apart by its type, its errno and the code that the
server answered, never by its text.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvc.exceptions import DvcException

SECRETS = ("access_key_id", "secret_access_key", "session_token", "password")

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or .dvc/config.local"
NO_ANSWER = (
    "is it running, and is the endpointurl right? A slow one gets more seconds with "
    "`dvc remote modify --local NAME read_timeout 60`. What has arrived is kept; the "
    "same command resumes"
)
REFUSED = "the server refuses these credentials", f"check {KEYS}"
EXPIRED = (
    "the server refuses the session token",
    "get a new one for AWS_SESSION_TOKEN, or session_token in .dvc/config.local",
)
FAILED = "the server failed", "run it again later: what has arrived is kept"
ANSWERS = {
    "RequestTimeTooSkewed": ("the server refuses this machine's time", "set the clock"),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys((401, 403), REFUSED),
    **dict.fromkeys(("SlowDown", 500, 502, 503, 504), FAILED),
}
"""Reason and hint by the code, or else the status, that an S3 server answers."""


@dataclass(eq=False)
class StorageError(Exception):
    """Something failed. `__str__`, and nothing else, puts it into words."""

    reason: str
    path: str = ""
    """The file, object or remote that it is about."""
    hint: str = ""
    """What to do."""
    op: str = ""
    """The command."""

    def __str__(self) -> str:
        parts = (self.op, self.path, self.reason, self.hint)
        line = " ".join(": ".join(part for part in parts if part).split())
        return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in line)


class DamagedError(StorageError):
    """An object or an output is not what its name says."""


class MissingError(StorageError):
    """There is no whole copy of an object."""

    def __init__(self, path: str, *, has_remote: bool) -> None:
        if has_remote:
            reason = "neither the cache, the workspace nor the remote has a whole copy"
            hint = "run `make repro` to make it again, or push it from a clone with it"
        else:
            reason = "neither the cache nor the workspace has a whole copy"
            hint = "run `make repro` to make it again, or set a remote and `make pull`"
        super().__init__(reason, path, hint)


class UnsafeError(StorageError):
    """A name in dvc.lock or in a listing could lead out of the repository."""


class RemoteError(StorageError):
    """The remote is not set, does not answer, or refuses."""


def raise_first(errors: list[StorageError], result: str) -> None:
    """Raise the first error if there is one; it says how many there are, and more.

    Args:
        errors: What went wrong.
        result: What came of it.
    """
    if errors:
        first = min(errors, key=str)
        count = f" (1 of {len(errors)} errors)" if len(errors) > 1 else ""
        first.reason += f"{count}; {result}"
        raise first


def explain(error: BaseException, config: Mapping[str, Any]) -> StorageError:
    """Return what a library raised as a typed error that shows no secret.

    Args:
        error: What was raised.
        config: DVC's configuration.
    """
    found = _typed(error, f"remote {config.get('core', {}).get('remote')!r}")
    secrets = {value for name, value in os.environ.items() if name.startswith("AWS_S")}
    for remote in config.get("remote", {}).values():
        secrets |= {str(remote.get(key, "")) for key in SECRETS}
    for secret in secrets:
        if len(secret) >= 4:
            found.reason = found.reason.replace(secret, "***")
    return found


def _typed(error: BaseException, remote: str) -> StorageError:
    from aiohttp import ClientError as HTTPError
    from botocore import exceptions as boto

    causes = [error]
    while cause := causes[-1].__cause__:
        causes.append(cause)
    # s3fs wraps what the server answered in errors that say less.
    causes.sort(key=lambda cause: not isinstance(cause, boto.ClientError))
    for cause in causes:
        match cause:
            case StorageError():
                return cause
            case boto.ClientError(response={"Error": said, "ResponseMetadata": meta}):
                code, status = said.get("Code", ""), meta.get("HTTPStatusCode")
                refused = ("the server refuses the request", "")
                reason, hint = ANSWERS.get(code) or ANSWERS.get(status) or refused
                reason += f" ({code}: {said.get('Message', '')})"
                return RemoteError(reason, remote, hint)
            case DvcException():
                return StorageError(str(cause) or type(cause).__name__)
            case boto.NoCredentialsError() | boto.PartialCredentialsError():
                return RemoteError("no credentials", remote, f"set {KEYS}")
            case (
                TimeoutError()
                | ConnectionError()
                | boto.ConnectionError()
                | boto.HTTPClientError()
                | boto.IncompleteReadError()
                | HTTPError()
            ):
                reason = f"the server does not answer ({type(cause).__name__})"
                return RemoteError(reason, remote, NO_ANSWER)
            case OSError(errno=int(number), strerror=text, filename=name):
                hint = "make room, then run it again" if number == errno.ENOSPC else ""
                path = os.fsdecode(name) if isinstance(name, str | bytes) else ""
                return StorageError(f"{text}", path, hint)
    return StorageError(f"{type(error).__name__}: {error}")
