"""How long an agent step holds the GIL, which one thread can hold at a time.

It is what bounds the threads of a machine with many cores. Everything of a step counts
but what runs inside the compiled call: the call's arguments are unpacked with the GIL.
NumPy lets go of the GIL while it copies a picture; here that counts, too.
"""

import ctypes
import time
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np
from numba import njit  # pyright: ignore[reportPrivateImportUsage]

from benchmarks.game import Game
from benchmarks.measuring import Metric, Size, alternate
from warpzone.envs.compiled import array_at, call
from warpzone.envs.mario import env
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.vec_env import ThreadedVecEnv

_MOST_MICROSECONDS = 15.0


class _Clock:
    """Counts the time inside of the compiled agent step."""

    def __init__(self) -> None:
        self._inside = inside = np.zeros(1, np.int64)
        self._now = now = np.zeros(2, np.int64)
        self._address = ctypes.cast(ctypes.CDLL(None).clock_gettime, ctypes.c_void_p)
        address, clock = self._address.value, time.CLOCK_MONOTONIC
        now_at, inside_at = now.ctypes.data, inside.ctypes.data

        @njit
        def nanoseconds() -> int:
            call(address, (np.int32(clock), np.uintp(now_at)))
            seconds, rest = array_at(now_at, 2, np.int64)
            return seconds * 1_000_000_000 + rest

        @njit
        def count(began: int, result: Any) -> Any:
            array_at(inside_at, 1, np.int64)[0] += nanoseconds() - began
            return result

        # It has the arguments of what it times, so that they are unpacked alike.
        step: Any = env.agent_step
        code = step.py_func.__code__
        names = ", ".join(code.co_varnames[: code.co_argcount])
        names_in_code = {"count": count, "nanoseconds": nanoseconds, "step": step}
        timed = eval(
            f"lambda {names}: count(nanoseconds(), step({names}))", names_in_code
        )
        self.agent_step = njit(nogil=True)(timed)

    @property
    def inside(self) -> int:
        """Nanoseconds so far."""
        return int(self._inside[0])


def gil_held(game: Game, size: Size) -> list[Metric]:
    """Measure how long an agent step of many environments holds the GIL, on a thread.

    Between two steps of an environment there are those of all others, so that what
    Python needs has left the processor's caches, as in a training.
    """
    clock = _Clock()
    with ExitStack() as stack:
        stack.enter_context(patch.object(env, "agent_step", clock.agent_step))

        def contestant(obs_type: str) -> Callable[[], float]:
            make = partial(MarioEnv, **game.arguments, obs_type=obs_type)
            envs = ThreadedVecEnv([make] * size.many_envs, threads=1)
            return _microseconds(stack.enter_context(closing(envs)), clock, size)

        held = alternate(
            {obs_type: contestant(obs_type) for obs_type in MarioEnv.OBS_TYPES},
            size.rounds,
            "how long the GIL is held",
        )
    return [
        Metric(
            topic="Stepping",
            name=f"GIL, {game.emulator}, {obs_type}",
            unit="microseconds an agent step",
            words=(
                f"{size.many_envs} environments on one thread: time of the whole step, "
                "less what a clock inside its compiled call counts; NumPy's copies "
                "count, though it lets go of the GIL for them"
            ),
            values=values,
            target=_MOST_MICROSECONDS,
        )
        for obs_type, values in held.items()
    ]


def _microseconds(
    envs: ThreadedVecEnv, clock: _Clock, size: Size
) -> Callable[[], float]:
    rng = np.random.default_rng(0)
    actions = envs.action_space.n  # pyright: ignore[reportAttributeAccessIssue]
    envs.seed(0)

    def turn() -> float:
        envs.reset()
        envs.step(rng.integers(actions, size=envs.num_envs))
        held: list[int] = []
        ends = time.monotonic() + size.seconds
        while time.monotonic() < ends or not held:
            chosen = rng.integers(actions, size=envs.num_envs)
            outside = clock.inside - time.monotonic_ns()
            _, _, dones, _ = envs.step(chosen)
            outside += time.monotonic_ns() - clock.inside
            # What begins an episode plays frames that the clock does not count.
            if not dones.any():
                held.append(outside)
        # Not the mean: now and then something else runs on this core.
        return median(held) / envs.num_envs / 1_000

    return turn
