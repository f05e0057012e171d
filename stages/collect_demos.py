"""Collect demonstrations: the planner plays the level under noise.

Reads the game, and the recordings of people in data/recordings/ if there are any.
Writes data/demos.jsonl and metrics/collect_demos.json.
"""

import os
import queue
from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from warpzone.core.errors import InputError
from warpzone.core.files import write_json, write_lines
from warpzone.core.params import Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.planner import Planner
from warpzone.episodes.recording import Recording, read_recordings, watch

PARAMS = Path("params.yaml")
RECORDINGS = Path("data/recordings")
DEMOS = Path("data/demos.jsonl")
METRICS = Path("metrics/collect_demos.json")


@dataclass(frozen=True)
class Try:
    """An episode of the planner, and the frames emulated to plan and play it."""

    recording: Recording
    emulator_frames: int


def main() -> None:
    """Keep what clears the level and replays exactly."""
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    human = human_recordings(params)
    tries = list(planner_tries(params))
    kept = [try_.recording for try_ in tries if try_.recording.outcome == "clear"]
    if len(kept) < params.collect_demos.episodes:
        raise InputError(
            f"the planner cleared {params.game.level} in {len(kept)} of {len(tries)} "
            f"tries, collect_demos.episodes = {params.collect_demos.episodes}: raise "
            "collect_demos.max_tries or lower collect_demos.episodes"
        )
    demos = human + kept
    write_lines(DEMOS, (demo.to_json() for demo in demos))
    write_json(
        METRICS,
        {
            "episodes_human": len(human),
            "episodes_tried": len(tries),
            "episodes_kept": len(kept),
            "emulator_frames": sum(try_.emulator_frames for try_ in tries),
            "agent_steps_mean": sum(len(demo.decided) for demo in demos) / len(demos),
        },
    )


def human_recordings(params: Params) -> list[Recording]:
    """Read and check the recordings that people made of the level."""
    recordings: list[Recording] = []
    for path in sorted(RECORDINGS.glob("*.jsonl")):
        for number, recording in enumerate(read_recordings(path), start=1):
            if recording.level == params.game.level:
                watch(recording, params.game, f"{path}, line {number}")
                recordings.append(recording)
    return recordings


def planner_tries(params: Params) -> Iterator[Try]:
    """Let the planner play until it has cleared the level often enough.

    The tries come in the order of their seeds, so they are the same for any number of
    threads. No more of them are under way than may still be needed.
    """
    wanted = params.collect_demos.episodes
    threads = min(os.process_cpu_count() or 1, wanted)
    planners: queue.SimpleQueue[Planner] = queue.SimpleQueue()
    for _ in range(threads):
        planners.put(Planner(MarioEnv(params.game, params.noise)))

    def play(index: int) -> Try:
        planner = planners.get()
        seed = episode_seed(Purpose.DEMONSTRATION, params.seed, index)
        before = planner.emulator_frames
        demo = planner.demonstrate(seed)
        frames = planner.emulator_frames - before
        planners.put(planner)
        if demo.outcome == "clear":
            watch(demo, params.game, f"demonstration with seed {seed}")
        return Try(demo, frames)

    under_way: deque = deque()
    with (
        ThreadPoolExecutor(threads) as pool,
        progress_bar(wanted, "Collecting demonstrations", "episode") as bar,
    ):
        indices = iter(range(params.collect_demos.max_tries))
        while True:
            while len(under_way) < min(threads, wanted - bar.n):
                index = next(indices, None)
                if index is None:
                    break
                under_way.append(pool.submit(play, index))
            if not under_way:
                return
            attempt = under_way.popleft().result()
            bar.update(attempt.recording.outcome == "clear")
            yield attempt


if __name__ == "__main__":
    run_stage(main)
