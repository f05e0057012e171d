"""Episodes that begin where there is something to learn."""

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.env import EpisodeLog, MarioEnv, Mark
from warpzone.envs.mario.observation import ObsType

# Agent steps from one mark to the next, and how many are kept.
MARK_EVERY = 8
_MARKS = 7


class PracticeEnv(MarioEnv):
    """Not all of its episodes begin at the level's start.

    Some begin anywhere along a demonstration, so that an agent sees the whole level
    long before it can get there (Salimans and Chen 2018,
    https://arxiv.org/abs/1812.03381), and what an early mistake costs.

    Others are second tries. To an agent that clears a level most of the time, almost
    all of an episode says what it knows already. Where one ends without a clear, the
    next one may therefore be the same one, 8 to 56 agent steps before its end as a
    rule, with other noise. A second try that fails may be followed by a third.

    With a seed, an episode begins at the level's start. All that is drawn is drawn from
    the environment's own generator.

    Args:
        game: The learning problem.
        noise: As for `MarioEnv`.
        obs_type: As for `MarioEnv`.
        retry_share: The chance that an episode which failed is tried again, in [0, 1].
        starts: States along demonstrations.
        start_share: The chance that another episode begins at one of them, in [0, 1].
    """

    def __init__(
        self,
        game: GameParams,
        noise: NoiseParams,
        obs_type: ObsType = "pictures",
        *,
        retry_share: float,
        starts: Sequence[Mark] = (),
        start_share: float = 0.0,
    ) -> None:
        super().__init__(game, noise, obs_type=obs_type)
        self._retry_share = retry_share
        self._starts = starts
        self._start_share = start_share if starts else 0.0
        self._start: int | None = None
        self._marks: deque[Mark] = deque(maxlen=_MARKS)
        self._retries: dict[int, Mapping[str, Any]] = {}
        self._has_failed = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Begin an episode, or try the last one again."""
        may_retry = self._has_failed and seed is None and len(self._marks) > 0
        self._has_failed = False
        if may_retry and self._happens(self._retry_share):
            # At the last mark it may be too late.
            marks = max(1, len(self._marks) - 1)
            return self._go_back_to(int(self.np_random.integers(marks)))
        self._marks.clear()
        self._retries = {}
        if seed is None and self._happens(self._start_share):
            return self._begin_at(int(self.np_random.integers(len(self._starts))))
        self._start = None
        return super().reset(seed=seed, options=options)

    def step(
        self, action: int | np.integer
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Hold the action's buttons for one agent step, as `MarioEnv.step` does."""
        # Back where Mario was stuck already he would be stuck again.
        moves = self.idle_steps < MARK_EVERY
        if moves and self._retry_share > 0 and len(self.decisions) % MARK_EVERY == 0:
            self._marks.append(self.mark())
        result = super().step(action)
        _, _, terminated, truncated, info = result
        self._has_failed = truncated or (terminated and not info["flag_get"])
        return result

    def log(self) -> EpisodeLog:
        """Return what leads here again. There must have been an episode."""
        return EpisodeLog(
            self._noise_at_start,
            bytes(self.decisions),
            self._start,
            self._retries,
            len(self._marks),
        )

    def replay(self, log: EpisodeLog) -> np.ndarray:
        """Play an episode up to where it was logged, without what was taken back."""
        observation = super().replay(log)
        while len(self._marks) > log.marks:
            self._marks.popleft()
        return observation

    def _happens(self, share: float) -> bool:
        return share > 0 and bool(self.np_random.random() < share)

    def _begin_at(self, start: int) -> tuple[np.ndarray, dict[str, Any]]:
        self._start = start
        self._noise_at_start = self.np_random.bit_generator.state
        return self.go_to(self._starts[start])

    def _begin_as(self, log: EpisodeLog) -> tuple[np.ndarray, dict[str, Any]]:
        self._marks.clear()
        self._retries = {}
        self._has_failed = False
        if log.start is not None:
            return self._begin_at(log.start)
        self._start = None
        return super()._begin_as(log)

    def _before_step_of(self, log: EpisodeLog) -> None:
        noise = log.retries.get(len(self.decisions))
        if noise is not None:
            self.np_random.bit_generator.state = dict(noise)
            self._marks.append(self.mark())
            self._go_back_to(len(self._marks) - 1)

    def _go_back_to(self, index: int) -> tuple[np.ndarray, dict[str, Any]]:
        mark = self._marks[index]
        # The next step makes it again.
        while len(self._marks) > index:
            self._marks.pop()
        agent_step = len(mark.decisions)
        earlier = {at: noise for at, noise in self._retries.items() if at < agent_step}
        self._retries = earlier | {agent_step: self.np_random.bit_generator.state}
        return self.go_to(mark)
