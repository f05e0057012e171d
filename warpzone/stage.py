"""What every stage script does first and last: read arguments, report bad input."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable

from warpzone.errors import InputError


def argument_parser(docstring: str | None) -> ArgumentParser:
    """Return a parser whose help is the script's docstring."""
    return ArgumentParser(
        description=docstring, formatter_class=RawDescriptionHelpFormatter
    )


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage. Bad input ends it with one line and exit code 1."""
    try:
        main()
    except InputError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
