"""Wrappers by which episodes begin where there is something to learn.

All that is drawn is drawn from the env's own generator. With a seed, an episode begins
at the level's start.
"""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym

from warpzone.envs.replay import EpisodeLog, ReplayLog
from warpzone.envs.replayable import ReplayableEnv, Snapshot

MARK_EVERY = 8
"""Agent steps from one mark to the next, along demonstrations, too."""

_MARKS = 7


class StartStates(gym.Wrapper):
    """Episodes that begin anywhere along a demonstration.

    So an agent sees the whole level long before it can get there (Salimans and Chen
    2018, https://arxiv.org/abs/1812.03381), and what an early mistake costs.

    Args:
        env: Has the starts.
        probability: That an episode begins at one of them, in [0, 1].
    """

    def __init__(self, env: ReplayLog, probability: float) -> None:
        super().__init__(env)
        self._inner = env
        self._probability = probability if env.starts else 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, at the level's start or further on."""
        rng = self._inner.world.np_random
        if seed is None and self._probability > 0 and rng.random() < self._probability:
            return self._inner.begin_at(int(rng.integers(len(self._inner.starts))))
        return self.env.reset(seed=seed, options=options)


class SecondTries(gym.Wrapper):
    """Episodes that try the end of a failed one again.

    To an agent that succeeds most of the time, almost all of an episode says what it
    knows already. Where one ends without success, the next may therefore be the same
    one, 8 to 56 agent steps before its end as a rule, with other noise. A second try
    that fails may be followed by a third.

    Args:
        env: What is wrapped, down to a `ReplayLog`.
        log: That one.
        probability: That an episode which failed is tried again, in [0, 1].
    """

    def __init__(self, env: gym.Env, log: ReplayLog, probability: float) -> None:
        super().__init__(env)
        self._inner = log
        self._probability = probability
        self._marks: deque[tuple[Snapshot, EpisodeLog]] = deque(maxlen=_MARKS)
        self._has_failed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, or try the last one again."""
        rng = self._inner.world.np_random
        may_retry = self._has_failed and seed is None and len(self._marks) > 0
        self._has_failed = False
        if may_retry and rng.random() < self._probability:
            # At the last mark it may be too late.
            index = int(rng.integers(max(1, len(self._marks) - 1)))
            mark = self._marks[index]
            # The next step makes it again.
            while len(self._marks) > index:
                self._marks.pop()
            return self._inner.take_up(mark)
        self._marks.clear()
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        self._mark()
        result = self.env.step(action)
        _, _, terminated, truncated, info = result
        self._has_failed = (terminated or truncated) and not info["is_success"]
        return result

    def log(self) -> EpisodeLog:
        """Return what leads here again. There must have been an episode."""
        log = self._inner.log()
        return EpisodeLog(
            log.generator, log.start, log.actions, log.restores, len(self._marks)
        )

    def replay(self, log: EpisodeLog) -> Iterator[Any]:
        """Play an episode up to where it was logged, as `ReplayLog.replay` does."""
        self._marks.clear()
        self._has_failed = False
        for at, observation in enumerate(self._inner.replay(log)):
            yield observation
            if at < len(log.actions):
                self._mark()
        # Without those that second tries had taken back.
        while len(self._marks) > log.marks:
            self._marks.popleft()

    def _mark(self) -> None:
        world = self._inner.world
        # Back where the agent was stuck already it would be stuck again.
        moves = world.idle_steps < MARK_EVERY
        if moves and self._probability > 0 and len(world.decisions) % MARK_EVERY == 0:
            self._marks.append(self._inner.mark())


def training_env(
    make_env: Callable[[], ReplayableEnv],
    starts: Sequence[Snapshot],
    demo_start_probability: float,
    restart_probability: float,
) -> SecondTries:
    """Return an env with start states, second tries and a log, to train in.

    Args:
        make_env: Makes the world.
        starts: States along demonstrations, of the same level.
        demo_start_probability: As `StartStates` has it.
        restart_probability: As `SecondTries` has it.
    """
    log = ReplayLog(make_env(), starts)
    started = StartStates(log, demo_start_probability)
    return SecondTries(started, log, restart_probability)
