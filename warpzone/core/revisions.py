"""Files of another revision of the repository: of a commit, a branch, an experiment."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.core.files import one_line, write_bytes


def checkout(
    rev: str, paths: Iterable[Path], folder: Path, optional: Iterable[Path] = ()
) -> None:
    """Copy files of a revision into a folder, where they keep their paths.

    Those that DVC tracks come from its cache, or from the remote if they are not there.

    Args:
        rev: A commit, branch, tag, or the name of an experiment.
        paths: Files, relative to the root of the repository.
        folder: Where to. The working tree stays as it is.
        optional: More files, which the revision may lack.

    Raises:
        InputError: In one line, if there is no such revision or it lacks a file.
    """
    # It takes a second, and only who looks into a revision needs it.
    from dvc.api import DVCFileSystem
    from dvc.exceptions import DvcException

    path = Path()

    def copy(path: Path) -> None:
        content = files.read_bytes(path.as_posix())
        assert isinstance(content, bytes)
        write_bytes(folder / path, content)

    try:
        files = DVCFileSystem(rev=rev)
        for path in paths:
            copy(path)
        for path in optional:
            with suppress(FileNotFoundError):
                copy(path)
    except FileNotFoundError as error:
        raise InputError(
            f"{rev}: {path} is neither in git there nor in DVC's cache or remote"
        ) from error
    except (DvcException, OSError) as error:
        raise InputError(f"{rev}: {one_line(error)}") from error


@contextmanager
def reading(rev: str, folder: Path) -> Iterator[None]:
    """Have errors about files that `checkout` copied into a folder name the revision.

    Raises:
        InputError: With the revision, and the path there.
    """
    try:
        yield
    except InputError as error:
        told = str(error).replace(f"{folder.as_posix()}/", "")
        raise InputError(f"{rev}: {told}") from error


def commit_of(rev: str) -> str:
    """Return the hash of a revision's commit.

    Raises:
        InputError: If there is no such revision.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo
    from dvc.scm import resolve_rev

    try:
        with Repo() as repo:
            return resolve_rev(repo.scm, rev)
    except DvcException as error:
        raise InputError(f"{rev}: {one_line(error)}") from error
