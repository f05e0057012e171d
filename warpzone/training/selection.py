"""How well the policies play that a training goes through."""

from collections.abc import Callable
from itertools import batched

import pandas as pd

from warpzone.agents.policy import Policy, PolicyAgent
from warpzone.core.params import Params, PPOParams
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.evaluation import play_episodes
from warpzone.training.ppo import Score

# Episodes between two questions whether the goal is out of reach.
_BATCH = 64


def make_score(
    params: Params, training: PPOParams, seed: int, obs_type: ObsType = "pictures"
) -> Callable[[Policy], Score]:
    """Return what scores a policy: it plays episodes that are used for nothing else.

    It plays no more of them once the goal is surely out of reach: the upper end of the
    clear rate's 95 % interval is below it.

    Args:
        params: The game, its noise, and the temperatures that agents play with.
        training: How many episodes at most, how many side by side, and the goal.
        seed: Of the training.
        obs_type: What the policy sees.
    """
    seeds = [
        episode_seed(Purpose.SELECTION, seed, index)
        for index in range(training.selection_episodes)
    ]

    def score(policy: Policy) -> Score:
        agent = PolicyAgent.as_measured(policy, params, obs_type)
        table = pd.DataFrame()
        for batch in batched(seeds, _BATCH, strict=False):
            played, _ = play_episodes(
                agent, params.game, params.noise, batch, training.envs, None, obs_type
            )
            table = pd.concat([table, played])
            if _score_of(table).interval.high < training.goal_clear_rate:
                break
        return _score_of(table)

    return score


def _score_of(table: pd.DataFrame) -> Score:
    cleared, x_pos_max = table[["cleared", "x_pos_max"]].mean()
    steps, frames = table[["agent_steps", "emulator_frames"]].sum()
    return Score(float(cleared), float(x_pos_max), len(table), int(steps), int(frames))
