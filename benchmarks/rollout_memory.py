"""Print the megabytes of 1,000 further agent steps in a rollout of PPO.

It is the peak of a whole update, copies and all.
"""

from contextlib import closing
from functools import partial

import torch

from benchmarks.game import WORLD, Game, read_params
from benchmarks.memory import peak_megabytes
from warpzone.agents.policy import PolicyAgent, make_deterministic
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.table import Score
from warpzone.training.train import train

ENVS = 16
FEW, MANY = 64, 256


def main() -> None:
    params = read_params()
    make_deterministic(params.seed)
    game = Game.of(params).but(frame_skip=1)
    make = partial(MarioEnv, **game.arguments, obs_type=("pixels", "state"))
    peaks: list[float] = []
    with closing(ThreadedVecEnv([make] * ENVS)) as envs:
        for steps in (FEW, MANY):
            changes = {
                "n_envs": ENVS,
                "n_steps": steps,
                "total_timesteps": ENVS * steps,
                "n_epochs": 1,
            }
            train(
                envs,
                PolicyAgent(game.policy(), "pixels", temperature=0.0),
                WORLD,
                params.recipes["bc-ppo"].model_copy(update=changes),
                seed=0,
                score=lambda _: Score(0.0, 0.0, 1),
                device=torch.device("cpu"),
            )
            peaks.append(peak_megabytes())
    print(1_000 * (peaks[1] - peaks[0]) / (ENVS * (MANY - FEW)))


if __name__ == "__main__":
    main()
