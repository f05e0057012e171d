"""The one error that users cause and can mend."""


class InputError(ValueError):
    """A file or a value that a user gave is not usable.

    The message is one line that names what is wrong, the value found and the fix.
    """

    def __str__(self) -> str:
        return shown(super().__str__())


def shown(text: object) -> str:
    """Return a text in one line that does nothing to a terminal.

    Line ends, escape sequences and what else cannot be printed are shown escaped.
    """
    escaped = (c if c.isprintable() else ascii(c)[1:-1] for c in str(text))
    return "".join(escaped)
