"""What a replayed episode looks like, frame by frame."""

from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any, NamedTuple

import numpy as np

from warpzone.envs.replayable import View
from warpzone.episodes.recording import Recording, replay


class Shot(NamedTuple):
    """A frame of an episode."""

    screen: np.ndarray
    """After the frame, shape ``(height, width, 3)``, uint8, RGB."""
    code: int
    """What was held in it."""
    frames: int
    """Frames since the level's start, this one too."""
    progress: float
    """So far, in the world's unit."""
    view: View | None
    """What the screen shows: the view of the frame before, as a console draws it."""


def film(
    recording: Recording, kwargs: Mapping[str, Any], source: str
) -> Iterator[Shot]:
    """Replay a recording, ``source`` in messages, and yield each of its frames.

    Raises:
        InputError: If the world does not end in the recorded state.
    """
    with closing(recording.make_env(kwargs, render_mode="rgb_array")) as env:
        played = replay(recording, env, source)
        # The world before the first frame.
        next(played)
        view = env.view
        for frames in played:
            screen = env.render()
            assert isinstance(screen, np.ndarray)
            yield Shot(screen, env.frame_actions[-1], frames, env.progress, view)
            view = env.view
