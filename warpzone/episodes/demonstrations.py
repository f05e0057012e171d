"""Demonstrations: a world's demonstrator plays under noise, on threads."""

import queue
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from typing import Any

from warpzone.core.params import NoiseParams
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.curriculum import MARK_EVERY
from warpzone.envs.registry import Demonstrator, make_demonstrator, make_env
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.episodes.recording import Recording, replay_steps, watch


@dataclass
class Demonstrations:
    """What a demonstrator did on a level."""

    kept: list[Recording] = field(default_factory=list)
    """Those that succeeded."""
    tried: int = 0
    emulated_frames: int = 0
    """To plan and to play them all."""


def demonstrate(
    env: str,
    kwargs: Mapping[str, Any],
    level: str,
    noise: NoiseParams,
    seed: int,
    wanted: int,
    max_tries: int,
    threads: int,
    on_success: Callable[[bool], object] = lambda _: None,
) -> Demonstrations:
    """Let the demonstrator play until it has succeeded often enough.

    The tries come in the order of their seeds, so they are the same for any number of
    threads. No more of them are under way than may still be needed.

    Args:
        env: The world.
        kwargs: Of its env.
        level: Where to play.
        noise: What the seeds are drawn for.
        seed: That the episodes' seeds derive from.
        wanted: Successes.
        max_tries: Episodes after which to give up.
        threads: How many play side by side.
        on_success: Called after each episode with whether it succeeded.

    Raises:
        InputError: If what succeeded does not replay.
    """
    players: queue.SimpleQueue[tuple[ReplayableEnv, Demonstrator]] = queue.SimpleQueue()
    result = Demonstrations()

    def play(index: int) -> tuple[Recording, int]:
        player = players.get()
        played, demonstrator = player
        episode = episode_seed(Purpose.DEMONSTRATION, seed, index)
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

    with ExitStack() as stack:
        for _ in range(min(threads, wanted)):
            one = make_env(env, kwargs, level, noise, "state")
            stack.enter_context(closing(one))
            players.put((one, make_demonstrator(env, one)))
        pool = stack.enter_context(ThreadPoolExecutor(threads))
        under_way: deque[Future[tuple[Recording, int]]] = deque()
        begun = 0
        while True:
            open_ = min(threads, wanted - len(result.kept)) - len(under_way)
            for _ in range(min(open_, max_tries - begun)):
                under_way.append(pool.submit(play, begun))
                begun += 1
            if not under_way:
                return result
            recording, frames = under_way.popleft().result()
            result.tried += 1
            result.emulated_frames += frames
            is_success = recording.outcome == "success"
            if is_success:
                result.kept.append(recording)
            on_success(is_success)


def start_states(
    recordings: Sequence[Recording],
    levels: Sequence[str],
    envs: Mapping[str, ReplayableEnv],
) -> dict[str, list[Snapshot]]:
    """Return states along recordings, by level.

    Args:
        recordings: Those that another kind of console made are passed over: its states
            are no good here.
        levels: Which to look for.
        envs: Where they are replayed, by level; no start where there is none. The
            states are good for as long as these are open.
    """
    starts: dict[str, list[Snapshot]] = {level: [] for level in levels}
    versions = {level: env.version for level, env in envs.items()}
    usable = [one for one in recordings if versions.get(one.level) == one.version]
    with progress_bar(len(usable), "finding starts", "episode") as bar:
        for recording in usable:
            env = envs[recording.level]
            for step, _ in enumerate(replay_steps(recording, env, "demonstrations")):
                if step % MARK_EVERY == 0:
                    starts[recording.level].append(env.snapshot())
            bar.update()
    return starts
