"""What is drawn in compiled code is what OpenCV makes of the screen, to the bit."""

import cv2
import numpy as np
import pytest

from warpzone.envs.mario.observation import HUD_ROWS, FrameStack, draw
from warpzone.envs.nes.buttons import LEFT, RIGHT, A, B

GREYS = np.arange(256, dtype=np.uint8)


def drawn(screen: np.ndarray, frames: FrameStack, held: int = 0) -> np.ndarray:
    frame = np.empty(frames.shape[1:], np.uint8)
    draw(screen, GREYS, frames.picture, frames.rows, frames.columns, held, frame)
    return frame


def by_opencv(screen: np.ndarray, height: int, width: int, top: int) -> np.ndarray:
    image = screen[top:]
    rows, columns = image.shape
    while rows // 2 >= height and columns // 2 >= width:
        rows, columns = rows // 2, columns // 2
        even = np.ascontiguousarray(image[: 2 * rows, : 2 * columns])
        image = cv2.resize(even, (columns, rows), interpolation=cv2.INTER_AREA)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)


@pytest.mark.parametrize("crops", [True, False])
@pytest.mark.parametrize(
    ("height", "width"),
    [(52, 64), (84, 84), (36, 36), (240, 256), (104, 128), (103, 127), (60, 200)],
)
def test_a_frame_is_opencvs_to_the_bit(height: int, width: int, crops: bool) -> None:
    screen = np.random.default_rng(1).integers(0, 256, (240, 256), np.uint8)
    frames = FrameStack(height, width, 4, crops, show_buttons=False)
    expected = by_opencv(screen, height, width, HUD_ROWS if crops else 0)
    np.testing.assert_array_equal(drawn(screen, frames), expected)


@pytest.mark.slow
def test_frames_of_any_size_are_opencvs_to_the_bit() -> None:
    rng = np.random.default_rng(2)
    for _ in range(2_000):
        height, width = int(rng.integers(36, 241)), int(rng.integers(36, 257))
        crops = bool(rng.integers(2))
        screen = rng.integers(0, 256, (240, 256), np.uint8)
        frames = FrameStack(height, width, 1, crops, show_buttons=False)
        expected = by_opencv(screen, height, width, HUD_ROWS if crops else 0)
        assert (drawn(screen, frames) == expected).all(), (height, width, crops)


def test_a_byte_of_the_screen_has_the_luma_of_its_colour() -> None:
    screen = np.full((240, 256), 7, np.uint8)
    frames = FrameStack(240, 256, 1, crop_hud=False, show_buttons=False)
    frame = np.empty((240, 256), np.uint8)
    greys = GREYS + 100
    draw(screen, greys, frames.picture, frames.rows, frames.columns, 0, frame)
    assert (frame == 107).all()


def test_held_buttons_are_lit_in_the_corner() -> None:
    frames = FrameStack(52, 64, 4, crop_hud=True, show_buttons=True)
    screen = np.full((240, 256), 9, np.uint8)
    for held in (0, A, B, LEFT, RIGHT, A | RIGHT):
        frame = drawn(screen, frames, held)
        for index, button in enumerate((A, B, LEFT, RIGHT)):
            square = frame[:8, index * 8 : index * 8 + 8]
            assert (square == (255 if held & button else 0)).all()
        assert (frame[8:] == 9).all()
        assert (frame[:, 32:] == 9).all()
