"""Environments that step, against the emulator alone and against SB3's."""

import os
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import batched
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from benchmarks.game import LEVEL, Game
from benchmarks.measuring import Row, Size, alternate
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.nes.consoles import Console, installed_emulators
from warpzone.envs.replayable import ObsType
from warpzone.envs.vec_env import ThreadedVecEnv

THREADS = os.process_cpu_count() or 1
EMULATORS = tuple(installed_emulators().values())

# Frames that a thread plays on one console before it takes the next one, so that all
# threads end at almost the same time. What calls from frame to frame can take fewer.
_CHUNK = {"nes-py": 16, "fceumm": 64}

type Logs = Sequence[Sequence[bytes]]
"""For each console the buttons of its episodes, from the level's start."""


class Pace(NamedTuple):
    """How fast environments stepped."""

    emulator_frames: float
    """A second."""
    agent_steps: float
    """A second."""


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
        self._emulate = _emulate_frames if emulator == "nes-py" else _emulate_runs
        self._plays = [
            LevelPlay(make_console(emulator), LEVEL) for _ in range(consoles)
        ]

    def replay(self, logs: Logs, threads: int) -> float:
        """Replay each console's episodes and return emulator frames a second."""
        waiting = deque(
            self._frames(play, episodes)
            for play, episodes in zip(self._plays, logs, strict=True)
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
                self._emulate(play.console, bytes(chunk))
                yield


def _emulate_frames(console: Console, buttons: bytes) -> None:
    for held in buttons:
        console.advance(held)


def _emulate_runs(console: Console, buttons: bytes) -> None:
    """Use the emulator's own loop."""
    console.run(buttons)


def logged_envs(game: Game, count: int, obs_type: ObsType = "pixels") -> ThreadedVecEnv:
    """Make environments whose play `logs_of` returns."""
    make = partial(LoggedEnv, **game.arguments, obs_type=obs_type)
    return ThreadedVecEnv([make] * count, THREADS)


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


def compare_stepping(game: Game, size: Size, subproc_envs: VecEnv) -> list[Row]:
    """Step environments, against the emulator alone and against SB3's vectors.

    Args:
        game: Names the emulator.
        size: How much.
        subproc_envs: SB3's SubprocVecEnv of as many of the same environments.
    """
    name = game.emulator
    consoles = Consoles(name, size.envs)
    with (
        closing(logged_envs(game, size.envs)) as envs,
        closing(
            DummyVecEnv([partial(MarioEnv, **game.arguments)] * size.envs)
        ) as dummy,
    ):
        play = random_play(envs, size.seconds, partial(frames_of, envs))
        limits: list[float] = []

        def play_and_replay() -> Pace:
            envs.env_method("forget")
            pace = play()
            limits.append(consoles.replay(logs_of(envs), THREADS))
            return pace

        limited = alternate(
            {"ours": play_and_replay}, size.rounds, f"stepping {name}, and the limit"
        )["ours"]
        paces = alternate(
            {
                "SubprocVecEnv": random_play(subproc_envs, size.seconds),
                "ours": random_play(envs, size.seconds),
                "DummyVecEnv": random_play(dummy, size.seconds),
            },
            size.rounds,
            f"stepping {name}, and SB3",
        )
    steps = float(np.median([pace.agent_steps for pace in limited]))
    return [
        Row(
            topic="Stepping",
            contestant=f"ThreadedVecEnv, {name}",
            baseline=f"{name} alone",
            unit="emulator frames/s",
            words=(
                f"{size.envs} environments, {THREADS} threads: {steps:,.0f} agent "
                "steps/s, against a replay of their buttons with nothing around"
            ),
            values=[pace.emulator_frames for pace in limited],
            baseline_values=limits,
            target=0.92,
        ),
        *(
            Row(
                topic="Stepping",
                contestant=f"ThreadedVecEnv, {name}",
                baseline=f"SB3 {other}, {name}",
                unit="agent steps/s",
                words=words,
                values=[pace.agent_steps for pace in paces["ours"]],
                baseline_values=[pace.agent_steps for pace in paces[other]],
            )
            for other, words in (
                ("SubprocVecEnv", "the same environments, a process each"),
                ("DummyVecEnv", "the same environments, one after another"),
            )
        ),
    ]
