"""Print the megabytes of 1,000 further agent steps in a rollout of PPO.

It is the peak of a whole update, copies and all.
"""

from contextlib import closing
from functools import partial
from pathlib import Path

import torch

from benchmarks.memory import peak_megabytes
from warpzone.agents.policy import build_policy, make_deterministic
from warpzone.core.params import load_params
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.training.ppo import Score, train

ENVS = 16
FEW, MANY = 64, 256


def main() -> None:
    params = load_params(Path("params.yaml"))
    make_deterministic(params.seed)
    game = params.game.model_copy(update={"frame_skip": 1})
    peaks: list[float] = []
    with closing(
        ThreadedVecEnv([partial(MarioEnv, game, params.noise)] * ENVS)
    ) as envs:
        for steps in (FEW, MANY):
            changes = {
                "envs": ENVS,
                "rollout_steps": steps,
                "agent_steps": ENVS * steps,
                "epochs": 1,
            }
            rl = params.train_rl.model_copy(update=changes)
            train(
                envs,
                build_policy(game),
                rl,
                seed=0,
                score=lambda _: Score(0.0, 0.0, 1),
                device=torch.device("cpu"),
                critic=build_policy(game, "ram"),
            )
            peaks.append(peak_megabytes())
    print(1_000 * (peaks[1] - peaks[0]) / (ENVS * (MANY - FEW)))


if __name__ == "__main__":
    main()
