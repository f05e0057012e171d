"""Demonstrations: a world's demonstrator plays under noise, on threads."""

import os
import queue
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field

from warpzone.core.params import Params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.curriculum import MARK_EVERY
from warpzone.envs.registry import Demonstrator, make_demonstrator, make_env
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.episodes.recording import (
    Recording,
    is_same_player,
    replay_steps,
    watch,
)


@dataclass
class Demonstrations:
    """What a demonstrator did on a level; those that succeeded are ``kept``."""

    kept: list[Recording] = field(default_factory=list)
    tried: int = 0
    emulated_frames: int = 0
    """To plan and to play them all."""


def demonstrate(
    params: Params, level: str, on_try: Callable[[bool], object] = lambda _: None
) -> Demonstrations:
    """Let the demonstrator play a level until it has succeeded often enough.

    The tries come in the order of their seeds, so they are the same for any number of
    threads. No more of them are under way than may still be needed. ``on_try`` is
    called after each with whether it succeeded.

    Raises:
        InputError: If what succeeded does not replay.
    """
    env, kwargs = params.env, params.world.kwargs
    wanted, max_tries = params.collect_demos.episodes, params.collect_demos.max_tries
    threads = os.process_cpu_count() or 1
    players: queue.SimpleQueue[tuple[ReplayableEnv, Demonstrator]] = queue.SimpleQueue()

    def play(index: int) -> tuple[Recording, int]:
        played, demonstrator = player = players.get()
        episode = episode_seed(Purpose.DEMONSTRATION, params.seed, index)
        before = demonstrator.emulated_frames
        played.reset(seed=episode)
        demonstrator.reset()
        while played.cause is None:
            played.step(demonstrator.decide())
        recording = Recording.of_episode(played, episode)
        frames = demonstrator.emulated_frames - before
        players.put(player)
        if recording.outcome == "success":
            watch(recording, kwargs, ("state",), f"demonstration with seed {episode}")
        return recording, frames

    result = Demonstrations()
    with ExitStack() as stack:
        for _ in range(min(threads, wanted)):
            one = make_env(env, kwargs, level, params.noise, "state")
            stack.enter_context(closing(one))
            players.put((one, make_demonstrator(env, one)))
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        under_way: deque[Future[tuple[Recording, int]]] = deque()
        while True:
            begun = result.tried + len(under_way)
            needed = min(threads, wanted - len(result.kept), max_tries - result.tried)
            for index in range(begun, result.tried + needed):
                under_way.append(pool.submit(play, index))
            if not under_way:
                return result
            recording, frames = under_way.popleft().result()
            result.tried += 1
            result.emulated_frames += frames
            is_success = recording.outcome == "success"
            if is_success:
                result.kept.append(recording)
            on_try(is_success)


def start_states(
    recordings: Sequence[Recording],
    levels: Sequence[str],
    envs: Mapping[str, ReplayableEnv],
) -> dict[str, list[Snapshot]]:
    """Return states along recordings, by level.

    Recordings of another emulator are passed over: its states are no good here. The
    states are good for as long as the envs, one a level, are open; a level without one
    has no starts.
    """
    starts: dict[str, list[Snapshot]] = {level: [] for level in levels}
    usable = [
        one
        for one in recordings
        if one.level in envs and is_same_player(one.version, envs[one.level].version)
    ]
    with progress_bar(len(usable), "finding starts", "episode") as bar:
        for recording in usable:
            env = envs[recording.level]
            for step, _ in enumerate(replay_steps(recording, env, "demonstrations")):
                if step % MARK_EVERY == 0:
                    starts[recording.level].append(env.snapshot())
            bar.update()
    return starts
