"""What can go wrong with the storage, put into words in one place.

What the libraries raise is told apart by its type, its errno and the code that the
server answered, never by its text.
"""

import errno
import os
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dvc.exceptions import DvcException

from warpzone.core.errors import InputError

SECRETS = ("access_key_id", "secret_access_key", "session_token", "password")

KEYS = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or .dvc/config.local"
AGAIN = "What has arrived is kept; the same command resumes"
SLOW = (
    "is it running, and is the endpointurl right? A slow one gets more seconds with "
    "`dvc remote modify --local {name} read_timeout 60` (or connect_timeout). " + AGAIN
)
REFUSED = "the server refuses these credentials"
EXPIRED = (
    "the server refuses the session token",
    "get a new one for AWS_SESSION_TOKEN, or session_token in .dvc/config.local",
)
FULL = "the storage is full", f"make room there, or raise its quota. {AGAIN}"
REGION = (
    "the bucket is in another region",
    "dvc remote modify --local {name} region REGION",
)
BUSY = (
    "the server has too many requests",
    "run it again later, or `dvc remote modify --local {name} jobs 4`. " + AGAIN,
)
ANSWERS = {
    "RequestTimeTooSkewed": ("the server refuses this machine's time", "set the clock"),
    "InvalidAccessKeyId": (REFUSED, f"check the key: {KEYS}"),
    "SignatureDoesNotMatch": (REFUSED, f"check the secret: {KEYS}"),
    "AccessDenied": (
        "the server does not allow this with these credentials",
        "they need ListBucket, GetObject and PutObject for {url}, or others: " + KEYS,
    ),
    "NoSuchBucket": ("there is no such bucket", "create it, or correct {url}"),
    **dict.fromkeys(("ExpiredToken", "InvalidToken", "TokenRefreshRequired"), EXPIRED),
    **dict.fromkeys(("AuthorizationHeaderMalformed", "PermanentRedirect", 301), REGION),
    **dict.fromkeys((401, 403), (REFUSED, f"check {KEYS}")),
    **dict.fromkeys((500, 502, 504), ("the server failed", f"try later. {AGAIN}")),
    **dict.fromkeys(("SlowDown", "TooManyRequests", 429, 503), BUSY),
    **dict.fromkeys(("QuotaExceeded", "XMinioAdminBucketQuotaExceeded", 507), FULL),
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


def raise_first(errors: list[StorageError], result: str) -> None:
    """Raise the first error, if any; it says how many there are and what came of it."""
    if errors:
        first = min(errors, key=str)
        count = f" (1 of {len(errors)} errors)" if len(errors) > 1 else ""
        first.reason += f"{count}; {result}"
        raise first


def explain(error: BaseException, config: Mapping[str, Any]) -> StorageError:
    """Return what a library raised as an error in one line that shows no secret.

    Args:
        error: What was raised.
        config: DVC's configuration.
    """
    name, remotes = config.get("core", {}).get("remote"), config.get("remote", {})
    found = _typed(error, name, remotes.get(name, {}).get("url"))
    secrets = {value for key, value in os.environ.items() if key.startswith("AWS_S")}
    secrets |= {str(one.get(key, "")) for one in remotes.values() for key in SECRETS}
    for secret in secrets:
        if len(secret) >= 4:
            found.reason = found.reason.replace(secret, "***")
    return found


def _typed(error: BaseException, name: str, url: str) -> StorageError:
    from aiohttp import ClientError as HTTPError
    from botocore import exceptions as boto

    def of_remote(reason: str, hint: str) -> StorageError:
        return StorageError(reason, f"remote {name!r}", hint.format(name=name, url=url))

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
                return of_remote(f"{reason} ({code}: {said.get('Message', '')})", hint)
            case InputError() | DvcException():
                return StorageError(str(cause) or type(cause).__name__)
            case boto.NoCredentialsError() | boto.PartialCredentialsError():
                return of_remote("no credentials", f"set {KEYS}")
            case (
                TimeoutError()
                | ConnectionError()
                | boto.ConnectionError()
                | boto.HTTPClientError()
                | boto.IncompleteReadError()
                | HTTPError()
            ):
                reason = f"the server does not answer ({type(cause).__name__})"
                return of_remote(reason, SLOW)
            case OSError(errno=int(number), strerror=text, filename=name):
                full = number in (errno.ENOSPC, errno.EDQUOT)
                path = os.fsdecode(name) if isinstance(name, str | bytes) else ""
                hint = "make room, then run it again" if full else ""
                return StorageError(f"{text}", path, hint)
            case sqlite3.Error():
                reason = f"DVC's database of hashes: {cause}"
                return StorageError(reason, hint="is its disk full or read-only?")
    return StorageError(f"{type(error).__name__}: {error}")
