"""What it takes to play, and the agent that everything is measured against."""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np

from warpzone.envs.replayable import ReplayableEnv

type Observations = Mapping[str, np.ndarray]
"""By key, each of shape ``(N, ...)``."""


class Agent(Protocol):
    """Whatever chooses actions."""

    @property
    def keys(self) -> tuple[str, ...]:
        """What it sees: keys of the observations."""
        ...

    @property
    def memory_size(self) -> int:
        """Numbers that it remembers of an episode."""
        ...

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return an action for each of N environments, shape ``(N,)``, int64.

        Beside them, return what it remembers next of each, in the form of ``memories``:
        shape ``(N, memory_size)``, float32. All are 0 where an episode begins.

        The choice in one environment depends on its observation, its memory and its
        generator only, to the bit, not on what else is asked in the same call.
        """
        ...


class RandomAgent:
    """Every action is as likely as any other."""

    keys, memory_size = ("state",), 0

    def __init__(self, actions: int) -> None:
        self._actions = actions

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        drawn = [rng.integers(self._actions) for rng in rngs]
        return np.array(drawn, np.int64), memories


class ScriptAgent:
    """Holds what the script of a world says, see `ReplayableEnv.script`."""

    keys, memory_size = ("state",), 0

    def __init__(self, env: ReplayableEnv) -> None:
        self._script = env.script
        self._actions = np.zeros(256, np.int64)
        self._actions[list(env.codes)] = range(len(env.codes))

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        return self._actions[self._script(observations["state"])], memories


def action_rng(seed: int) -> np.random.Generator:
    """Return what an agent draws from in an episode.

    Not ``default_rng(seed)``: the environment draws its noise from that stream.
    """
    [stream] = np.random.SeedSequence(seed).spawn(1)
    return np.random.default_rng(stream)
