"""DAgger: a teacher says what it would have done where its pupil has been.

Ross, Gordon and Bagnell 2011, https://arxiv.org/abs/1011.0686.
"""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from queue import SimpleQueue
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from warpzone.agents.cloning import Demonstration
from warpzone.agents.policy import Policy, action_odds
from warpzone.demos.recording import Recording
from warpzone.game.env import MarioEnv
from warpzone.params import GameParams, NoiseParams


def ask_teacher(
    teacher: Policy,
    temperature: float,
    recordings: Sequence[Recording],
    game: GameParams,
    noise: NoiseParams,
    on_episode: Callable[[], object] = lambda: None,
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Play episodes again and say, for every step, what the teacher would have done.

    Whoever is stuck is where the teacher hardly ever is: it knows no way out either. So
    it is not asked there, and every action is as probable as any other: most often a
    button has been held for too long, and whatever lets go of it helps.

    Args:
        teacher: A policy that sees RAM.
        temperature: That it plays with.
        recordings: Episodes of `warpzone.evaluation.play_episodes`, whoever played.
        game: What they were played on.
        noise: What they were disturbed by.
        on_episode: Called after each episode.

    Returns:
        What was to be seen and how probable each action is: of each episode, for as
        long as Mario got on; and what followed, where one ended for want of progress.

    Raises:
        RuntimeError: If an episode ends in another state than it did before.
    """
    threads = min(os.process_cpu_count() or 1, len(recordings))
    free: SimpleQueue[MarioEnv] = SimpleQueue()

    def replay(recording: Recording) -> _Replay:
        env = free.get()
        try:
            return _replay(env, recording)
        finally:
            free.put(env)

    episodes: list[Demonstration] = []
    stuck: list[Demonstration] = []
    with ExitStack() as stack, ThreadPoolExecutor(threads) as pool:
        for _ in range(threads):
            free.put(stack.enter_context(closing(MarioEnv(game, noise))))
        for replayed in pool.map(replay, recordings):
            odds = action_odds(teacher, replayed.ram, temperature)
            told = (odds / odds.sum(axis=1, keepdims=True)).astype(np.float32)
            pictures, pictures_stuck = np.split(replayed.pictures, [len(told)])
            episodes.append(Demonstration(pictures, told))
            if len(pictures_stuck):
                actions = told.shape[1]
                any_ = np.full((len(pictures_stuck), actions), 1 / actions, np.float32)
                stuck.append(Demonstration(pictures_stuck, any_))
            on_episode()
    return episodes, stuck


class _Replay(NamedTuple):
    """An episode, step by step."""

    pictures: np.ndarray
    ram: np.ndarray
    """As long as Mario got on."""


def _replay(env: MarioEnv, recording: Recording) -> _Replay:
    """Return what was to be seen and the RAM before each step of an episode."""
    observations, ram = [], []
    observation, _ = env.reset(seed=recording.seed)
    for buttons in recording.decided:
        observations.append(observation)
        ram.append(np.array(env.play.ram))
        observation, *_ = env.step(env.buttons.index(buttons))
    if Recording.of_episode(env, recording.seed) != recording:
        raise RuntimeError(f"the episode of seed {recording.seed} went another way")
    # At first the older pictures still show him move.
    stuck = max(0, env.idle_steps - env.game.frame_stack) if env.is_stuck else 0
    return _Replay(_share_pictures(observations), np.stack(ram[: len(ram) - stuck]))


def _share_pictures(observations: Sequence[np.ndarray]) -> np.ndarray:
    """Return the observations of an episode as a view that holds each picture once."""
    depth = len(observations[0])
    pictures = np.stack([*observations[0], *(seen[-1] for seen in observations[1:])])
    return np.moveaxis(sliding_window_view(pictures, depth, axis=0), -1, 1)
