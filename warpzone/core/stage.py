"""What every stage script does first and last: read arguments, report bad input."""

import os
import signal
import sys
import threading
import time
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import psutil

from warpzone.core.errors import InputError
from warpzone.core.files import write_json

COSTS = Path("metrics/costs")
"""One file a stage; git keeps them, DVC does not know them."""

_SECONDS_BETWEEN_LOOKS = 0.2


def argument_parser(docstring: str | None) -> ArgumentParser:
    """Return a parser whose help is the script's docstring."""
    return ArgumentParser(
        description=docstring, formatter_class=RawDescriptionHelpFormatter
    )


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage. Bad input or a full disk ends it with one line and exit code 1."""
    # Set by who runs the pipeline. A stage that a person runs may outlive the terminal.
    stage = os.environ.get("DVC_STAGE")
    if stage is not None:
        _end_with(_runners())
    try:
        main()
        if stage is not None:
            _write_cost(stage)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # Without a file it comes from deep inside, and its traceback is needed.
        if error.filename is None and error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _write_cost(stage: str) -> None:
    """Note what a stage took, which no output may hold: it is never the same.

    Of a stage that was killed and went on, only the last part.
    """
    write_json(
        COSTS / f"{stage.replace(':', '-')}.json",
        {
            "cpu_seconds": round(time.process_time(), 1),
            "seconds": round(time.time() - psutil.Process().create_time(), 1),
            "cores": os.process_cpu_count(),
        },
    )


def _runners() -> list[psutil.Process]:
    """Return the shell that runs this process, if any, and what runs the shell.

    A shell may replace itself by its last command, or stay and wait for it.
    """
    runners = []
    for process in psutil.Process().parents():
        runners.append(process)
        if "-c" not in process.cmdline()[1:4]:
            break
    return runners


def _end_with(runners: list[psutil.Process]) -> None:
    """End this process as soon as one of those above it has ended, however it did.

    Otherwise a pipeline that is killed would leave its trainer behind, and the next run
    would start a second one.
    """
    chain = [psutil.Process(), *runners]

    def are_alive() -> bool:
        # Whoever loses its parent gets another one. The parent may live on as a zombie.
        try:
            return all(one.ppid() == parent.pid for one, parent in pairwise(chain))
        except psutil.NoSuchProcess:
            return False

    def end() -> None:
        # At once: Python would wait for threads that are emulating. Files are written
        # beside and renamed, so they stay whole.
        os.kill(os.getpid(), signal.SIGKILL)

    def watch() -> None:
        while are_alive():
            time.sleep(_SECONDS_BETWEEN_LOOKS)
        end()

    # It ended before we could look, and the parent is one that takes in orphans.
    if os.getsid(chain[-1].pid) != os.getsid(0):
        end()
    threading.Thread(target=watch, name="watch of the pipeline", daemon=True).start()
