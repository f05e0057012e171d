"""The script of a world: what one tries first."""

from contextlib import closing

import numpy as np

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.buttons import RIGHT, A


def test_mario_jumps_for_32_frames_and_walks_for_as_many() -> None:
    states = np.zeros((3, 2048), np.uint8)
    states[:, 9] = 31, 32, 64
    assert MarioEnv.script(states).tolist() == [RIGHT, RIGHT | A, RIGHT]


def test_mario_gets_over_the_first_pipes_by_it() -> None:
    with closing(MarioEnv(obs_type="state")) as env:
        seen, _ = env.reset(seed=1)
        held = []
        while env.cause is None:
            [code] = env.script(seen[None]).tolist()
            held.append(code)
            seen, *_ = env.step(env.codes.index(code))
        assert held[:40].count(RIGHT | A) in range(16, 25)
        assert env.progress > 700


def test_the_cart_is_pushed_to_where_the_pole_leans() -> None:
    states = np.zeros((2, 4), np.float32)
    states[:, 2] = -0.1, 0.1
    assert CartPoleEnv.script(states).tolist() == [0, 1]
