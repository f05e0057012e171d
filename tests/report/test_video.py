import json
import sys
from collections.abc import Iterator
from itertools import batched
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pandas as pd
import pytest

from stages import record_video
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_lines
from warpzone.core.params import Params
from warpzone.episodes.agent import RandomAgent
from warpzone.episodes.evaluation import play_episodes
from warpzone.episodes.recording import read_recordings
from warpzone.report.video import write_gif, write_mp4

HEIGHT, WIDTH = 48, 64

TABLE = Path("data/episodes/bc-seed1.csv")
RECORDINGS = Path("data/episodes/bc-seed1.jsonl")
BEST = Path("data/videos/bc-seed1-best.mp4")
MEDIAN = Path("data/videos/bc-seed1-median.mp4")
GIF = Path("plots/record_video/bc-seed1.gif")
METRICS = Path("metrics/record_video.json")


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


def test_no_frames_and_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "square.mp4"
    with pytest.raises(ValueError, match="no frames"):
        write_mp4(path, [], fps=60, scale=2)
    sizes = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 1 of square.mp4 .* \(4, 6, 3\)"):
        write_mp4(path, sizes, fps=60, scale=2)
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def evaluated(small_workspace: Params, monkeypatch: pytest.MonkeyPatch) -> pd.DataFrame:
    """Three short episodes of random play, under the name of a trained agent."""
    monkeypatch.setattr(sys, "argv", ["record_video.py"])
    table, recordings = play_episodes(
        RandomAgent(7), small_workspace.game, small_workspace.noise, [1, 2, 3], envs=3
    )
    table.insert(0, "agent", "bc-seed1")
    write_csv(TABLE, table)
    write_lines(RECORDINGS, [recording.to_json() for recording in recordings])
    return table


def test_the_films_show_the_evaluated_episodes_frame_by_frame(
    evaluated: pd.DataFrame,
) -> None:
    record_video.main()
    metrics = json.loads(METRICS.read_text())
    assert metrics["best_x_pos_max"] == max(evaluated["x_pos_max"])
    assert metrics["median_x_pos_max"] == sorted(evaluated["x_pos_max"])[1]
    lengths = dict(zip(evaluated["seed"], evaluated["emulator_frames"], strict=True))
    recordings = {log.seed: log for log in read_recordings(RECORDINGS)}
    for kind, path in (("best", BEST), ("median", MEDIAN)):
        seed = metrics[f"{kind}_seed"]
        meta, frames = decode(path)
        assert (meta["codec"], meta["fps"]) == ("h264", 60)
        assert len(frames) == lengths[seed] == metrics[f"{kind}_frames"]
        assert meta["duration"] == pytest.approx(len(frames) / 60, abs=0.01)
        screens = np.stack(list(record_video.film(recordings[seed], "bc-seed1")))
        assert frames.shape == (len(screens), 480, 512, 3)
        # Mario moves in most frames; in some the screen really stands still.
        changes = np.any(screens[1:] != screens[:-1], axis=(1, 2, 3))
        assert changes.mean() > 0.5
        difference = np.abs(frames[:, ::2, ::2].astype(int) - screens)
        assert difference.mean(axis=(1, 2, 3)).max() < 3
        assert np.any(frames[1:] != frames[:-1], axis=(1, 2, 3))[changes].all()


def test_the_gif_shows_the_end_of_the_best_episode(
    evaluated: pd.DataFrame, small_workspace: Params
) -> None:
    params = small_workspace.record_video.model_copy(
        update={"gif_seconds": 1.0, "gif_fps": 15, "gif_width": 256}
    )
    changed = small_workspace.model_copy(update={"record_video": params})
    Path("params.yaml").write_text(changed.model_dump_json())
    record_video.main()
    _, pictures = decode(GIF)
    assert pictures.shape == (15, 240, 256, 3)
    seed = json.loads(METRICS.read_text())["best_seed"]
    [best] = [log for log in read_recordings(RECORDINGS) if log.seed == seed]
    screens = list(record_video.film(best, "bc-seed1"))[-60:]
    # A picture stands for four frames, and shows one of them as it is.
    for picture, four in zip(pictures, batched(screens, 4, strict=True), strict=True):
        assert any(np.array_equal(picture, screen) for screen in four)


def test_a_recording_of_another_play_is_refused_and_not_filmed(
    evaluated: pd.DataFrame,
) -> None:
    lines = [json.loads(line) for line in RECORDINGS.read_text().splitlines()]
    for line in lines:
        line["ram_sha256"] = "0" * 64
    write_lines(RECORDINGS, map(json.dumps, lines))
    with pytest.raises(InputError, match=r"bc-seed1\.jsonl, seed \d: .* another state"):
        record_video.main()
    assert not list(MEDIAN.parent.iterdir())


def test_a_table_and_recordings_of_different_episodes_are_refused(
    evaluated: pd.DataFrame,
) -> None:
    lines = RECORDINGS.read_text().splitlines()
    write_lines(RECORDINGS, lines[1:])
    with pytest.raises(InputError, match=r"3 episodes from seed 1, .* 2 from seed 2"):
        record_video.main()


def chosen(rows: list[tuple[bool, int, int]]) -> tuple[int, int]:
    columns = ["cleared", "x_pos_max", "agent_steps"]
    table = pd.DataFrame(rows, columns=columns).assign(seed=range(len(rows)))
    return record_video.median_episode(table), record_video.best_episode(table)


def test_the_median_is_the_middle_one_and_the_lower_of_two() -> None:
    deaths = [(False, 900, 50), (False, 100, 50), (False, 500, 50), (False, 300, 50)]
    assert chosen(deaths)[0] == 3
    assert chosen(deaths[:3])[0] == 2


def test_the_best_is_the_fastest_clear_or_else_the_furthest_death() -> None:
    deaths = [(False, 900, 70), (False, 950, 90), (False, 950, 80), (False, 950, 80)]
    assert chosen(deaths)[1] == 2
    assert chosen([*deaths, (True, 940, 95), (True, 930, 85)])[1] == 5
