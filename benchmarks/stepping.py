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

from benchmarks.measuring import Row, Size, alternate
from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.mario.state import TRACED
from warpzone.envs.nes.console import Console
from warpzone.envs.nes.consoles import EmulatorName, installed_emulators
from warpzone.envs.vec_env import ThreadedVecEnv

THREADS = os.process_cpu_count() or 1
EMULATORS = tuple(installed_emulators().values())

# Frames that a thread plays on one console before it takes the next one, so that all
# threads end at almost the same time. What calls from frame to frame can take fewer.
_CHUNK: dict[EmulatorName, int] = {"nes-py": 16, "fceumm": 64}

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

    def __init__(self, game: GameParams, noise: NoiseParams) -> None:
        super().__init__(game, noise)
        self.episodes: list[bytearray] = []

    def reset(self, **options: Any) -> tuple[np.ndarray, dict[str, Any]]:
        first = super().reset(**options)
        self.episodes.append(self.frame_buttons)
        return first

    def forget(self) -> None:
        """Begin a new list of episodes."""
        self.episodes = []


class Consoles:
    """Emulators with nothing around: how fast the game can be played at all."""

    def __init__(self, emulator: EmulatorName, level: str, consoles: int) -> None:
        self._chunk = _CHUNK[emulator]
        self._emulate = _emulate_frames if emulator == "nes-py" else _emulate_runs
        self._plays = [
            LevelPlay(make_console(emulator), level) for _ in range(consoles)
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
                self._emulate(play.emulator, bytes(chunk))
                yield


def _emulate_frames(emulator: Console, buttons: bytes) -> None:
    for held in buttons:
        emulator.advance(held)


def _emulate_runs(emulator: Console, buttons: bytes) -> None:
    """Use the emulator's own loop, which stops at whatever is not ordinary."""
    while buttons:
        buttons = buttons[len(emulator.run(buttons)) // len(TRACED) :]


def logged_envs(
    game: GameParams, noise: NoiseParams, count: int, threads: int = THREADS
) -> ThreadedVecEnv:
    """Make environments whose play `logs_of` returns."""
    return ThreadedVecEnv([partial(LoggedEnv, game, noise)] * count, threads)


def logs_of(envs: ThreadedVecEnv) -> Logs:
    """Return what environments have played since they were told to forget."""
    return [list(map(bytes, logs)) for logs in envs.get_attr("episodes")]


def frames_of(envs: ThreadedVecEnv) -> int:
    """Return how many frames environments have emulated."""
    return sum(play.emulator_frames for play in envs.get_attr("play"))


def random_play(
    envs: VecEnv,
    game: GameParams,
    seconds: float,
    emulator_frames: Callable[[], int] = lambda: 0,
) -> Callable[[], Pace]:
    """Return a contestant that plays at random, each time from the level's start.

    Args:
        envs: What plays.
        game: Names the actions.
        seconds: Length of a turn; the resets at its start are not part of it.
        emulator_frames: How many ``envs`` have emulated so far, if that matters.
    """
    rng = np.random.default_rng(0)
    actions = len(ACTION_SETS[game.action_set])
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


def compare_stepping(
    game: GameParams, noise: NoiseParams, size: Size, subproc_envs: VecEnv
) -> list[Row]:
    """Step environments, against the emulator alone and against SB3's vectors.

    Args:
        game: Names the emulator.
        noise: As the environments have it.
        size: How much.
        subproc_envs: SB3's SubprocVecEnv of as many of the same environments.
    """
    name = game.emulator
    consoles = Consoles(name, game.level, size.envs)
    with (
        closing(logged_envs(game, noise, size.envs)) as envs,
        closing(DummyVecEnv([partial(MarioEnv, game, noise)] * size.envs)) as dummy,
    ):
        play = random_play(envs, game, size.seconds, partial(frames_of, envs))
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
                "SubprocVecEnv": random_play(subproc_envs, game, size.seconds),
                "ours": random_play(envs, game, size.seconds),
                "DummyVecEnv": random_play(dummy, game, size.seconds),
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
