"""The one error that users cause and can mend."""


class InputError(ValueError):
    """A file or a value that a user gave is not usable.

    The message is one line that names what is wrong, the value found and the fix.
    """
