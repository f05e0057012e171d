"""Environments that step, against the emulator alone and against SB3's."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from itertools import batched
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.game import LEVEL, Game
from benchmarks.measuring import Row, Size, alternate
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.nes.consoles import installed_emulators
from warpzone.envs.replayable import ObsType
from warpzone.envs.vec_env import ThreadedVecEnv

THREADS = os.process_cpu_count() or 1
EMULATORS = tuple(installed_emulators().values())

# Frames that a thread plays on one console, in one call, before it takes the next one:
# so few that all threads end at almost the same time, nes-py's take longer.
_CHUNK = {"nes-py": 16, "fceumm": 64}

# Beside one, two and one a core.
_MANY_THREADS = 8

# For up to so many threads, a core each: the least share of the emulator's own speed.
_LEAST_SHARES = ((2, 0.9), (4, 0.85), (16, 0.7))

type Logs = Sequence[Sequence[bytes]]
"""For each console the buttons of its episodes, from the level's start."""


class Pace(NamedTuple):
    """How fast environments stepped."""

    emulator_frames: float
    """A second."""
    agent_steps: float
    """A second."""


class Beside(NamedTuple):
    """How fast environments stepped, and the emulator alone right after."""

    ours: Pace
    alone: float
    """Emulator frames a second."""


class LoggedEnv(MarioEnv):
    """Keeps the buttons of every episode, not only of the latest.

    Attributes:
        episodes: One log an episode since the last `forget`; the last one is growing.
    """

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.episodes: list[bytearray] = []

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        first = super().reset(**options)
        self.episodes.append(self.frame_actions)
        return first

    def forget(self) -> None:
        """Begin a new list of episodes."""
        self.episodes = []


class Consoles:
    """Emulators with nothing around: how fast the game can be played at all."""

    def __init__(self, emulator: str, consoles: int) -> None:
        self._chunk = _CHUNK[emulator]
        with ThreadPoolExecutor(THREADS) as pool:
            self._plays = list(
                pool.map(
                    lambda _: LevelPlay(make_console(emulator), LEVEL), range(consoles)
                )
            )

    def replay(self, logs: Logs, threads: int) -> float:
        """Replay episodes, each log on a console, and return frames a second.

        There may be fewer logs than consoles.
        """
        waiting = deque(
            self._frames(play, episodes)
            for play, episodes in zip(self._plays, logs, strict=False)
        )

        def work() -> None:
            while True:
                try:
                    console = waiting.popleft()
                except IndexError:
                    return
                for _ in console:
                    waiting.append(console)
                    break

        began = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for worker in [pool.submit(work) for _ in range(threads)]:
                worker.result()
        elapsed = time.perf_counter() - began
        return sum(len(log) for episodes in logs for log in episodes) / elapsed

    def _frames(self, play: LevelPlay, episodes: Sequence[bytes]) -> Iterator[None]:
        for buttons in episodes:
            play.restart()
            for chunk in batched(buttons, self._chunk, strict=False):
                play.console.run(bytes(chunk))
                yield


def logged_envs(
    game: Game, count: int, obs_type: ObsType = "pixels", threads: int = THREADS
) -> ThreadedVecEnv:
    """Make environments whose play `logs_of` returns."""
    make = partial(LoggedEnv, **game.arguments, obs_type=obs_type)
    return ThreadedVecEnv([make] * count, threads)


def logs_of(envs: ThreadedVecEnv) -> Logs:
    """Return what environments have played since the last `LoggedEnv.forget`."""
    return [list(map(bytes, logs)) for logs in envs.get_attr("episodes")]


def frames_of(envs: ThreadedVecEnv) -> int:
    """Return how many frames environments have emulated."""
    return sum(envs.get_attr("emulated_frames"))


def random_play(
    envs: VecEnv,
    seconds: float,
    emulator_frames: Callable[[], int] = lambda: 0,
) -> Callable[[], Pace]:
    """Return a contestant that plays at random, each time from the level's start.

    Args:
        envs: What plays.
        seconds: Length of a turn; the resets at its start are not part of it.
        emulator_frames: How many ``envs`` have emulated so far, if that matters.
    """
    rng = np.random.default_rng(0)
    actions = envs.action_space.n  # pyright: ignore[reportAttributeAccessIssue]
    envs.seed(0)

    def play() -> Pace:
        envs.reset()
        steps, frames = 0, -emulator_frames()
        began = time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            envs.step(rng.integers(actions, size=envs.num_envs))
            steps += envs.num_envs
        frames += emulator_frames()
        return Pace(frames / elapsed, steps / elapsed)

    return play


def beside_alone(
    envs: ThreadedVecEnv, consoles: Consoles, threads: int, seconds: float
) -> Callable[[], Beside]:
    """Return a contestant that plays at random, and then replays what it played.

    Args:
        envs: What plays, `logged_envs`.
        consoles: What replays it.
        threads: Of the replay.
        seconds: See `random_play`.
    """
    play = random_play(envs, seconds, partial(frames_of, envs))

    def play_and_replay() -> Beside:
        envs.env_method("forget")
        pace = play()
        return Beside(pace, consoles.replay(logs_of(envs), threads))

    return play_and_replay


def compare_with_alone(game: Game, size: Size) -> list[Row]:
    """Step many environments, against the emulator alone on as many threads."""
    name = game.emulator
    consoles = Consoles(name, size.many_envs)
    with ExitStack() as stack:

        def contestant(obs_type: str, threads: int) -> Callable[[], Beside]:
            envs = logged_envs(game, size.many_envs, obs_type, threads)
            stack.enter_context(closing(envs))
            return beside_alone(envs, consoles, threads, size.seconds)

        rounds = alternate(
            {
                f"{threads}, {obs_type}": contestant(obs_type, threads)
                for threads in sorted({1, 2, THREADS, _MANY_THREADS})
                for obs_type in MarioEnv.OBS_TYPES
            },
            size.rounds,
            f"stepping {name}, and the limit",
        )
    rows: list[Row] = []
    for setting, turns in rounds.items():
        threads, obs_type = setting.split(", ")
        steps = median(turn.ours.agent_steps for turn in turns)
        rows.append(
            Row(
                topic="Stepping",
                contestant=(
                    f"ThreadedVecEnv, {name}, {obs_type}, {threads} "
                    f"thread{'s' * (threads != '1')}"
                ),
                baseline=f"{name} alone",
                unit="emulator frames/s",
                words=(
                    f"{size.many_envs} environments: {steps:,.0f} agent steps/s; alone "
                    "is a replay of their buttons on as many threads"
                ),
                values=[turn.ours.emulator_frames for turn in turns],
                baseline_values=[turn.alone for turn in turns],
                target=least_share(int(threads)),
            )
        )
    return rows


def least_share(threads: int) -> float | None:
    """Return which share of the emulator's own speed we want; None without cores."""
    if threads > THREADS:
        return None
    return next((share for most, share in _LEAST_SHARES if threads <= most), None)


def compare_with_sb3(game: Game, size: Size, subproc_envs: VecEnv) -> list[Row]:
    """Step environments, against SB3's vectors of them.

    Args:
        game: Names the emulator.
        size: How much.
        subproc_envs: SB3's SubprocVecEnv of as many of the same environments.
    """
    name = game.emulator
    make = [partial(MarioEnv, **game.arguments)] * size.envs
    with (
        closing(ThreadedVecEnv(make)) as envs,
        closing(DummyVecEnv(list(make))) as dummy,
    ):
        paces = alternate(
            {
                "SubprocVecEnv": random_play(subproc_envs, size.seconds),
                "ours": random_play(envs, size.seconds),
                "DummyVecEnv": random_play(dummy, size.seconds),
            },
            size.rounds,
            f"stepping {name}, and SB3",
        )
    return [
        Row(
            topic="Stepping",
            contestant=f"ThreadedVecEnv, {name}",
            baseline=f"SB3 {other}, {name}",
            unit="agent steps/s",
            words=f"{size.envs} of the same environments, {words}",
            values=[pace.agent_steps for pace in paces["ours"]],
            baseline_values=[pace.agent_steps for pace in paces[other]],
        )
        for other, words in (
            ("SubprocVecEnv", "a process each"),
            ("DummyVecEnv", "one after another"),
        )
    ]
