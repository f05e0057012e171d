"""Film episodes of an agent that were evaluated under the default noise.

AGENT is random, bc or RECIPE-SEED; record_video.episodes names the episodes. Reads
data/episodes/ENV/TASK/AGENT/default.{csv,jsonl}, and those of random and bc. Writes
data/videos/ENV/TASK/AGENT/EPISODE.mp4 (in colour, every frame that the player
controls), data/videos/ENV/TASK/AGENT/side-by-side.mp4 (random, bc and the agent on the
same noise), plots/record_video/ENV/TASK/AGENT.gif (the same) and
metrics/record_video/ENV/TASK/AGENT.json. Each film replays a recording and checks that
the world ends in the recorded state, so it shows the episode that was evaluated.

With --ghost A B it writes nothing but runs/videos/ghost-A-B.mp4 and .gif, a race on the
same noise: the screen follows A, and B after A's end; the other one is half
transparent. A and B are agents, or revisions and experiments of the repository, which
--agent has played. With --progress it writes nothing but
runs/videos/progress-AGENT.mp4: how the agent played after 0, 10 and 30 % of its
training and at the end, on the same noise.
"""

import re
from argparse import ArgumentParser
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain, islice, repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

import numpy as np
import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import write_json
from warpzone.core.names import NOISE, PARAMS, cell
from warpzone.core.params import CHOICE, Params, load_params
from warpzone.core.revisions import checkout, reading
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import env_class
from warpzone.episodes.filming import Shot, film
from warpzone.episodes.play import play_condition
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.episodes.table import check_comparable, read_episodes
from warpzone.report.pictures import (
    Caption,
    add_arrow,
    add_captions,
    add_ghost,
    dim,
    side_by_side,
)
from warpzone.report.video import Gif, write_mp4

SCALE = 2
OTHERS = ("random", "bc")
"""Who is beside an agent."""
RACES = Path("runs/videos")
WIDEST = 1920
"""In pixels, of a film that is scaled."""
STILL_SECONDS = 1.0
"""How long the last picture stays of films with captions."""


def main() -> None:
    params, arguments = read_arguments(
        __doc__,
        "task",
        "agent",
        add_options=add_options,
        may_lack=lambda given: given.ghost is not None or given.progress,
    )
    task = arguments.task or params.run.tasks[0]
    agent = arguments.agent or params.record_video.agents[0]
    if arguments.ghost and arguments.progress:
        raise InputError("--ghost and --progress are two films: ask for one of them")
    if arguments.ghost:
        race(params, task, agent, arguments.ghost, arguments.episode)
    elif arguments.progress:
        show_progress(params, task, agent, arguments.episode)
    else:
        record(params, task, agent)


def add_options(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--ghost", nargs=2, metavar=("A", "B"), help="film a race of two"
    )
    parser.add_argument(
        "--progress", action="store_true", help="film how an agent learned"
    )
    parser.add_argument(
        "--episode",
        default="median",
        metavar="EPISODE",
        help="of these films: median, best or worst of A, or a number from 0",
    )


@dataclass(frozen=True)
class Evaluation:
    """The episodes of an agent."""

    name: str
    """The agent's, or that of the revision that it is of."""
    params: Params
    source: Path
    """Its table, in messages."""
    table: pd.DataFrame
    recordings: list[Recording]


class Episode(NamedTuple):
    """One of them."""

    of: Evaluation
    row: int

    @property
    def recording(self) -> Recording:
        return self.of.recordings[self.row]

    @property
    def fps(self) -> int:
        return env_class(self.recording.env).FRAMES_PER_SECOND

    @property
    def cause(self) -> str:
        return str(self.of.table["cause"].iloc[self.row])

    @property
    def is_success(self) -> bool:
        return bool(self.of.table["success"].iloc[self.row])

    def film(self) -> Iterator[Shot]:
        name = f"{self.of.source.with_suffix('.jsonl')}, seed {self.recording.seed}"
        return film(self.recording, self.of.params.world.kwargs, name)


def record(params: Params, task: str, agent: str) -> None:
    video, fps = params.record_video, env_class(params.env).FRAMES_PER_SECOND
    evaluation = read_evaluation(params, task, agent)
    videos = cell("data/videos", params.env, task, agent)
    metrics: dict[str, object] = {}
    for kind in video.episodes:
        episode = Episode(evaluation, choose(evaluation.table, kind))
        screens = (shot.screen for shot in episode.film())
        frames = write_mp4(videos / f"{kind}.mp4", screens, fps, SCALE)
        row = evaluation.table.iloc[episode.row]
        metrics |= {
            f"{kind}_seed": int(row["seed"]),
            f"{kind}_progress": float(row["progress"]),
            f"{kind}_cause": str(row["cause"]),
            f"{kind}_frames": frames,
        }
    evaluations = [
        evaluation if name == agent else read_evaluation(params, task, name)
        for name in dict.fromkeys((*OTHERS, agent))
    ]
    check_comparable({one.name: one.table for one in evaluations})
    index = choose(evaluation.table, video.side_by_side_episode)
    episodes = [Episode(one, index) for one in evaluations]
    together = compare(episodes, video.side_by_side_seconds)
    first = next(together)
    scale = SCALE if SCALE * first.shape[1] <= WIDEST else 1
    path = cell("plots/record_video", params.env, task, f"{agent}.gif")
    gif = Gif(path, video.gif_fps, video.gif_width)
    write_mp4(videos / "side-by-side.mp4", chain([first], together), fps, scale, gif)
    write_json(cell("metrics/record_video", params.env, task, f"{agent}.json"), metrics)


def race(
    params: Params, task: str, agent: str, names: Sequence[str], wanted: str
) -> None:
    check_choice(wanted)
    with ExitStack() as stack:
        first, second = (
            read_evaluation(params, task, name)
            if is_agent(params, task, name)
            else read_revision(
                name, params.env, task, agent, stack.enter_context(TemporaryDirectory())
            )
            for name in names
        )
        check_comparable(
            {f"{names[0]} (A)": first.table, f"{names[1]} (B)": second.table}
        )
        index = choose(first.table, wanted)
        file = re.sub(r"[^A-Za-z0-9._-]+", "-", f"ghost-{names[0]}-{names[1]}.mp4")
        gif = Gif(
            RACES / file.replace(".mp4", ".gif"),
            params.record_video.gif_fps,
            # One picture where others stand side by side.
            params.record_video.gif_width // (1 + len(OTHERS)),
        )
        fps = env_class(params.env).FRAMES_PER_SECOND
        chased = chase(Episode(first, index), Episode(second, index))
        frames = write_mp4(RACES / file, chased, fps, SCALE, gif)
    print(f"{RACES / file}: {frames / fps:.1f} s, seed {first.table['seed'][index]}")


def check_choice(wanted: str) -> None:
    if not re.fullmatch(CHOICE, wanted):
        raise InputError(
            f"--episode must be median, best, worst or a number, got {wanted!r}"
        )


def show_progress(params: Params, task: str, agent: str, wanted: str) -> None:
    check_choice(wanted)
    final = read_evaluation(params, task, agent)
    kept = cell("models", params.env, task, "milestones", agent)
    folders = sorted(kept.glob("[0-9]*"), key=lambda folder: int(folder.name))
    if not folders:
        raise InputError(
            f"{kept}: no milestones of {agent}: --progress is for agents that run names"
        )
    index = choose(final.table, wanted)
    seed, level = (final.table[name].tolist()[index] for name in ("seed", "level"))
    earlier = [play_milestone(params, folder, level, seed) for folder in folders]
    episodes = [*(Episode(one, 0) for one in earlier), Episode(final, index)]
    fps = episodes[0].fps
    shown = compare(episodes, params.record_video.side_by_side_seconds)
    path = RACES / f"progress-{agent}.mp4"
    frames = write_mp4(path, shown, fps, 1)
    print(f"{path}: {frames / fps:.1f} s, seed {seed}")


def play_milestone(params: Params, folder: Path, level: str, seed: int) -> Evaluation:
    """Play one evaluation episode with an earlier policy."""
    # They import torch, which no other film needs.
    from warpzone.agents.model import load_agent
    from warpzone.agents.policy import make_deterministic

    make_deterministic(params.seed, params.torch_threads)
    table, recordings = play_condition(
        params,
        params.evaluate.noises[NOISE],
        partial(load_agent, folder),
        [level],
        [seed],
    )
    return Evaluation(f"{folder.name} %", params, folder, table, recordings)


def is_agent(params: Params, task: str, name: str) -> bool:
    folder = cell("data/episodes", params.env, task, name)
    return name in params.agents or folder.is_dir()


def read_revision(rev: str, env: str, task: str, agent: str, folder: str) -> Evaluation:
    """Read how an agent of another revision played, in a folder of its own.

    Raises:
        InputError: In one line that begins with the revision.
    """
    table = cell("data/episodes", env, task, agent, f"{NOISE}.csv")
    checkout(rev, (PARAMS, table, table.with_suffix(".jsonl")), Path(folder))
    with reading(rev, Path(folder)):
        params = load_params(Path(folder, PARAMS))
        evaluation = read_evaluation(params, task, agent, Path(folder), rev)
    # The folder is gone when somebody reads of it.
    return replace(evaluation, source=Path(f"{rev}: {table}"))


def read_evaluation(
    params: Params, task: str, agent: str, root: Path = Path(), name: str | None = None
) -> Evaluation:
    """Read the episodes of an agent, with their recordings.

    Raises:
        InputError: If they do not belong together, too.
    """
    source = root / cell("data/episodes", params.env, task, agent, f"{NOISE}.csv")
    table = read_episodes(
        source, env_class(params.env), agent=agent, task=task, noise=NOISE
    )
    recordings = read_recordings(source.with_suffix(".jsonl"))
    seeds = [recording.seed for recording in recordings]
    if seeds != table["seed"].tolist():
        raise InputError(
            f"{source.with_suffix('')}: the .csv has {len(table)} episodes from seed "
            f"{table['seed'][0]}, the .jsonl {len(seeds)} from seed {seeds[0]}: run "
            "stages/evaluate.py again"
        )
    return Evaluation(name or agent, params, source, table, recordings)


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
                f"there is no episode {kind}: there are {len(table)}, from 0"
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


class Moment(NamedTuple):
    """A frame of an episode, or its last one as long as others last."""

    episode: Episode
    shot: Shot
    is_over: bool

    @property
    def caption(self) -> Caption:
        episode, shot = self.episode, self.shot
        world = env_class(episode.of.params.env)
        unit = world.PROGRESS.partition("(")[2].rstrip(")")
        return Caption(
            name=episode.of.name,
            seconds=shot.frames / world.FRAMES_PER_SECOND,
            # Some worlds count from the end of the idle frames.
            place=f"{max(shot.progress, 0):.0f} {unit}",
            keys=world.KEYS,
            held="" if self.is_over else world.code_name(shot.code),
            ended=episode.cause if self.is_over else None,
            is_success=episode.is_success,
        )


def moments(episode: Episode) -> Iterator[Moment]:
    """Yield an episode's frames, then the last one for ever."""
    shot = None
    for shot in episode.film():
        yield Moment(episode, shot, is_over=False)
    assert shot is not None
    yield from repeat(Moment(episode, shot, is_over=True))


def pictures(episode: Episode) -> Iterator[np.ndarray]:
    """Yield an episode's captioned frames, then the last one, dimmed, for ever."""
    for moment in moments(episode):
        if moment.is_over:
            # Drawn once.
            yield from repeat(add_captions(dim(moment.shot.screen), moment.caption))
        yield add_captions(moment.shot.screen, moment.caption)


def compare(episodes: Sequence[Episode], seconds: float) -> Iterator[np.ndarray]:
    """Yield pictures of episodes side by side, for so many seconds at most."""
    films = map(pictures, episodes)
    frames = min(length_of(*episodes), round(seconds * episodes[0].fps))
    return map(side_by_side, islice(zip(*films, strict=True), frames))


def chase(first: Episode, second: Episode) -> Iterator[np.ndarray]:
    """Yield pictures of two episodes in one: the second is the first one's ghost.

    Raises:
        InputError: If the world has no `View`.
    """
    frames = length_of(first, second)
    pairs = zip(moments(first), moments(second), strict=True)
    for a, b in islice(pairs, frames):
        is_swapped = a.is_over and not b.is_over
        ours, theirs = (b, a) if is_swapped else (a, b)
        screen = ours.shot.screen.copy()
        here, there = ours.shot.view, theirs.shot.view
        if here is None or there is None:
            world = first.of.params.env
            raise InputError(f"{world}: the screen shows all of it: nobody is a ghost")
        what = "ghost" if here.area == there.area else "elsewhere"
        ghost = theirs.caption._replace(name=f"{theirs.episode.of.name} ({what})")
        if here.area == there.area:
            x = there.left + there.x - here.left
            if 0 <= x < screen.shape[1]:
                add_ghost(screen, theirs.shot.screen, (x, there.y), (there.x, there.y))
            else:
                add_arrow(screen, there.y, x - here.x)
        if a.is_over and b.is_over:
            screen = dim(screen)
        captions = (ours.caption, ghost)
        yield add_captions(screen, *captions[:: -1 if is_swapped else 1])


def length_of(*episodes: Episode) -> int:
    """Return for how many frames episodes are shown together."""
    longest = max(len(episode.recording.held) for episode in episodes)
    return longest + round(STILL_SECONDS * episodes[0].fps)


if __name__ == "__main__":
    run_stage(main)
