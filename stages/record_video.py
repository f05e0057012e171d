"""Film an agent: its median and its best evaluated episode.

AGENT is record_video.agent in params.yaml. Reads data/episodes/AGENT.csv and
data/episodes/AGENT.jsonl. Writes data/videos/AGENT-median.mp4,
data/videos/AGENT-best.mp4 (60 frames a second, in colour, every frame that the player
controls), plots/record_video/AGENT.gif (the end of the best episode) and
metrics/record_video.json.

The median episode is the middle one by distance, the lower of two middle ones. The best
one gets furthest; a clear counts as further than any distance, and a faster clear as
further than a slower one. Ties go to fewer agent steps, then to the smaller seed.

Each film replays a recording and checks that the console ends in the recorded state, so
it shows the episode that was evaluated.
"""

from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import write_json
from warpzone.core.params import load_params
from warpzone.core.stage import argument_parser, run_stage
from warpzone.episodes.evaluation import read_episodes
from warpzone.episodes.recording import Recording, read_recordings, replay
from warpzone.report.video import write_gif, write_mp4

PARAMS = Path("params.yaml")
EPISODES = Path("data/episodes")
VIDEOS = Path("data/videos")
GIFS = Path("plots/record_video")
METRICS = Path("metrics/record_video.json")

FPS = 60
SCALE = 2


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS).record_video
    agent = params.agent
    table = read_episodes(EPISODES / f"{agent}.csv", agent)
    recordings = read_recordings(EPISODES / f"{agent}.jsonl")
    check_same_episodes(table, recordings, agent)

    metrics = {}
    chosen = {"median": median_episode(table), "best": best_episode(table)}
    for kind, index in chosen.items():
        video = VIDEOS / f"{agent}-{kind}.mp4"
        frames = write_mp4(video, film(recordings[index], agent), FPS, SCALE)
        metrics |= {
            f"{kind}_seed": recordings[index].seed,
            f"{kind}_x_pos_max": table["x_pos_max"].tolist()[index],
            f"{kind}_cause": table["cause"].tolist()[index],
            f"{kind}_frames": frames,
            f"{kind}_seconds": round(frames / FPS, 3),
        }

    start = max(0, metrics["best_frames"] - round(params.gif_seconds * FPS))
    ending = islice(film(recordings[chosen["best"]], agent), start, None)
    gif = GIFS / f"{agent}.gif"
    write_gif(gif, ending, FPS, params.gif_fps, params.gif_width)
    write_json(METRICS, {"agent": agent, **metrics})


def median_episode(table: pd.DataFrame) -> int:
    """Row of the episode with the median distance."""
    ordered = table.sort_values(["x_pos_max", "agent_steps", "seed"])
    return int(ordered.index[(len(table) - 1) // 2])


def best_episode(table: pd.DataFrame) -> int:
    """Row of the fastest clear, or without one of the episode that got furthest."""
    distance = table["x_pos_max"].mask(table["cleared"], np.inf)
    ordered = table.assign(distance=distance).sort_values(
        ["distance", "agent_steps", "seed"], ascending=[False, True, True]
    )
    return int(ordered.index[0])


def check_same_episodes(
    table: pd.DataFrame, recordings: list[Recording], agent: str
) -> None:
    seeds = [recording.seed for recording in recordings]
    if seeds != table["seed"].tolist():
        raise InputError(
            f"{EPISODES / agent}: the .csv has {len(table)} episodes from seed "
            f"{table['seed'][0]}, the .jsonl {len(seeds)} from seed {seeds[0]}: "
            f"run python stages/evaluate.py {agent}"
        )


def film(recording: Recording, agent: str) -> Iterator[np.ndarray]:
    """Replay a recording and yield the screen after each frame."""
    source = f"{EPISODES / agent}.jsonl, seed {recording.seed}"
    play = recording.new_play()
    with closing(play.emulator) as console:
        # The first one is the screen before the first frame.
        for _ in islice(replay(recording, play, source), 1, None):
            yield console.read_rgb()


if __name__ == "__main__":
    run_stage(main)
