from collections.abc import Iterator
from pathlib import Path

import imageio_ffmpeg
import numpy as np
import pytest

from warpzone.errors import InputError
from warpzone.video import write_gif, write_mp4

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


def test_no_frames_and_frames_of_two_sizes_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "square.mp4"
    with pytest.raises(ValueError, match="no frames"):
        write_mp4(path, [], fps=60, scale=2)
    sizes = [np.zeros((4, 4, 3), np.uint8), np.zeros((4, 6, 3), np.uint8)]
    with pytest.raises(ValueError, match=r"frame 1 of square.mp4 .* \(4, 6, 3\)"):
        write_mp4(path, sizes, fps=60, scale=2)
    assert list(tmp_path.iterdir()) == []
