"""Memory, start-up times, and how costs grow."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, closing
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.game import Game
from benchmarks.measuring import Line, Metric, Size, alternate, seconds_of
from benchmarks.memory import measured_by
from benchmarks.peer import growth_of_retro
from benchmarks.stepping import (
    EMULATORS,
    THREADS,
    Consoles,
    beside_alone,
    logged_envs,
)
from warpzone.core.files import write_lines
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LEVELS
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.training.bc import watch_all

STAGES = Path("stages")
LIBRARY = Path("warpzone")

_FIRST_STEP = """
from warpzone.envs.mario.env import MarioEnv

env = MarioEnv()
env.reset(seed=0)
env.step(0)
"""

# Random play of so many agent steps is a demonstration here: what is measured is the
# number of them, not their length.
_DEMONSTRATION_STEPS = 25
_DEMONSTRATIONS = 10


def memory() -> list[Metric]:
    """Measure memory, which is the same in every run, once."""
    return [
        *(
            Metric(
                topic="Memory",
                name=f"environment, {emulator}",
                unit="MB",
                words="each further one, from 8 to 32 in one process",
                values=[measured_by("benchmarks.env_memory", emulator)],
            )
            for emulator in EMULATORS
        ),
        Metric(
            topic="Memory",
            name="rollout",
            unit="MB for 1,000 agent steps",
            words="peak of a whole update of PPO on the CPU, copies and all",
            values=[measured_by("benchmarks.rollout_memory")],
        ),
    ]


def start_up(size: Size) -> list[Metric]:
    """Measure how long stages take to say what they do, and DVC to do nothing."""
    environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}

    def run(*arguments: str) -> float:
        command = [sys.executable, *arguments]
        return seconds_of(
            lambda: subprocess.run(
                command, check=True, stdout=subprocess.DEVNULL, env=environment
            )
        )

    dvc = ["-m", "dvc", *idle_dvc_command()]
    stages = sorted(STAGES.glob("*.py"))[: size.stages]
    seconds = alternate(
        {path.stem: partial(run, str(path), "--help") for path in stages}
        | {"dvc": partial(run, *dvc)},
        size.start_ups,
        "starting up",
    )
    cold, warm = first_steps(size.start_ups)
    idle = seconds.pop("dvc")
    return [
        *(
            Metric(
                topic="Start-up",
                name=name,
                unit="s",
                words="`--help` of the stage: Python and what it imports",
                values=values,
            )
            for name, values in seconds.items()
        ),
        *(
            Metric(
                topic="Start-up",
                name=f"first step, {name}",
                unit="s",
                words=words,
                values=values,
            )
            for name, words, values in (
                (
                    "nothing compiled",
                    "Python, imports, an environment, `reset` and a `step`, which wait "
                    "for the compiler: after a change to warpzone/envs/",
                    cold,
                ),
                ("compiled", "the same later, when numba has kept its code", warm),
            )
        ),
        Metric(
            topic="Start-up",
            name=f"dvc {dvc[-1]}",
            unit="s",
            words="with nothing to do"
            if dvc[-1] == "repro"
            else "in place of a `dvc repro` with nothing to do: stages have changed",
            values=idle,
            target=5.0,
        ),
    ]


def first_steps(rounds: int) -> tuple[list[float], list[float]]:
    """Return how long a process takes up to its first step, in each round.

    First with no code compiled, then with what the first time has left beside the
    sources: those of a copy of the library.
    """
    seconds: tuple[list[float], list[float]] = [], []
    environment = {**os.environ}
    # Elsewhere there may be code that was compiled before.
    environment.pop("NUMBA_CACHE_DIR", None)
    for _ in range(rounds):
        with TemporaryDirectory() as folder:
            shutil.copytree(
                LIBRARY,
                Path(folder) / LIBRARY.name,
                ignore=shutil.ignore_patterns("__pycache__"),
            )
            for times in seconds:
                run = partial(subprocess.run, [sys.executable, "-c", _FIRST_STEP])
                once = partial(run, check=True, cwd=folder, env=environment)
                times.append(seconds_of(once))
    return seconds


def idle_dvc_command() -> list[str]:
    """Return ``repro`` if that has nothing to do, else ``status``."""
    status = [sys.executable, "-m", "dvc", "status", "--quiet"]
    return ["status" if subprocess.run(status).returncode else "repro"]


def growth(game: Game, size: Size) -> list[Line]:
    """Measure how rates and costs grow.

    Args:
        game: On the emulator that stable-retro has, too.
        size: How much.
    """
    return [
        *growth_with_envs(game, size),
        growth_of_retro(game, size),
        *growth_with_threads(game, size),
        growth_with_levels(game, size),
        growth_with_demonstrations(game, size),
    ]


def growth_with_envs(game: Game, size: Size) -> list[Line]:
    with ExitStack() as stack:
        envs = {
            count: stack.enter_context(closing(logged_envs(game, count)))
            for count in size.counts
        }
        words = f"{THREADS} threads"
        return growing_rates(
            game, size, "environments", words, envs, dict.fromkeys(envs, THREADS)
        )


def growth_with_threads(game: Game, size: Size) -> list[Line]:
    count = size.many_envs
    with ExitStack() as stack:
        envs = {
            threads: stack.enter_context(
                closing(logged_envs(game, count, threads=threads))
            )
            for threads in sorted({1, 2, 4, 8, THREADS})
        }
        words = f"{count} environments, {THREADS} cores"
        return growing_rates(
            game, size, "threads", words, envs, {threads: threads for threads in envs}
        )


def growing_rates(
    game: Game,
    size: Size,
    name: str,
    words: str,
    envs: Mapping[int, ThreadedVecEnv],
    threads: Mapping[int, int],
) -> list[Line]:
    """Measure how the rates of environments and of the emulator alone grow.

    Args:
        game: Names the emulator.
        size: How much.
        name: Of what grows.
        words: How much there is of what does not.
        envs: By what grows.
        threads: Of these environments, and of the emulator alone.
    """
    consoles = Consoles(game.emulator, max(env.num_envs for env in envs.values()))
    turns = alternate(
        {
            str(grown): beside_alone(some, consoles, threads[grown], size.seconds / 2)
            for grown, some in envs.items()
        },
        size.rounds,
        f"how rates grow with {name}",
    ).values()
    frame_skip = game.kwargs["frame_skip"]
    return [
        Line(
            topic="Growth",
            name=name,
            unit="agent steps/s",
            words=f"{contestant}, {words}",
            sizes=list(envs),
            values=values,
            contestant=contestant,
        )
        for contestant, values in (
            (
                f"ThreadedVecEnv, {game.emulator}",
                [median(turn.ours.agent_steps for turn in one) for one in turns],
            ),
            (
                f"{game.emulator} alone",
                [median(turn.alone / frame_skip for turn in one) for one in turns],
            ),
        )
    ]


def growth_with_levels(game: Game, size: Size) -> Line:
    def make(count: int) -> None:
        make = partial(MarioEnv, **game.arguments)
        ThreadedVecEnv([partial(make, level) for level in LEVELS[:count]]).close()

    return Line(
        topic="Growth",
        name="levels",
        unit="s",
        words="until there is an environment on each",
        sizes=size.levels,
        values=[seconds_of(partial(make, count)) for count in size.levels],
    )


def growth_with_demonstrations(game: Game, size: Size) -> Line:
    game = game.but(time_limit=_DEMONSTRATION_STEPS)
    env = MarioEnv(**game.arguments)
    lines = [random_recording(env, seed).to_json() for seed in range(_DEMONSTRATIONS)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "demos.jsonl"

        def read_and_replay(count: int) -> None:
            write_lines(path, islice(cycle(lines), count))
            recordings = read_recordings(path)
            watch_all(recordings, game.kwargs, "pixels", len(env.codes), path.name)

        values = [
            seconds_of(partial(read_and_replay, count)) for count in size.demonstrations
        ]
    return Line(
        topic="Growth",
        name="demonstrations",
        unit="s",
        words=(
            f"to read, replay and check them: random play on {game.emulator}, "
            f"{_DEMONSTRATION_STEPS} agent steps each"
        ),
        sizes=size.demonstrations,
        values=values,
    )


def random_recording(env: MarioEnv, seed: int) -> Recording:
    """Play an episode at random."""
    rng = np.random.default_rng(seed)
    env.reset(seed=seed)
    while env.cause is None:
        env.step(rng.integers(len(env.codes)))
    return Recording.of_episode(env, seed)
