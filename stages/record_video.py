"""Film episodes of an agent that were evaluated under the default noise.

AGENT is any that was evaluated; record_video.episodes names the episodes. Reads
data/episodes/ENV/TASK/AGENT/default.{csv,jsonl}. Writes
data/videos/ENV/TASK/AGENT/EPISODE.mp4 (in colour, every frame that the player
controls), plots/record_video/ENV/TASK/AGENT.gif (the end of the last one) and
metrics/record_video/ENV/TASK/AGENT.json. Each film replays a recording and checks that
the world ends in the recorded state, so it shows the episode that was evaluated.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import write_json
from warpzone.core.names import cell
from warpzone.core.params import Params
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import env_class
from warpzone.episodes.recording import Recording, read_recordings, replay
from warpzone.episodes.table import read_episodes
from warpzone.report.video import write_gif, write_mp4

NOISE = "default"
SCALE = 2


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "agent")
    task, agent = arguments.task, arguments.agent
    world, video = env_class(params.env), params.record_video
    source = cell("data/episodes", params.env, task, agent, f"{NOISE}.csv")
    table = read_episodes(source, world, agent=agent, task=task, noise=NOISE)
    recordings = read_recordings(source.with_suffix(".jsonl"))
    seeds = [recording.seed for recording in recordings]
    if seeds != table["seed"].tolist():
        raise InputError(
            f"{source.with_suffix('')}: the .csv has {len(table)} episodes from seed "
            f"{table['seed'][0]}, the .jsonl {len(seeds)} from seed {seeds[0]}: run "
            "stages/evaluate.py again"
        )
    metrics: dict[str, object] = {}
    fps, ending = world.FRAMES_PER_SECOND, iter(())
    for kind in video.episodes:
        index = choose(table, kind)
        path = cell("data/videos", params.env, task, agent, f"{kind}.mp4")
        frames = write_mp4(path, film(recordings[index], params, source), fps, SCALE)
        row = table.iloc[index]
        metrics |= {
            f"{kind}_seed": int(row["seed"]),
            f"{kind}_progress": float(row["progress"]),
            f"{kind}_cause": str(row["cause"]),
            f"{kind}_frames": frames,
        }
        start = max(0, frames - round(video.gif_seconds * fps))
        ending = islice(film(recordings[index], params, source), start, None)
    gif = cell("plots/record_video", params.env, task, f"{agent}.gif")
    write_gif(gif, ending, fps, video.gif_fps, video.gif_width)
    write_json(cell("metrics/record_video", params.env, task, f"{agent}.json"), metrics)


def choose(table: pd.DataFrame, kind: str) -> int:
    """Return the row of an episode: median, best, worst, or a number.

    The median is the middle one by progress, the lower of two middle ones. The best one
    gets furthest; a success counts as further than any progress, and a faster success
    as further than a slower one. The worst is the other end of that order. Ties go to
    fewer agent steps, then to the smaller seed.

    Raises:
        InputError: If it is a number and there are not so many.
    """
    if kind.isdecimal():
        if int(kind) >= len(table):
            raise InputError(
                f"params.yaml: record_video.episodes has {kind}, but there are "
                f"{len(table)}, from 0"
            )
        return int(kind)
    if kind == "median":
        ordered = table.sort_values(["progress", "agent_steps", "seed"])
        return int(ordered.index[(len(table) - 1) // 2])
    furthest = table["progress"].mask(table["success"], np.inf)
    speed = (-table["agent_steps"]).where(table["success"], 0)
    is_worst = kind == "worst"
    ordered = table.assign(furthest=furthest, speed=speed).sort_values(
        ["furthest", "speed", "agent_steps", "seed"],
        ascending=[is_worst, is_worst, True, True],
    )
    return int(ordered.index[0])


def film(recording: Recording, params: Params, source: Path) -> Iterator[np.ndarray]:
    """Replay a recording and yield what it looks like after each frame."""
    name = f"{source.with_suffix('.jsonl')}, seed {recording.seed}"
    kwargs = params.world.kwargs
    with closing(recording.make_env(kwargs, render_mode="rgb_array")) as env:
        # The first one is the world before the first frame.
        for _ in islice(replay(recording, env, name), 1, None):
            frame = env.render()
            assert isinstance(frame, np.ndarray)
            yield frame


if __name__ == "__main__":
    run_stage(main)
