"""The one loop that plays episodes."""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from warpzone.envs.replayable import ReplayableEnv
from warpzone.envs.threads import Threads
from warpzone.episodes.agent import Agent, action_rng
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import row_of


@dataclass
class _Slot:
    """Where one episode after the other is played."""

    env: ReplayableEnv
    index: int | None = None
    """Of the episode that is under way, if any."""
    rng: np.random.Generator | None = None
    action: int = 0
    info: Mapping[str, Any] | None = None
    """Of the last step, once the episode has ended."""


def play_episodes(
    agent: Agent,
    make_env: Callable[[str], ReplayableEnv],
    levels: Sequence[str],
    seeds: Sequence[int],
    n_envs: int,
    on_episode: Callable[[], object] = lambda: None,
    on_step: Callable[[int, Mapping[str, np.ndarray]], object] | None = None,
) -> tuple[pd.DataFrame, list[Recording]]:
    """Play one episode a seed.

    An episode depends on its seed and level only: the seed fixes its noise and, through
    a generator of its own, the actions that are drawn. Threads and ``n_envs`` change
    nothing.

    Args:
        agent: Who decides.
        make_env: Makes an env on a level, whose observations are a dictionary with what
            the agent sees.
        levels: The task's; episodes take them in turns.
        seeds: One an episode.
        n_envs: Episodes played side by side.
        on_episode: Called after each episode.
        on_step: Called before each agent step, with the place of the episode's seed and
            its observation.

    Returns:
        The table, with all columns but ``agent``, ``task`` and ``noise``, and the
        recordings. Both follow the seeds.
    """
    waiting = deque(range(len(seeds)))
    count = min(n_envs, len(seeds))
    slots: dict[int, _Slot] = {}
    episodes: dict[int, tuple[dict[str, Any], Recording]] = {}
    observations: dict[str, np.ndarray] = {}

    with ExitStack() as stack, closing(Threads()) as threads:

        def level_of(index: int) -> str:
            return levels[index % len(levels)]

        def make(place: int) -> None:
            env = stack.enter_context(closing(make_env(level_of(place))))
            slots[place] = _Slot(env)

        def see(place: int, observation: Mapping[str, np.ndarray]) -> None:
            for key, array in observations.items():
                array[place] = observation[key]

        def begin(place: int) -> None:
            slot = slots[place]
            assert slot.index is not None
            if slot.env.level != (level := level_of(slot.index)):
                slot.env.close()
                slot.env = stack.enter_context(closing(make_env(level)))
            observation, _ = slot.env.reset(seed=seeds[slot.index])
            slot.rng = action_rng(seeds[slot.index])
            see(place, observation)

        def step(place: int) -> None:
            slot = slots[place]
            if on_step is not None:
                assert slot.index is not None
                on_step(
                    slot.index, {k: array[place] for k, array in observations.items()}
                )
            observation, _, terminated, truncated, info = slot.env.step(slot.action)
            see(place, observation)
            slot.info = info if terminated or truncated else None

        threads.run(make, range(count))
        for key, space in slots[0].env.observation_space.items():  # pyright: ignore[reportAttributeAccessIssue]
            observations[key] = np.empty((count, *space.shape), space.dtype)
        while len(episodes) < len(seeds):
            begun = []
            for place in range(count):
                if slots[place].index is None and waiting:
                    slots[place].index = waiting.popleft()
                    begun.append(place)
            threads.run(begin, begun)
            playing = [
                place for place in range(count) if slots[place].index is not None
            ]
            seen = {key: observations[key][playing] for key in agent.keys}
            rngs = [rng for place in playing if (rng := slots[place].rng) is not None]
            for place, action in zip(playing, agent.act(seen, rngs), strict=True):
                slots[place].action = int(action)
            threads.run(step, playing)
            for place in playing:
                slot = slots[place]
                if slot.info is not None and slot.index is not None:
                    seed = seeds[slot.index]
                    recording = Recording.of_episode(slot.env, seed)
                    episodes[slot.index] = row_of(slot.env, seed, slot.info), recording
                    slot.index = None
                    on_episode()

    rows, recordings = zip(*(episodes[i] for i in range(len(seeds))), strict=True)
    return pd.DataFrame(rows).astype({"place": "Int64"}), list(recordings)
