"""Memory, start-up times, and how costs grow."""

import os
import subprocess
import sys
from contextlib import closing
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measuring import Figure, Line, Size, alternate, seconds_of
from benchmarks.memory import measured_by
from benchmarks.stepping import EMULATORS, THREADS, random_play
from warpzone.core.files import write_lines
from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LEVELS
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.training.bc import watch_all

STAGES = Path("stages")

# Random play of so many agent steps is a demonstration here: what is measured is the
# number of them, not their length.
_DEMONSTRATION_STEPS = 25
_DEMONSTRATIONS = 10


def memory() -> list[Figure]:
    """Measure memory, which is the same in every run, once."""
    return [
        *(
            Figure(
                topic="Memory",
                name=f"environment, {emulator}",
                unit="MB",
                words="each further one, from 8 to 32 in one process",
                value=measured_by("benchmarks.env_memory", emulator),
            )
            for emulator in EMULATORS
        ),
        Figure(
            topic="Memory",
            name="rollout",
            unit="MB for 1,000 agent steps",
            words="peak of a whole update of PPO on the CPU, copies and all",
            value=measured_by("benchmarks.rollout_memory"),
        ),
    ]


def start_up(size: Size) -> list[Figure]:
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
    idle = seconds.pop("dvc")
    return [
        *(
            Figure(
                topic="Start-up",
                name=name,
                unit="s",
                words="`--help` of the stage: Python and what it imports",
                value=median(values),
            )
            for name, values in seconds.items()
        ),
        Figure(
            topic="Start-up",
            name=f"dvc {dvc[-1]}",
            unit="s",
            words="with nothing to do"
            if dvc[-1] == "repro"
            else "in place of a `dvc repro` with nothing to do: stages have changed",
            value=median(idle),
            target=5.0,
        ),
    ]


def idle_dvc_command() -> list[str]:
    """Return ``repro`` if that has nothing to do, else ``status``."""
    status = [sys.executable, "-m", "dvc", "status", "--quiet"]
    return ["status" if subprocess.run(status).returncode else "repro"]


def growth(game: GameParams, noise: NoiseParams, size: Size) -> list[Line]:
    """Measure how rates and costs grow."""
    return [
        growth_with_envs(game, noise, size),
        growth_with_threads(game, noise, size),
        growth_with_levels(game, noise, size),
        growth_with_demonstrations(game, noise, size),
    ]


def growth_with_envs(game: GameParams, noise: NoiseParams, size: Size) -> Line:
    return Line(
        topic="Growth",
        name="environments",
        unit="agent steps/s",
        words=f"ThreadedVecEnv, {game.emulator}, {THREADS} threads",
        sizes=size.counts,
        values=[stepping_rate(game, noise, size, count) for count in size.counts],
    )


def growth_with_threads(game: GameParams, noise: NoiseParams, size: Size) -> Line:
    counts = sorted({*(1 << bit for bit in range(THREADS.bit_length())), THREADS})
    return Line(
        topic="Growth",
        name="threads",
        unit="agent steps/s",
        words=f"ThreadedVecEnv, {game.emulator}, {size.envs} environments",
        sizes=counts,
        values=[
            stepping_rate(game, noise, size, size.envs, threads) for threads in counts
        ],
    )


def stepping_rate(
    game: GameParams,
    noise: NoiseParams,
    size: Size,
    count: int,
    threads: int | None = None,
) -> float:
    """Return agent steps a second of so many environments, on all threads or some."""
    make = [partial(MarioEnv, game, noise)] * count
    with closing(ThreadedVecEnv(make, threads)) as envs:
        play = random_play(envs, game, size.seconds / 2)
        return median(play().agent_steps for _ in range(size.rounds))


def growth_with_levels(game: GameParams, noise: NoiseParams, size: Size) -> Line:
    def make(count: int) -> None:
        games = (game.model_copy(update={"level": name}) for name in LEVELS[:count])
        ThreadedVecEnv([partial(MarioEnv, each, noise) for each in games]).close()

    return Line(
        topic="Growth",
        name="levels",
        unit="s",
        words="until there is an environment on each",
        sizes=size.levels,
        values=[seconds_of(partial(make, count)) for count in size.levels],
    )


def growth_with_demonstrations(
    game: GameParams, noise: NoiseParams, size: Size
) -> Line:
    game = game.model_copy(update={"time_limit": _DEMONSTRATION_STEPS})
    env = MarioEnv(game, noise)
    lines = [random_recording(env, seed).to_json() for seed in range(_DEMONSTRATIONS)]
    with TemporaryDirectory() as folder:
        path = Path(folder) / "demos.jsonl"

        def read_and_replay(count: int) -> None:
            write_lines(path, islice(cycle(lines), count))
            watch_all(read_recordings(path), game, path.name)

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
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = env.step(rng.integers(len(env.buttons)))
        ended = terminated or truncated
    return Recording.of_episode(env, seed)
