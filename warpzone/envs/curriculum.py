"""A wrapper by which episodes begin where there is something to learn."""

from bisect import bisect
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import accumulate
from types import MappingProxyType
from typing import Any, NamedTuple

import gymnasium as gym

from warpzone.envs.replayable import ReplayableEnv, Snapshot

MARK_EVERY = 8
"""Agent steps from one mark to the next, along demonstrations, too."""

STRETCH = 16
"""Of progress, within which second tries count as one place: for Mario a block."""

_MARKS = 7

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Plan(NamedTuple):
    """What the beginnings of the next episodes are drawn from."""

    demo_start_probability: float = 0.0
    """That an episode begins along a demonstration, in [0, 1]."""
    starts: Mapping[str, Sequence[int]] = _NOTHING
    """By level the numbers of the starts that it may begin at; all if not given. Where
    there is none, it begins at the level's start."""
    levels: Mapping[str, float] = _NOTHING
    """The levels with their weights; if there are none, each env stays on its own."""


class Ended(NamedTuple):
    """An episode that has ended."""

    level: str
    start: int | None
    """The number of its start; None: the level's."""
    is_second_try: bool
    """Whether it was restarted on the way."""
    is_success: bool


class TrainingEnv(gym.Wrapper):
    """Episodes that begin at the level's start, along a demonstration, or at a failure.

    From a start along a demonstration an agent sees the whole level long before it can
    get there (Salimans and Chen 2018, https://arxiv.org/abs/1812.03381), and what an
    early mistake costs.

    To an agent that succeeds most of the time, almost all of an episode says what it
    knows already. Where one ends without success, the next may therefore be a restart
    of it, 8 to 56 agent steps before its end as a rule, with other noise. A restart
    that fails may be followed by another one.

    All that is drawn is drawn from the env's own generator. With a seed, an episode
    begins at the level's start, unless all begin along demonstrations.

    Snapshots are good in one process only, and some consoles' are not exact. What leads
    to the present state in any process is `log`.

    Args:
        make_env: Makes the world.
        starts: States along demonstrations of the same level. They are known by their
            number, so every process has to make the same ones.
        demo_start_probability: That an episode begins at one of them, in [0, 1].
        restart_probability: That an episode which failed is restarted, in [0, 1].
        plan: If given, it takes the place of ``demo_start_probability``.

    Attributes:
        plan: Counts from the next `reset` on.
        ended: The episode that ended last.
    """

    def __init__(
        self,
        make_env: Callable[[], ReplayableEnv],
        starts: Sequence[Snapshot],
        demo_start_probability: float,
        restart_probability: float,
        plan: Plan | None = None,
    ) -> None:
        self.world = make_env()
        super().__init__(self.world)
        self.plan = plan or Plan(demo_start_probability)
        self.ended: Ended | None = None
        self._starts = starts
        self._restart_probability = restart_probability
        self._marks: deque[tuple[Snapshot, int]] = deque(maxlen=_MARKS)
        self._has_failed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Begin an episode, or restart the last one shortly before its end.

        Where it is restarted, ``info`` also has ``restarted_at``: the progress at which
        this second try begins, float, in the world's unit.
        """
        rng = self.world.np_random
        may_restart = self._has_failed and seed is None and len(self._marks) > 0
        self._has_failed = False
        if may_restart and rng.random() < self._restart_probability:
            # At the last mark it may be too late.
            index = int(rng.integers(max(1, len(self._marks) - 1)))
            snapshot, step = self._marks[index]
            # The next step makes it again.
            while len(self._marks) > index:
                self._marks.pop()
            observation, info = self._resume(snapshot, step)
            return observation, info | {"restarted_at": float(info["progress"])}
        self._marks.clear()
        if seed is not None:
            # Seeds the generator and does nothing else.
            gym.Env.reset(self.world, seed=seed)
        return self._begin(*self._draw(is_first=seed is not None))

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        # Back where the agent was stuck already it would be stuck again.
        moves = self.world.idle_steps < MARK_EVERY
        is_due = len(self.world.decisions) % MARK_EVERY == 0
        if moves and is_due and self._restart_probability > 0:
            self._marks.append((self.world.snapshot(), len(self._actions)))
        self._actions.append(action)
        result = self.world.step(action)
        _, _, terminated, truncated, info = result
        is_over, is_success = terminated or truncated, info["is_success"]
        self._has_failed = is_over and not is_success
        if is_over:
            is_second_try = len(self._restores) > 0
            level, start = self.world.level, self._start
            self.ended = Ended(level, start, is_second_try, is_success)
        return result

    def log(self) -> dict[str, Any]:
        """Return what leads to the present state of an episode again, as JSON has it.

        ``generator`` is the state of the env's generator when the episode began,
        ``level`` its level, ``start`` the number of its start (None: the level's),
        ``actions`` what each agent step since then asked for, ``restores`` pairs of the
        number of actions at which the episode was restarted and the generator's state
        then, and ``marks`` how many states are kept to restart from.
        """
        return {
            "generator": self._generator,
            "level": self.world.level,
            "start": self._start,
            "actions": list(self._actions),
            "restores": [list(pair) for pair in self._restores.items()],
            "marks": len(self._marks),
        }

    def replay(self, log: dict[str, Any]) -> Iterator[Any]:
        """Play an episode up to where it was logged; the generator is as it was, too.

        Yields:
            The observation before each agent step, and at the end.
        """
        generator = self.world.np_random.bit_generator
        generator.state = log["generator"]
        self._marks.clear()
        self._has_failed = False
        observation, _ = self._begin(log["level"], log["start"])
        restores = dict(log["restores"])
        for step in range(len(log["actions"]) + 1):
            if step in restores:
                generator.state = restores[step]
                observation, _ = self._resume(self.world.snapshot(), step)
            yield observation
            if step < len(log["actions"]):
                observation, *_ = self.step(log["actions"][step])
        # Without those that restarts had taken back.
        while len(self._marks) > log["marks"]:
            self._marks.popleft()

    def _draw(self, is_first: bool) -> tuple[str, int | None]:
        """Draw the level and the number of the start of an episode."""
        rng, plan, level = self.world.np_random, self.plan, self.world.level
        if len(plan.levels) > 0:
            *most, total = accumulate(plan.levels.values())
            level = list(plan.levels)[bisect(most, rng.random() * total)]
        starts = plan.starts.get(level, range(len(self._starts)))
        share = plan.demo_start_probability if starts else 0.0
        may_draw = share == 1 if is_first else share > 0
        if may_draw and rng.random() < share:
            return level, starts[int(rng.integers(len(starts)))]
        return level, None

    def _begin(self, level: str, start: int | None) -> tuple[Any, dict[str, Any]]:
        if level != self.world.level:
            self.world.set_level(level)
        self._generator = self.world.np_random.bit_generator.state
        self._start = start
        self._actions = bytearray()
        self._restores: dict[int, Any] = {}
        if start is None:
            return self.world.reset()
        return self.world.restore(self._starts[start])

    def _resume(self, snapshot: Snapshot, step: int) -> tuple[Any, dict[str, Any]]:
        """Go back to what was after a number of actions."""
        del self._actions[step:]
        restores = {at: state for at, state in self._restores.items() if at < step}
        self._restores = restores | {step: self.world.np_random.bit_generator.state}
        return self.world.restore(snapshot)
