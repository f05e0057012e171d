"""Reading files with one-line errors, and writing them whole or not at all.

Equal content gives equal bytes.
"""

import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd

from warpzone.core.errors import InputError


def one_line(error: Exception) -> str:
    """Return what an error says, without its line breaks."""
    return " ".join(str(error).split())


def read_bytes(path: Path) -> bytes:
    """Read a file.

    Raises:
        InputError: With the file and the reason.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """Read UTF-8, as `read_bytes`."""
    try:
        return read_bytes(path).decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write beside the file, then rename, so that a crash leaves the old one whole.

    Raises:
        OSError: With the name of a file, which those of a full disk lack.
    """
    beside = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with the line ends that ``text`` has."""
    write_bytes(path, text.encode())


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write each item and a newline."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def write_json(path: Path, document: Any) -> None:
    """Write JSON with sorted keys.

    Raises:
        ValueError: If a number is not finite, which JSON cannot say.
    """
    text = json.dumps(document, sort_keys=True, indent=2, allow_nan=False)
    write_text(path, f"{text}\n")


def write_csv(path: Path, table: pd.DataFrame) -> None:
    """Write a table without its index, numbers with at most six significant digits."""
    text = table.to_csv(index=False, lineterminator="\n", float_format="%.6g")
    write_text(path, text)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep every other process out of what ``path`` stands for.

    The system lets go of the lock when the process ends, however it ends. The file
    stays: whoever removed it could let two processes in.

    Raises:
        InputError: Another process holds the lock; the message names its pid.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another"
            raise InputError(
                f"{path}: process {holder} is at work here: wait for it or end it"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
