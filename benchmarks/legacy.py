"""What most people run: nes-py 8 and wrappers in SB3's SubprocVecEnv.

Runs on Python 3.11 with legacy-requirements.txt, started by legacy_env.py. Arguments:
the level, how many environments, and how many seconds a round takes. Writes one line
when it is ready, and then answers every line of standard input with the agent steps a
second of a round of random play, as JSON.
"""

# These packages are not those of the rest.
# pyright: reportMissingImports=false, reportPossiblyUnboundVariable=false

import json
import sys
import time
from functools import partial

import cv2
import gym
import gym_super_mario_bros
import numpy as np
from gym_super_mario_bros.actions import SIMPLE_MOVEMENT
from nes_py.wrappers import JoypadSpace
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack

SKIP = 4
SIDE = 84
STACK = 4


class Joypad(JoypadSpace):
    """The button sets, for a gym that seeds in ``reset``."""

    def reset(self, **options):
        return self.env.reset(**options)


class SkipFrame(gym.Wrapper):
    """Repeats an action and adds up its rewards."""

    def step(self, action):
        total = 0.0
        for _ in range(SKIP):
            screen, reward, terminated, truncated, info = self.env.step(action)
            total += reward
            if terminated or truncated:
                break
        return screen, total, terminated, truncated, info


class SmallGrey(gym.ObservationWrapper):
    """A grey frame of 84x84 pixels."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = gym.spaces.Box(0, 255, (SIDE, SIDE, 1), np.uint8)

    def observation(self, screen):
        grey = cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)
        return cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA)[..., None]


def make_env(level):
    game = f"SuperMarioBros-{level}-v0"
    env = gym_super_mario_bros.make(game, apply_api_compatibility=True)
    return SmallGrey(SkipFrame(Joypad(env, SIMPLE_MOVEMENT)))


def main():
    level, count, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    rng = np.random.default_rng(0)
    envs = VecFrameStack(SubprocVecEnv([partial(make_env, level)] * count), STACK)
    envs.reset()
    print("ready", flush=True)
    for _ in sys.stdin:
        steps, began = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            envs.step(rng.integers(len(SIMPLE_MOVEMENT), size=count))
            steps += count
        print(json.dumps({"agent_steps_per_second": steps / elapsed}), flush=True)
    envs.close()


if __name__ == "__main__":
    main()
