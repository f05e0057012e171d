import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest
from dvc.repo import Repo
from PIL import Image

from stages import record_video
from warpzone.agents.model import save_agent
from warpzone.agents.policy import PolicyAgent, build_policy, make_deterministic
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_lines
from warpzone.core.params import Params, parse_params
from warpzone.envs.nes.buttons import RIGHT
from warpzone.envs.registry import make_env
from warpzone.episodes.agent import Agent, Observations, RandomAgent
from warpzone.episodes.filming import film
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import read_recordings
from warpzone.report.pictures import add_arrow
from warpzone.report.video import Gif, write_mp4

HEIGHT, WIDTH = 48, 64


def moving_square(frames: int) -> Iterator[np.ndarray]:
    """A red square on blue that moves a pixel a frame."""
    for step in range(frames):
        frame = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        frame[:] = (40, 60, 200)
        frame[10:30, step : step + 16] = (230, 20, 20)
        yield frame


def decode(path: Path) -> tuple[dict, np.ndarray]:
    """Return what ffmpeg says of a video, and its frames."""
    # Every stored picture once, however long it is shown.
    reader = imageio_ffmpeg.read_frames(
        path, output_params=["-fps_mode", "passthrough"]
    )
    meta = next(reader)
    width, height = meta["size"]
    frames = [np.frombuffer(frame, np.uint8) for frame in reader]
    return meta, np.stack(frames).reshape(-1, height, width, 3)


def test_a_video_holds_every_frame_at_its_place_in_h264_that_browsers_play(
    tmp_path: Path,
) -> None:
    path = tmp_path / "new" / "square.mp4"
    assert write_mp4(path, moving_square(30), fps=60, scale=2) == 30
    meta, frames = decode(path)
    assert meta["codec"] == "h264"
    assert meta["pix_fmt"].startswith("yuv420p")
    assert (meta["fps"], meta["duration"]) == (60, 0.5)
    assert frames.shape == (30, 2 * HEIGHT, 2 * WIDTH, 3)
    wanted = np.stack(list(moving_square(30))).repeat(2, axis=1).repeat(2, axis=2)
    difference = np.abs(frames.astype(int) - wanted)
    assert difference.mean() < 3
    assert all(np.any(frames[1:] != frames[:-1], axis=(1, 2, 3)))


def test_the_index_of_a_video_comes_before_its_frames(tmp_path: Path) -> None:
    path = tmp_path / "square.mp4"
    write_mp4(path, moving_square(5), fps=60, scale=2)
    content = path.read_bytes()
    assert content.index(b"moov") < content.index(b"mdat")


def test_a_gif_shows_the_frames_at_its_own_rate_and_width(tmp_path: Path) -> None:
    path = tmp_path / "square.gif"
    gif = Gif(path, fps=15, width=32)
    assert write_mp4(tmp_path / "square.mp4", moving_square(40), 60, 2, gif) == 40
    meta, frames = decode(path)
    assert meta["codec"].startswith("gif")
    # 40 frames at 60 a second are two thirds of a second: 10 pictures at 15 a second.
    assert frames.shape == (10, 24, 32, 3)
    assert all(np.any(frames[1:] != frames[:-1], axis=(1, 2, 3)))


def test_a_gif_of_few_colours_keeps_them_exactly(tmp_path: Path) -> None:
    gif = Gif(tmp_path / "square.gif", fps=30, width=WIDTH)
    write_mp4(tmp_path / "square.mp4", moving_square(12), 60, 2, gif)
    _, frames = decode(gif.path)
    colours = np.unique(frames.reshape(-1, 3), axis=0)
    assert colours.tolist() == [[40, 60, 200], [230, 20, 20]]


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        gif = Gif(tmp_path / f"{name}.gif", fps=15, width=WIDTH)
        write_mp4(tmp_path / f"{name}.mp4", moving_square(20), 60, 2, gif)
    for kind in ("mp4", "gif"):
        first = (tmp_path / f"first.{kind}").read_bytes()
        assert first == (tmp_path / f"second.{kind}").read_bytes()


def test_frames_that_fail_midway_leave_the_old_file_whole(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from moving_square(3)
        raise InputError("the replay ends early")

    path, gif = tmp_path / "square.mp4", Gif(tmp_path / "square.gif", 15, WIDTH)
    for old in (path, gif.path):
        old.write_bytes(b"old")
    with pytest.raises(InputError, match="the replay ends early"):
        write_mp4(path, broken(), 60, 2, gif)
    assert {file.name for file in tmp_path.iterdir()} == {"square.mp4", "square.gif"}
    assert path.read_bytes() == gif.path.read_bytes() == b"old"


def test_a_failing_ffmpeg_is_one_line_and_leaves_no_file(tmp_path: Path) -> None:
    # yuv420p has no odd sizes: 3 x 3 pixels cannot be encoded.
    frames = [np.zeros((3, 3, 3), np.uint8)] * 2
    with pytest.raises(
        InputError, match=r"odd\.mp4: ffmpeg failed with exit"
    ) as caught:
        write_mp4(tmp_path / "odd.mp4", frames, fps=60, scale=1)
    assert "\n" not in str(caught.value)
    assert "not divisible by 2" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_ffmpeg_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "no-ffmpeg"))
    with pytest.raises(InputError, match=r"ffmpeg cannot be run: .*no-ffmpeg"):
        write_mp4(tmp_path / "square.mp4", moving_square(2), fps=60, scale=2)


def test_no_frames_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no frames"):
        write_mp4(tmp_path / "square.mp4", [], fps=60, scale=2)
    assert list(tmp_path.iterdir()) == []


class Filmed:
    """Where an agent's evaluated episodes and its films lie."""

    def __init__(self, env: str, task: str, agent: str) -> None:
        self.env, self.task, self.agent = env, task, agent
        self.table = Path("data/episodes", env, task, agent, "default.csv")
        self.recordings = self.table.with_suffix(".jsonl")
        self.films = Path("data/videos", env, task, agent)
        self.gif = Path("plots/record_video", env, task, f"{agent}.gif")
        self.metrics = Path("metrics/record_video", env, task, f"{agent}.json")

    def evaluate(
        self, params: Params, agent: Any, seeds: Sequence[int]
    ) -> pd.DataFrame:
        """Play episodes and write what the evaluation would."""
        table, recordings = play_episodes(
            agent,
            lambda level: make_env(
                self.env, params.world.kwargs, level, params.noise, ("state",)
            ),
            params.levels(self.task),
            seeds,
            n_envs=3,
        )
        for place, (column, value) in enumerate(
            (("agent", self.agent), ("task", self.task), ("noise", "default"))
        ):
            table.insert(place, column, value)
        lines = [recording.to_json() for recording in recordings]
        write_csv(self.table, table)
        write_lines(self.recordings, lines)
        # Who is filmed beside it, unless that has been evaluated itself.
        for other in {"random", "bc"} - {self.agent}:
            beside = Filmed(self.env, self.task, other)
            if not beside.table.exists():
                write_csv(beside.table, table.assign(agent=other))
                write_lines(beside.recordings, lines)
        return table

    def record(self) -> dict[str, Any]:
        """Run the stage and return its metrics."""
        record_video.main()
        return json.loads(self.metrics.read_text())


@pytest.fixture
def filmed(
    small_workspace: Params, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Params, Filmed]]:
    """Make params.yaml play a world, and the stage film an agent of it."""

    def filmed(env: str, task: str, agent: str, **video: Any) -> tuple[Params, Filmed]:
        document = small_workspace.model_dump(mode="json")
        video = {"side_by_side_seconds": 0.2} | video
        document |= {"env": env, "record_video": document["record_video"] | video}
        document["run"]["tasks"] = [task]
        document["envs"]["cartpole"]["kwargs"]["time_limit"] = 40
        params = parse_params(document, "params.yaml")
        Path("params.yaml").write_text(params.model_dump_json())
        arguments = ["record_video.py", "--task", task, "--agent", agent]
        monkeypatch.setattr(sys, "argv", arguments)
        return params, Filmed(env, task, agent)

    return filmed


def test_the_films_show_the_evaluated_episodes_frame_by_frame(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    """Three short episodes of random play, under the name of a trained agent."""
    params, where = filmed("mario", "1-1", "bc-ppo-1", episodes=["median"])
    table = where.evaluate(params, RandomAgent(7), [1, 2, 3])
    metrics = where.record()
    assert metrics["median_progress"] == sorted(table["progress"])[1]
    seed = metrics["median_seed"]
    meta, frames = decode(where.films / "median.mp4")
    assert (meta["codec"], meta["fps"]) == ("h264", 60)
    lengths = dict(zip(table["seed"], table["emulator_frames"], strict=True))
    assert len(frames) == lengths[seed] == metrics["median_frames"]
    assert meta["duration"] == pytest.approx(len(frames) / 60, abs=0.01)
    recordings = {log.seed: log for log in read_recordings(where.recordings)}
    played = film(recordings[seed], params.world.kwargs, "the recording")
    screens = np.stack([shot.screen for shot in played])
    assert frames.shape == (len(screens), 480, 512, 3)
    # Mario moves in most frames; in some the screen really stands still.
    changes = np.any(screens[1:] != screens[:-1], axis=(1, 2, 3))
    assert changes.mean() > 0.5
    difference = np.abs(frames[:, ::2, ::2].astype(np.int16) - screens)
    assert difference.mean(axis=(1, 2, 3)).max() < 3
    assert np.any(frames[1:] != frames[:-1], axis=(1, 2, 3))[changes].all()


@pytest.mark.parametrize("agent", ["random", "bc", "ppo-1"])
def test_any_evaluated_agent_can_be_filmed(
    filmed: Callable[..., tuple[Params, Filmed]], agent: str
) -> None:
    params, where = filmed("cartpole", "default", agent, episodes=["worst"])
    table = where.evaluate(params, RandomAgent(2), [1, 2, 3])
    metrics = where.record()
    assert metrics["worst_progress"] == min(table["progress"])
    names = {path.name for path in where.films.iterdir()}
    assert names == {"worst.mp4", "side-by-side.mp4"}
    assert where.gif.is_file()


def test_a_film_of_another_world_shows_its_pole_at_its_own_rate(
    balance: Agent,
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "bc", episodes=["0"])
    table = where.evaluate(params, balance, [1])
    assert table["cause"].tolist() == ["balanced"]
    metrics = where.record()
    assert metrics == {
        "0_seed": 1,
        "0_progress": 40,
        "0_cause": "balanced",
        "0_frames": table["emulator_frames"][0],
    }
    meta, frames = decode(where.films / "0.mp4")
    # Gymnasium's CartPole plays 50 steps a second.
    assert meta["fps"] == 50
    assert frames.shape == (metrics["0_frames"], 800, 1200, 3)
    # A black cart at the middle of a track at three quarters of the height, a brown
    # pole that stands on it, and white.
    first = frames[0].astype(int).sum(axis=-1)
    assert first[600, 560] < 60
    assert first[600, 100] < 200
    assert first[450, 600] == pytest.approx(202 + 152 + 101, abs=40)
    assert first[500, 100] > 700


@pytest.mark.parametrize(
    ("episodes", "names"),
    [
        (["median", "worst", "2"], {"median", "worst", "2"}),
        (["1"], {"1"}),
        # As YAML reads -S 'record_video.episodes=[best,0]'.
        (["best", 0], {"best", "0"}),
    ],
)
def test_each_wanted_episode_is_a_film(
    filmed: Callable[..., tuple[Params, Filmed]],
    episodes: list[str | int],
    names: set[str],
) -> None:
    params, where = filmed("cartpole", "default", "random", episodes=episodes)
    table = where.evaluate(params, RandomAgent(2), [5, 6, 7])
    metrics = where.record()
    assert {path.stem for path in where.films.iterdir()} == names | {"side-by-side"}
    for name in names & {"0", "1", "2"}:
        assert metrics[f"{name}_seed"] == 5 + int(name)
    for name in names:
        row = table[table["seed"] == metrics[f"{name}_seed"]].iloc[0]
        assert metrics[f"{name}_frames"] == row["emulator_frames"]
        assert metrics[f"{name}_cause"] == row["cause"]
        assert metrics[f"{name}_progress"] == row["progress"]


def test_an_episode_that_there_is_not_is_told_with_their_number(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "random", episodes=["2"])
    where.evaluate(params, RandomAgent(2), [5, 6])
    with pytest.raises(InputError, match="no episode 2: there are 2, from 0"):
        record_video.main()


def test_an_agent_that_was_not_evaluated_is_told(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    filmed("cartpole", "default", "ppo-7")
    with pytest.raises(InputError, match=r"ppo-7/default\.csv: .*No such file"):
        record_video.main()


def test_equal_episodes_give_equal_films(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "random", episodes=["0"])
    where.evaluate(params, RandomAgent(2), [5])
    contents = []
    for _ in range(2):
        where.record()
        paths = (*sorted(where.films.iterdir()), where.gif, where.metrics)
        contents.append([path.read_bytes() for path in paths])
    assert contents[0] == contents[1]


def test_a_recording_of_another_play_is_refused_and_not_filmed(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "bc")
    where.evaluate(params, RandomAgent(2), [1, 2, 3])
    lines = [json.loads(line) for line in where.recordings.read_text().splitlines()]
    for line in lines:
        line["state_sha256"] = "0" * 64
    write_lines(where.recordings, map(json.dumps, lines))
    with pytest.raises(
        InputError, match=r"bc/default\.jsonl, seed \d: .* another state"
    ):
        record_video.main()
    assert not list(where.films.iterdir())


def test_a_table_and_recordings_of_different_episodes_are_refused(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "bc")
    where.evaluate(params, RandomAgent(2), [1, 2, 3])
    lines = where.recordings.read_text().splitlines()
    write_lines(where.recordings, lines[1:])
    with pytest.raises(InputError, match=r"3 episodes from seed 1, .* 2 from seed 2"):
        record_video.main()


def chosen(kind: str, rows: list[tuple[bool, int, int]]) -> int:
    columns = ["success", "progress", "agent_steps"]
    table = pd.DataFrame(rows, columns=columns).assign(seed=range(len(rows)))
    return record_video.choose(table, kind)


def test_the_median_is_the_middle_one_and_the_lower_of_two() -> None:
    deaths = [(False, 900, 50), (False, 100, 50), (False, 500, 50), (False, 300, 50)]
    assert chosen("median", deaths) == 3
    assert chosen("median", deaths[:3]) == 2


def test_the_best_is_the_fastest_success_or_else_the_furthest_failure() -> None:
    deaths = [(False, 900, 70), (False, 950, 90), (False, 950, 80), (False, 950, 80)]
    assert chosen("best", deaths) == 2
    assert chosen("best", [*deaths, (True, 940, 95), (True, 930, 85)]) == 5


def test_the_worst_gets_least_far_and_among_successes_is_the_slowest() -> None:
    successes = [(True, 940, 95), (True, 930, 85)]
    assert chosen("worst", [*successes, (False, 960, 70), (False, 955, 90)]) == 3
    assert chosen("worst", successes) == 0
    # Ties go to fewer agent steps, then to the smaller seed.
    assert chosen("worst", [(False, 9, 80), (False, 9, 70), (False, 9, 70)]) == 1


def test_a_number_names_an_episode() -> None:
    assert chosen("1", [(False, 900, 70), (False, 950, 90)]) == 1


class Hold:
    """Takes one action for ever."""

    keys, memory_size = ("state",), 0

    def __init__(self, action: int) -> None:
        self.action = action

    def act(
        self,
        observations: Observations,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        return np.full(len(rngs), self.action, np.int64), memories


STAND, WALK, RUN = Hold(0), Hold(1), Hold(4)
"""Nothing, right, and right with A and B, which leaps over the first enemy."""


def loaded(params: Params, *agents: str, index: int = 0) -> list[record_video.Episode]:
    task = params.run.tasks[0]
    return [
        record_video.Episode(record_video.read_evaluation(params, task, agent), index)
        for agent in agents
    ]


def screens_of(episode: record_video.Episode) -> np.ndarray:
    return np.stack([shot.screen for shot in episode.film()])


def test_side_by_side_each_plays_its_own_episode_and_is_dimmed_after_its_end(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("mario", "1-1", "bc-ppo-1")
    where.evaluate(params, RUN, [1])
    Filmed("mario", "1-1", "random").evaluate(params, RandomAgent(7), [1])
    # The others have 120 frames, this one has 40.
    short = params.world.kwargs | {"time_limit": 10}
    env = params.world.model_copy(update={"kwargs": short})
    shorter = params.model_copy(update={"envs": params.envs | {"mario": env}})
    Filmed("mario", "1-1", "bc").evaluate(shorter, WALK, [1])
    episodes = loaded(params, "random", "bc", "bc-ppo-1")
    played = [screens_of(episode) for episode in episodes]
    no_ops = episodes[0].recording.no_ops
    assert [len(screens) - no_ops for screens in played] == [120, 40, 120]
    pictures = np.stack(list(record_video.compare(episodes, seconds=60.0)))
    # A second longer than the longest.
    assert pictures.shape == (no_ops + 120 + 60, 240 + 36, 3 * 256 + 2 * 8, 3)
    for index, screens in enumerate(played):
        left = index * (256 + 8)
        shown = pictures[:, :240, left : left + 256]
        assert np.array_equal(shown[: len(screens)], screens)
        # The last one, darker.
        assert (shown[len(screens) :] == shown[-1]).all()
        assert np.array_equal(shown[-1], (screens[-1] * 0.6).astype(np.uint8))
        # The caption changes until then, at least the time does.
        captions = pictures[:, 240:, left : left + 256]
        assert np.any(captions[6] != captions[0])
        assert (captions[len(screens) :] == captions[-1]).all()
        assert np.any(captions[-1] != captions[len(screens) - 1])


def test_side_by_side_is_a_video_and_a_gif_of_at_most_so_many_seconds(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed(
        "mario",
        "1-1",
        "bc-ppo-1",
        episodes=["0"],
        side_by_side_episode="0",
        side_by_side_seconds=0.5,
        gif_fps=15,
        gif_width=784,
    )
    where.evaluate(params, RUN, [1])
    where.record()
    [meta, frames] = decode(where.films / "side-by-side.mp4")
    assert (meta["codec"], meta["fps"]) == ("h264", 60)
    assert frames.shape == (30, 2 * (240 + 36), 2 * 784, 3)
    pictures = list(record_video.compare(loaded(params, "random", "bc", "bc-ppo-1"), 9))
    difference = np.abs(frames[-1, ::2, ::2].astype(int) - pictures[29])
    assert difference.mean() < 3
    _, gif = decode(where.gif)
    # Half a second at 15 a second, each one of four frames.
    assert gif.shape[1:] == (276, 784, 3)
    assert len(gif) in (7, 8)
    assert any(np.array_equal(gif[1], picture) for picture in pictures[4:9])


def test_side_by_side_of_who_is_beside_shows_nobody_twice(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "bc", episodes=["0"])
    where.evaluate(params, RandomAgent(2), [5])
    where.record()
    [_, frames] = decode(where.films / "side-by-side.mp4")
    # 0.2 s at 50 a second; it is not scaled, or it would be wider than 1920.
    assert frames.shape == (10, 400 + 72, 2 * 600 + 8, 3)


def test_agents_of_other_episodes_are_not_shown_side_by_side(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "bc", episodes=["0"])
    Filmed("cartpole", "default", "random").evaluate(params, RandomAgent(2), [6])
    where.evaluate(params, RandomAgent(2), [5])
    with pytest.raises(InputError, match="differ in seed"):
        record_video.main()


def test_a_ghost_is_where_the_other_one_is_in_the_level(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, _ = filmed("mario", "1-1", "bc-ppo-1")
    Filmed("mario", "1-1", "bc").evaluate(params, RUN, [1])
    Filmed("mario", "1-1", "random").evaluate(params, WALK, [1])
    ours, theirs = loaded(params, "bc", "random")
    frames = list(zip(ours.film(), theirs.film(), strict=True))
    pictures = list(record_video.chase(ours, theirs))
    assert len(pictures) == len(frames) + 60
    assert pictures[0].shape == (240 + 2 * 36, 256, 3)
    seen = 0
    for (a, b), picture in zip(frames, pictures, strict=False):
        assert a.view is not None
        assert b.view is not None
        x = b.view.left + b.view.x - a.view.left
        differ = np.any(picture[:240] != a.screen, axis=-1)
        if 20 < x < a.view.x - 24:
            # Half of him is seen, and he himself is further on.
            rows, columns = differ.nonzero()
            assert len(rows) > 40
            assert x - 12 <= columns.min() <= columns.max() < x + 12
            assert b.view.y - 28 <= rows.min() <= rows.max() < b.view.y + 12
            seen += 1
    assert seen > 20
    # They end together.
    last = (frames[-1][0].screen * 0.6).astype(int)
    differ = np.abs(pictures[-1][:240].astype(int) - last).max(axis=-1) > 1
    assert 0 < differ.sum() < 24 * 40


def test_who_is_off_the_screen_is_an_arrow_with_the_distance(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, _ = filmed("mario", "1-1", "bc-ppo-1")
    Filmed("mario", "1-1", "bc").evaluate(params, RUN, [1])
    Filmed("mario", "1-1", "random").evaluate(params, STAND, [1])
    ours, theirs = loaded(params, "bc", "random")
    *_, a = ours.film()
    *_, b = theirs.film()
    assert a.view is not None
    assert b.view is not None
    away = b.view.left + b.view.x - a.view.left - a.view.x
    assert away < -a.view.x
    *_, picture = record_video.chase(ours, theirs)
    wanted = a.screen.copy()
    add_arrow(wanted, b.view.y, away)
    assert np.array_equal(picture[:240], (wanted * 0.6).astype(np.uint8))
    # The other way round he is far to the right.
    *_, picture = record_video.chase(theirs, ours)
    wanted = b.screen.copy()
    add_arrow(wanted, a.view.y, -away)
    assert np.array_equal(picture[:240], (wanted * 0.6).astype(np.uint8))


def test_the_screen_follows_the_other_one_after_the_end_of_the_first(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("mario", "1-1", "bc-ppo-1")
    where.evaluate(params, RUN, [1])
    short = params.world.kwargs | {"time_limit": 10}
    env = params.world.model_copy(update={"kwargs": short})
    shorter = params.model_copy(update={"envs": params.envs | {"mario": env}})
    Filmed("mario", "1-1", "bc").evaluate(shorter, STAND, [1])
    first, second = loaded(params, "bc", "bc-ppo-1")
    pictures = list(record_video.chase(first, second))
    screens = screens_of(second)
    end = len(first.recording.held)
    assert len(pictures) == len(screens) + 60
    # All but an arrow, or a ghost.
    for frame in range(end, len(screens)):
        differ = np.any(pictures[frame][:240] != screens[frame], axis=-1)
        assert differ.sum() < 24 * 60


def argued(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["record_video.py", *arguments])


def test_a_race_of_two_agents_is_the_same_file_each_time(
    filmed: Callable[..., tuple[Params, Filmed]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    params, where = filmed("mario", "1-1", "bc-ppo-1", gif_width=600)
    where.evaluate(params, RUN, [1, 2])
    Filmed("mario", "1-1", "bc").evaluate(params, WALK, [1, 2])
    path = Path("runs/videos/ghost-bc-bc-ppo-1.mp4")
    contents = []
    # The task and the agent are those of params.yaml.
    for episode in ("1", "1", "0"):
        argued(monkeypatch, "--ghost", "bc", "bc-ppo-1", "--episode", episode)
        record_video.main()
        contents.append((path.read_bytes(), path.with_suffix(".gif").read_bytes()))
    for kind in range(2):
        first, same, other = (both[kind] for both in contents)
        assert first == same != other
    # As wide as one of three side by side.
    assert Image.open(path.with_suffix(".gif")).width == 200
    assert f"{path}: " in capsys.readouterr().out
    meta, frames = decode(path)
    assert meta["pix_fmt"].startswith("yuv420p")
    assert frames.shape[1:] == (2 * (240 + 72), 512, 3)
    assert not Path("data/videos").exists()
    assert not Path("metrics").exists()


def test_an_agent_of_two_revisions_races_against_itself(
    filmed: Callable[..., tuple[Params, Filmed]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    commit: Callable[[str], None],
) -> None:
    params, where = filmed("mario", "1-1", "bc-ppo-1")
    subprocess.run(["git", "init", "-q"], check=True)
    Repo.init().close()
    where.evaluate(params, WALK, [1])
    commit("slow/one")
    where.evaluate(params, RUN, [1])
    commit("fast")
    where.evaluate(params, STAND, [1])
    argued(monkeypatch, "--ghost", "slow/one", "fast")
    record_video.main()
    files = sorted(path.name for path in Path("runs/videos").iterdir())
    assert files == ["ghost-slow-one-fast.gif", "ghost-slow-one-fast.mp4"]
    [slow] = record_video.read_revision(
        "slow/one", "mario", "1-1", "bc-ppo-1", str(tmp_path / "slow")
    ).recordings
    assert set(slow.decided) == {RIGHT}

    argued(monkeypatch, "--agent", "bc-ppo-7", "--ghost", "fast", "bc")
    with pytest.raises(InputError, match=r"^fast: data/.*/bc-ppo-7/default\.csv is "):
        record_video.main()
    where.table.write_text("agent,task\n")
    commit("broken")
    argued(monkeypatch, "--ghost", "broken", "fast")
    with pytest.raises(InputError, match=r"^broken: data/.*/default\.csv, line 1: has"):
        record_video.main()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--ghost", "bc", "ppo-1"), r"ppo-1/default\.csv: .*No such file"),
        (("--ghost", "bc", "random"), r"random \(B\) and bc \(A\) differ in seed"),
        (("--ghost", "bc", "bc", "--episode", "last"), "best, worst or a number, got "),
        (("--ghost", "bc", "bc", "--episode", "1"), "no episode 1: there are 1, from"),
        (("--ghost", "bc", "bc"), "cartpole: the screen shows all of it"),
    ],
)
def test_a_race_that_cannot_be_is_one_line(
    filmed: Callable[..., tuple[Params, Filmed]],
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    params, where = filmed("cartpole", "default", "bc")
    Filmed("cartpole", "default", "random").evaluate(params, RandomAgent(2), [6])
    where.evaluate(params, RandomAgent(2), [5])
    argued(monkeypatch, *arguments)
    with pytest.raises(InputError, match=message) as caught:
        record_video.main()
    assert "\n" not in str(caught.value)
    assert not list(Path().glob("runs/videos/*"))


def test_only_a_race_may_lack_the_task_and_the_agent(
    filmed: Callable[..., tuple[Params, Filmed]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    filmed("cartpole", "default", "bc")
    argued(monkeypatch, "--task", "default")
    with pytest.raises(SystemExit):
        record_video.main()
    assert "are required: --agent" in capsys.readouterr().err


def test_how_an_agent_learned_is_filmed_on_one_noise(
    filmed: Callable[..., tuple[Params, Filmed]], monkeypatch: pytest.MonkeyPatch
) -> None:
    params, where = filmed("cartpole", "default", "bc-ppo-1")
    where.evaluate(params, RandomAgent(2), [4, 5, 6])
    argued(monkeypatch, "--progress", "--episode", "1")
    with pytest.raises(InputError, match="no milestones of bc-ppo-1: --progress is"):
        record_video.main()
    make_deterministic(1)
    with closing(make_env("cartpole", {}, "default", params.noise, ("state",))) as env:
        spaces: Any = env.observation_space
        for percent in (0, 10, 30):
            agent = PolicyAgent(
                build_policy("cartpole", spaces, 2, "state"), "state", 1
            )
            folder = f"models/cartpole/default/milestones/bc-ppo-1/{percent}"
            save_agent(agent, Path(folder), env, {})
    contents = []
    for _ in range(2):
        record_video.main()
        contents.append(Path("runs/videos/progress-bc-ppo-1.mp4").read_bytes())
    assert contents[0] == contents[1]
    # 0, 10 and 30 % and the end, each 600 pixels wide, and gaps.
    _, frames = decode(Path("runs/videos/progress-bc-ppo-1.mp4"))
    assert frames.shape[2] >= 4 * 600
    argued(monkeypatch, "--progress", "--ghost", "bc", "bc")
    with pytest.raises(InputError, match="two films: ask for one of them"):
        record_video.main()
