import json
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import batched
from pathlib import Path
from typing import Any

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest

from stages import record_video
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_lines
from warpzone.core.params import Params, parse_params
from warpzone.envs.registry import make_env
from warpzone.episodes.agent import Agent, RandomAgent
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import read_recordings
from warpzone.report.video import write_gif, write_mp4

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
    assert write_gif(path, moving_square(40), fps=60, gif_fps=15, width=32) == 40
    meta, frames = decode(path)
    assert meta["codec"].startswith("gif")
    # 40 frames at 60 a second are two thirds of a second: 10 pictures at 15 a second.
    assert frames.shape == (10, 24, 32, 3)
    assert all(np.any(frames[1:] != frames[:-1], axis=(1, 2, 3)))


def test_a_gif_of_few_colours_keeps_them_exactly(tmp_path: Path) -> None:
    path = tmp_path / "square.gif"
    write_gif(path, moving_square(12), fps=60, gif_fps=30, width=WIDTH)
    _, frames = decode(path)
    colours = np.unique(frames.reshape(-1, 3), axis=0)
    assert colours.tolist() == [[40, 60, 200], [230, 20, 20]]


def test_equal_frames_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write_mp4(tmp_path / f"{name}.mp4", moving_square(20), fps=60, scale=2)
        write_gif(tmp_path / f"{name}.gif", moving_square(20), 60, 15, WIDTH)
    for kind in ("mp4", "gif"):
        first = (tmp_path / f"first.{kind}").read_bytes()
        assert first == (tmp_path / f"second.{kind}").read_bytes()


def test_frames_that_fail_midway_leave_the_old_file_whole(tmp_path: Path) -> None:
    def broken() -> Iterator[np.ndarray]:
        yield from moving_square(3)
        raise InputError("the replay ends early")

    path = tmp_path / "square.mp4"
    path.write_bytes(b"old")
    with pytest.raises(InputError, match="the replay ends early"):
        write_mp4(path, broken(), fps=60, scale=2)
    assert [file.name for file in tmp_path.iterdir()] == ["square.mp4"]
    assert path.read_bytes() == b"old"


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
        write_csv(self.table, table)
        write_lines(self.recordings, [recording.to_json() for recording in recordings])
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
    played = record_video.film(recordings[seed], params, where.table)
    screens = np.stack(list(played))
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
    assert [path.name for path in where.films.iterdir()] == ["worst.mp4"]
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
    assert {path.stem for path in where.films.iterdir()} == names
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
    with pytest.raises(InputError, match="has 2, but there are 2, from 0"):
        record_video.main()


def test_an_agent_that_was_not_evaluated_is_told(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    filmed("cartpole", "default", "ppo-7")
    with pytest.raises(InputError, match=r"ppo-7/default\.csv: .*No such file"):
        record_video.main()


def test_the_gif_shows_the_end_of_the_last_wanted_episode(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed(
        "mario",
        "1-1",
        "random",
        episodes=["median", "best"],
        gif_seconds=1.0,
        gif_fps=15,
        gif_width=256,
    )
    where.evaluate(params, RandomAgent(7), [1, 2, 3])
    seed = where.record()["best_seed"]
    _, pictures = decode(where.gif)
    assert pictures.shape == (15, 240, 256, 3)
    [best] = [log for log in read_recordings(where.recordings) if log.seed == seed]
    screens = list(record_video.film(best, params, where.table))[-60:]
    # A picture stands for four frames, and shows one of them as it is.
    for picture, four in zip(pictures, batched(screens, 4, strict=True), strict=True):
        assert any(np.array_equal(picture, screen) for screen in four)


def test_equal_episodes_give_equal_films(
    filmed: Callable[..., tuple[Params, Filmed]],
) -> None:
    params, where = filmed("cartpole", "default", "random", episodes=["0"])
    where.evaluate(params, RandomAgent(2), [5])
    contents = []
    for _ in range(2):
        where.record()
        paths = (where.films / "0.mp4", where.gif, where.metrics)
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
