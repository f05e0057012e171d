"""The one error that users cause and can mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """A file or a value that a user gave is not usable.

    The message is one line that names what is wrong, the value found and the fix.
    """


def nearest(name: str, known: Iterable[str]) -> str:
    """Return the known name that a mistyped one was meant to be, or the first."""
    known = list(known)
    return get_close_matches(name, known, n=1, cutoff=0)[0] if known else name
