"""Our environments against what most people run, see legacy.py."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO

from benchmarks.game import LEVEL, Game
from benchmarks.measuring import Row, Size, alternate
from benchmarks.stepping import EMULATORS, Pace, logged_envs, random_play
from warpzone.core.errors import InputError

HERE = Path(__file__).resolve().parent
REQUIREMENTS = HERE / "legacy-requirements.txt"
SCRIPT = HERE / "legacy.py"
VENV = HERE / ".legacy-venv"
# Written last, so that an interrupted build is done again.
STAMP = VENV / "built-from"
LOG = VENV / "log.txt"
PYTHON = VENV / "bin" / "python"


def compare_legacy(game: Game, size: Size) -> list[Row]:
    """Step our environments on each emulator against those of legacy.py.

    Raises:
        InputError: If the latter cannot be built here.
    """
    build()
    with ExitStack() as stack:
        legacy = stack.enter_context(running(LEVEL, size))

        def ours(emulator: str) -> Callable[[], Pace]:
            chosen = game.but(emulator=emulator)
            envs = stack.enter_context(closing(logged_envs(chosen, size.envs)))
            return random_play(envs, size.seconds)

        def legacy_round() -> Pace:
            assert legacy.stdin is not None
            print("round", file=legacy.stdin, flush=True)
            return Pace(0.0, json.loads(answer(legacy))["agent_steps_per_second"])

        paces = alternate(
            {
                "legacy": legacy_round,
                **{emulator: ours(emulator) for emulator in EMULATORS},
            },
            size.rounds,
            "stepping, and nes-py 8",
        )
    return [
        Row(
            topic="Stepping",
            contestant=f"ThreadedVecEnv, {emulator}",
            baseline="nes-py 8 in SubprocVecEnv",
            unit="agent steps/s",
            words=(
                "gym-super-mario-bros 7.4.0 on Python 3.11 with JoypadSpace and the "
                "usual wrappers: skip, grey, resize, stack"
            ),
            values=[pace.agent_steps for pace in paces[emulator]],
            baseline_values=[pace.agent_steps for pace in paces["legacy"]],
            target=2.0,
        )
        for emulator in EMULATORS
    ]


def build() -> None:
    """Build the environment that legacy.py runs in, unless it is there.

    Raises:
        InputError: In one line, if there is no Python 3.11 or the build fails.
    """
    wanted = f"{VENV}\n{REQUIREMENTS.read_text(encoding='utf-8')}"
    if STAMP.is_file() and STAMP.read_text(encoding="utf-8") == wanted:
        return
    python = find_python()
    shutil.rmtree(VENV, ignore_errors=True)
    VENV.mkdir()
    with LOG.open("w", encoding="utf-8") as log:
        for command in build_commands(python):
            if subprocess.run(command, stdout=log, stderr=log).returncode:
                raise InputError(
                    "the packages of benchmarks/legacy-requirements.txt could not be "
                    "installed, see benchmarks/.legacy-venv/log.txt"
                )
    STAMP.write_text(wanted, encoding="utf-8")


def build_commands(python: str) -> list[list[str]]:
    """Return the commands that build it, with uv when there is one, else with pip."""
    venv, requirements = str(VENV), str(REQUIREMENTS)
    if uv := shutil.which("uv"):
        make = [uv, "venv", "--quiet", "--no-project", "--allow-existing"]
        install = [uv, "pip", "install", "--python", str(PYTHON)]
        return [[*make, "--python", python, venv], [*install, "-r", requirements]]
    return [
        [python, "-m", "venv", venv],
        [str(PYTHON), "-m", "pip", "install", "-r", requirements],
    ]


def find_python() -> str:
    """Return a Python 3.11.

    Raises:
        InputError: If there is none.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3.11"), *root.glob("versions/3.11*/bin/python")]
    for candidate in filter(None, candidates):
        # One of pyenv's stand-ins is there but fails unless that version is chosen.
        if not subprocess.run([candidate, "-c", ""], capture_output=True).returncode:
            return str(candidate)
    raise InputError("there is no Python 3.11 here")


@contextmanager
def running(level: str, size: Size) -> Iterator[subprocess.Popen[str]]:
    """Run legacy.py until the block ends."""
    # Isolated: not with our packages on the path.
    command = [PYTHON, "-I", SCRIPT, level, str(size.envs), str(size.seconds)]
    with (
        LOG.open("a", encoding="utf-8") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        # Leaving the block closes its standard input, which ends it.
        answer(process)
        yield process


def answer(process: subprocess.Popen[str]) -> str:
    """Read a line.

    Raises:
        RuntimeError: If the process has ended instead.
    """
    stdout: IO[str] | None = process.stdout
    assert stdout is not None
    if line := stdout.readline():
        return line
    raise RuntimeError(f"legacy.py has ended, see {LOG}")
