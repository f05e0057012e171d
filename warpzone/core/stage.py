"""What every stage script does first and last: read arguments, report bad input."""

import os
import platform
import re
import signal
import sys
import threading
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import NoReturn

import psutil

from warpzone.core.errors import InputError, shown
from warpzone.core.files import write_json
from warpzone.core.inputs import check_code, check_inputs, read_inputs
from warpzone.core.names import PARAMS
from warpzone.core.params import Params, load_params
from warpzone.core.seeds import SEEDS

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


def read_arguments(
    docstring: str | None,
    *names: str,
    add_options: Callable[[ArgumentParser], object] = lambda _: None,
    may_lack: Callable[[Namespace], bool] = lambda _: False,
) -> tuple[Params, Namespace]:
    """Read params.yaml and the arguments that name a cell, for example ``--task 1-1``.

    Args:
        docstring: The script's, for its help.
        names: Which of task, recipe, seed and agent it takes.
        add_options: Adds what else it takes.
        may_lack: Whether, given all else, names may be left out; they are None then.

    Raises:
        InputError: If params.yaml is wrong, or knows no such task or recipe.
    """
    parser = argument_parser(docstring)
    for name in names:
        kind, meta = (int, "SEED") if name == "seed" else (str, name.upper())
        parser.add_argument(f"--{name}", type=kind, metavar=meta)
    add_options(parser)
    arguments = parser.parse_args()
    given = {
        name: value for name, value in vars(arguments).items() if value is not None
    }
    lacking = [f"--{name}" for name in names if name not in given]
    if lacking and not may_lack(arguments):
        parser.error(f"the following arguments are required: {', '.join(lacking)}")
    params = load_params(PARAMS)
    for name, known in (("task", params.world.tasks), ("recipe", params.recipes)):
        if name in given and given[name] not in known:
            knows = f"{PARAMS} knows {', '.join(known)}"
            raise InputError(f"no {name} {given[name]!r}: {knows}")
    if not 0 <= given.get("seed", 0) < SEEDS:
        raise InputError(f"--seed must be 0 to {SEEDS - 1}, got {arguments.seed}")
    return params, arguments


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage. Bad input or a full disk ends it with one line and exit code 1.

    So does an input that changes meanwhile: DVC records nothing of a stage that fails.
    """
    # Set by who runs the pipeline. A stage that a person runs may outlive the terminal.
    stage = os.environ.get("DVC_STAGE")
    if stage:
        _end_with_the_pipeline()
    try:
        inputs = read_inputs(stage) if stage else {}
        check_code(inputs)
        main()
        if stage:
            check_inputs(stage, inputs)
            _write_cost(stage)
    except InputError as error:
        sys.exit(f"error: {error}")
    except OSError as error:
        # Without a file it comes from deep inside, and its traceback is needed.
        if error.filename is None and error.errno is None:
            raise
        where = f"{shown(error.filename)}: " if error.filename else ""
        sys.exit(f"error: {where}{error.strerror}")
    except KeyboardInterrupt:
        sys.exit(130)


def _write_cost(stage: str) -> None:
    """Write what a stage took, which no output may hold: it is never the same.

    Of a stage that was killed and resumed, only the last part.
    """
    info = Path("/proc/cpuinfo")
    names = (
        re.findall(r"model name\s*: (.*)", info.read_text()) if info.exists() else []
    )
    write_json(
        COSTS / f"{stage.replace(':', '-')}.json",
        {
            "cpu_seconds": round(time.process_time(), 1),
            "seconds": round(time.time() - psutil.Process().create_time(), 1),
            "cores": os.process_cpu_count(),
            "processor": names[0] if names else platform.machine(),
        },
    )


def _end_with_the_pipeline() -> None:
    """End this process as soon as the shell that runs it, or DVC, ends in any way.

    Otherwise a pipeline that is killed would leave its trainer behind, and the next run
    would start a second one.
    """
    chain = [psutil.Process()]
    # A shell may replace itself by its last command, or stay and wait for it.
    for process in chain[0].parents():
        chain.append(process)
        if "-c" not in process.cmdline()[1:4]:
            break

    def watch() -> None:
        with suppress(psutil.NoSuchProcess):
            # Who loses its parent gets another one. The parent may live on as a zombie.
            while all(one.ppid() == parent.pid for one, parent in pairwise(chain)):
                time.sleep(_SECONDS_BETWEEN_LOOKS)
        # At once: Python would wait for threads that are emulating. Files are written
        # beside and renamed, so they stay whole.
        os.kill(os.getpid(), signal.SIGKILL)

    # It ended before we could look, and the parent is one that takes in orphans.
    if os.getsid(chain[-1].pid) != os.getsid(0):
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, name="watch of the pipeline", daemon=True).start()
