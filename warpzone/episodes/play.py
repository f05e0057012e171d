"""The one loop that plays episodes, and what it plays under a condition."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from warpzone.core.params import ConditionParams, Params
from warpzone.envs.registry import env_class, make_env
from warpzone.envs.replayable import ReplayableEnv
from warpzone.envs.threads import Threads
from warpzone.episodes.agent import Agent, action_rng
from warpzone.episodes.recording import Recording
from warpzone.episodes.table import row_of


def play_condition(
    params: Params,
    noise: ConditionParams,
    load: Callable[[ReplayableEnv], Agent],
    levels: Sequence[str],
    seeds: Sequence[int],
    on_episode: Callable[[], object] = lambda: None,
) -> tuple[pd.DataFrame, list[Recording]]:
    """Play as `play_episodes`, with the env that params.yaml describes.

    Args:
        params: Its values.
        noise: The condition; with ``reference`` the env is the reference.
        load: Makes the agent, from an env that shows all there is to see.
        levels: Those of the task.
        seeds: Those of the episodes.
        on_episode: Is called after each of them.
    """
    reference = params.world.reference if noise.reference else {}
    kwargs = params.world.kwargs | reference
    make = partial(make_env, params.env, kwargs, noise=noise)
    everything = env_class(params.env).OBS_TYPES
    with closing(make(level=levels[0], obs_type=everything)) as env:
        agent = load(env)
    return play_episodes(
        agent,
        lambda level: make(level=level, obs_type=agent.keys),
        levels,
        seeds,
        params.evaluate.n_envs,
        on_episode,
    )


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
    nothing. Episodes take the ``levels`` in turns.

    ``make_env`` makes an env on a level, whose observations are a dictionary with what
    the agent sees. ``on_step`` is called before each agent step, with the place of the
    episode's seed and its observation; ``on_episode`` after each episode.

    Returns:
        The table, with all columns but ``agent``, ``task`` and ``noise``, and the
        recordings. Both follow the seeds.
    """
    count = min(n_envs, len(seeds))
    episodes: dict[int, tuple[dict[str, Any], Recording]] = {}
    # By the place where an episode is played.
    envs: dict[int, ReplayableEnv] = {}
    under_way: dict[int, int] = {}
    rngs: dict[int, np.random.Generator] = {}
    actions: dict[int, int] = {}
    ended: dict[int, Mapping[str, Any]] = {}
    observations: dict[str, np.ndarray] = {}
    memories = np.zeros((count, agent.memory_size), np.float32)

    with ExitStack() as stack, closing(Threads()) as threads:

        def make(place: int, level: str) -> None:
            envs[place] = stack.enter_context(closing(make_env(level)))

        def see(place: int, observation: Mapping[str, np.ndarray]) -> None:
            for key, array in observations.items():
                array[place] = observation[key]

        def begin(place: int) -> None:
            index = under_way[place]
            if envs[place].level != (level := levels[index % len(levels)]):
                envs[place].close()
                make(place, level)
            observation, _ = envs[place].reset(seed=seeds[index])
            rngs[place] = action_rng(seeds[index])
            memories[place] = 0
            see(place, observation)

        def step(place: int) -> None:
            if on_step is not None:
                seen = {key: array[place] for key, array in observations.items()}
                on_step(under_way[place], seen)
            observation, *_, info = envs[place].step(actions[place])
            see(place, observation)
            if envs[place].cause is not None:
                ended[place] = info

        threads.run(
            lambda place: make(place, levels[place % len(levels)]), range(count)
        )
        for key, space in envs[0].observation_space.items():  # pyright: ignore[reportAttributeAccessIssue]
            observations[key] = np.empty((count, *space.shape), space.dtype)
        waiting = iter(range(len(seeds)))
        while len(episodes) < len(seeds):
            free = [place for place in range(count) if place not in under_way]
            begun = dict(zip(free, waiting, strict=False))
            under_way |= begun
            threads.run(begin, list(begun))
            playing = sorted(under_way)
            seen = {key: observations[key][playing] for key in agent.keys}
            drawn_from = [rngs[place] for place in playing]
            chosen, memories[playing] = agent.act(seen, memories[playing], drawn_from)
            actions = dict(zip(playing, map(int, chosen), strict=True))
            threads.run(step, playing)
            for place, info in sorted(ended.items()):
                index = under_way.pop(place)
                recording = Recording.of_episode(envs[place], seeds[index])
                row = row_of(envs[place], seeds[index], info)
                episodes[index] = row, recording
                on_episode()
            ended.clear()

    rows, recordings = zip(*(episodes[i] for i in range(len(seeds))), strict=True)
    return pd.DataFrame(rows).astype({"place": "Int64"}), list(recordings)
