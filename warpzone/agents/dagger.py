"""DAgger: the expert shows what to do where the learner goes wrong.

Ross, Gordon and Bagnell 2011, https://arxiv.org/abs/1011.0686, and as in Go-Explore
(Ecoffet et al. 2021, https://arxiv.org/abs/2004.12919) the game is wound back and not
begun again: where the learner dies, the planner plays the last steps again and a few
more, and what it does is learnt. Then the learner goes on from there. So all that is
shown is about what the learner cannot do yet, and every episode leads through the whole
level.
"""

import os
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from enum import Enum, auto

import numpy as np

from warpzone.agents.agent import Agent, action_rng
from warpzone.agents.cloning import Demonstration
from warpzone.demos.planner import Planner
from warpzone.game.env import EnvSnapshot, MarioEnv
from warpzone.game.state import is_cleared
from warpzone.params import GameParams, NoiseParams, PretrainBCParams

MEMORY = 64
"""Agent steps that can be wound back."""
ATTEMPTS = 3
"""Of the planner, each from further back, before an episode is given up."""


@dataclass(frozen=True)
class Lesson:
    """An episode in which the planner has helped the learner."""

    shown: Demonstration
    """What the planner did; may be empty."""
    agent_steps: int
    """Of both."""
    deaths: int
    """How often the learner died or got stuck, the last one included."""
    is_cleared: bool
    """By both together."""
    emulator_frames: int
    """Emulated to plan and to play."""


class Dagger:
    """Environments in which a planner helps the learner.

    Args:
        game: The learning problem.
        noise: What the episodes are disturbed by.
        params: When the planner helps, and for how long.
        seats: Episodes played side by side; no result depends on it.
    """

    def __init__(
        self, game: GameParams, noise: NoiseParams, params: PretrainBCParams, seats: int
    ) -> None:
        self._seats = [_Seat(game, noise, params) for _ in range(seats)]

    def play(
        self,
        learner: Agent,
        seeds: Sequence[int],
        on_episode: Callable[[], object] = lambda: None,
    ) -> list[Lesson]:
        """Play one episode a seed.

        An episode depends on the learner and its seed only; threads change nothing.

        Args:
            learner: The one to be taught.
            seeds: One an episode.
            on_episode: Called after each episode.

        Returns:
            The episodes, in the order of their seeds.
        """
        waiting = deque(range(len(seeds)))
        playing: dict[int, _Seat] = {}
        helped: dict[Future[State], int] = {}
        lessons: dict[int, Lesson] = {}
        free = deque(self._seats)

        def end(index: int) -> None:
            free.append(seat := playing.pop(index))
            lessons[index] = seat.lesson()
            on_episode()

        with ThreadPoolExecutor(os.process_cpu_count()) as pool:
            while waiting or playing:
                begun = [waiting.popleft() for _ in range(min(len(free), len(waiting)))]
                playing |= (seated := {index: free.popleft() for index in begun})
                list(pool.map(_Seat.begin, seated.values(), [seeds[i] for i in begun]))
                # Help takes seconds; the others play on meanwhile.
                alone = sorted(playing.keys() - set(helped.values()))
                if alone:
                    seats = [playing[index] for index in alone]
                    actions = learner.act(
                        np.stack([seat.observation for seat in seats]),
                        [seat.rng for seat in seats],
                    )
                    for index, state in zip(
                        alone, pool.map(_Seat.step, seats, actions), strict=True
                    ):
                        if state is State.LOST:
                            helped[pool.submit(playing[index].help)] = index
                        elif state is State.OVER:
                            end(index)
                else:
                    wait(helped, return_when=FIRST_COMPLETED)
                for future in [future for future in helped if future.done()]:
                    index = helped.pop(future)
                    if future.result() is State.OVER:
                        end(index)
        return [lessons[index] for index in range(len(seeds))]


class State(Enum):
    """How an episode stands."""

    ON = auto()
    """The learner can play."""
    LOST = auto()
    """The learner has died or is stuck."""
    OVER = auto()
    """Cleared, out of time, or given up."""


class _Seat:
    """An environment with its planner, and who plays."""

    def __init__(
        self, game: GameParams, noise: NoiseParams, params: PretrainBCParams
    ) -> None:
        self._params = params
        self.env = MarioEnv(game, noise)
        self.planner = Planner(self.env)

    def begin(self, seed: int) -> None:
        self.observation, _ = self.env.reset(seed=seed)
        self.planner.forget()
        self.rng = action_rng(seed)
        self._past: deque[EnvSnapshot] = deque(maxlen=MEMORY)
        self._shown: list[tuple[np.ndarray, int]] = []
        self._deaths = 0
        self._agent_steps = 0
        self._frames_before = self.planner.emulator_frames

    def step(self, action: int) -> State:
        """Play a step."""
        self._past.append(self.env.snapshot())
        self._agent_steps += 1
        self.observation, _, terminated, truncated, _ = self.env.step(action)
        out_of_time = len(self.env.decisions) >= self.env.game.time_limit
        if is_cleared(self.env.play.ram) or out_of_time:
            return State.OVER
        return State.LOST if terminated or truncated else State.ON

    def help(self) -> State:
        """Let the planner play the last steps again and some more."""
        self._deaths += 1
        if self._deaths > self._params.max_rescues:
            return State.OVER
        steps = 0
        for _ in range(ATTEMPTS):
            # What did not help is undone and begun a little earlier.
            steps += int(self.rng.integers(*self._params.rewind, endpoint=True))
            beyond = int(self.rng.integers(*self._params.beyond, endpoint=True))
            for _ in range(min(steps, len(self._past)) - 1):
                self._past.pop()
            self.observation = self.env.restore(self._past.pop())
            self.planner.forget()
            turn: list[tuple[np.ndarray, int]] = []
            state = State.ON
            while state is State.ON and len(turn) < steps + beyond:
                action = self.planner.decide()
                turn.append((self.observation, action))
                state = self.step(action)
            if state is not State.LOST:
                self._shown += turn
                return state
            steps = len(turn)
        return State.OVER

    def lesson(self) -> Lesson:
        """Return what the episode that has just ended has taught."""
        picture_stack = self.env.observation_space.shape or ()
        shown = Demonstration(
            np.array([o for o, _ in self._shown], np.uint8).reshape(-1, *picture_stack),
            np.array([action for _, action in self._shown], np.int64),
        )
        return Lesson(
            shown,
            self._agent_steps,
            self._deaths,
            is_cleared(self.env.play.ram),
            self.planner.emulator_frames - self._frames_before,
        )
