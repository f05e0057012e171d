"""What the screen shows of a world."""

from contextlib import closing

import numpy as np

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.buttons import RIGHT


def test_screens_of_one_area_fit_together_where_they_overlap() -> None:
    with closing(MarioEnv(render_mode="rgb_array", obs_type="state")) as env:
        env.reset(seed=1)
        ground, views = [], []
        for _ in range(120):
            views.append(env.view)
            env.play_frames(bytes([RIGHT]))
            # Mario's x is that of his box's left edge.
            assert env.view.left + env.view.x == env._info()["x_pos"] + 8
            ground.append(env.render()[210:240])  # pyright: ignore[reportOptionalSubscript]
    assert len({view.area for view in views}) == 1
    assert views[-1].left > 100
    for view, bricks in zip(views, ground, strict=True):
        moved = views[-1].left - view.left
        assert np.array_equal(bricks[:, moved:], ground[-1][:, : 256 - moved])


def test_mario_stands_on_the_ground_where_the_screen_shows_him() -> None:
    with closing(MarioEnv(render_mode="rgb_array", obs_type="state")) as env:
        env.reset(seed=1)
        view, screen = env.view, env.render()
    assert screen is not None
    assert view.y == 200
    # His clothes are red, and nothing beside him is.
    body = screen[view.y - 8 : view.y + 8, view.x - 8 : view.x + 8].reshape(-1, 3)
    left, right = screen[:, view.x - 24 : view.x - 8], screen[:, view.x + 8 :]
    red = body[body[:, 0] > 2 * body[:, 2]][0]
    assert not (left[180:207] == red).all(axis=-1).any()
    assert not (right[180:207] == red).all(axis=-1).any()


def test_a_world_that_the_screen_shows_whole_has_no_view() -> None:
    with closing(CartPoleEnv()) as env:
        assert env.view is None
