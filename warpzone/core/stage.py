"""What every stage script does first and last: read arguments, report bad input."""

import os
import platform
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import psutil

from warpzone.core.errors import InputError
from warpzone.core.files import write_json
from warpzone.core.params import Params, load_params
from warpzone.core.seeds import SEEDS

PARAMS = Path("params.yaml")
COSTS = Path("metrics/costs")
"""One file a stage; git keeps them, DVC does not know them."""

_SECONDS_BETWEEN_LOOKS = 0.2


class _Parser(ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}; see --help\n")


def argument_parser(docstring: str | None, prog: str | None = None) -> ArgumentParser:
    """Return a parser whose help is the script's docstring, with errors in one line."""
    return _Parser(
        prog, description=docstring, formatter_class=RawDescriptionHelpFormatter
    )


def read_arguments(docstring: str | None, *names: str) -> tuple[Params, Namespace]:
    """Read params.yaml and the arguments that name a cell, for example ``--task 1-1``.

    Args:
        docstring: The script's, for its help.
        names: Which of task, recipe, seed, agent and noise it takes.

    Raises:
        InputError: If params.yaml is wrong, or knows no such task, recipe or noise.
    """
    parser = argument_parser(docstring)
    for name in names:
        kind, meta = (int, "SEED") if name == "seed" else (str, name.upper())
        parser.add_argument(f"--{name}", type=kind, metavar=meta, required=True)
    arguments = parser.parse_args()
    params = load_params(PARAMS)
    for name, known in (
        ("task", list(params.world.tasks)),
        ("recipe", list(params.recipes)),
        ("noise", list(params.evaluate.noises)),
    ):
        value = getattr(arguments, name, None)
        if value is not None and value not in known:
            raise InputError(f"no {name} {value!r}: {PARAMS} knows {', '.join(known)}")
    if not 0 <= getattr(arguments, "seed", 0) < SEEDS:
        raise InputError(f"--seed must be 0 to {SEEDS - 1}, got {arguments.seed}")
    return params, arguments


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
    """Write what a stage took, which no output may hold: it is never the same.

    Of a stage that was killed and resumed, only the last part.
    """
    write_json(
        COSTS / f"{stage.replace(':', '-')}.json",
        {
            "cpu_seconds": round(time.process_time(), 1),
            "seconds": round(time.time() - psutil.Process().create_time(), 1),
            "cores": os.process_cpu_count(),
            "processor": _processor(),
        },
    )


def _processor() -> str:
    """Return the processor's name, where Linux tells."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(errors="replace").splitlines() if info.is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor() or platform.machine()


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
