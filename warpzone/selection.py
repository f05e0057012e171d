"""How well the policies play that a training goes through."""

from collections.abc import Callable

from warpzone.agents.policy import Policy, PolicyAgent
from warpzone.agents.ppo import Score
from warpzone.evaluation import play_episodes
from warpzone.game.observation import ObsType
from warpzone.params import Params, PPOParams
from warpzone.seeds import Purpose, episode_seed


def make_score(
    params: Params, training: PPOParams, seed: int, obs_type: ObsType = "pictures"
) -> Callable[[Policy], Score]:
    """Return what scores a policy: it plays episodes that are used for nothing else.

    Args:
        params: The game, its noise, and the temperatures that agents play with.
        training: How many episodes.
        seed: Of the training.
        obs_type: What the policy sees.
    """
    seeds = [
        episode_seed(Purpose.SELECTION, seed, index)
        for index in range(training.selection_episodes)
    ]

    def score(policy: Policy) -> Score:
        table, _ = play_episodes(
            PolicyAgent.as_measured(policy, params, obs_type),
            params.game,
            params.noise,
            seeds,
            training.envs,
            obs_type=obs_type,
        )
        cleared, x_pos_max = table[["cleared", "x_pos_max"]].mean()
        steps, frames = table[["agent_steps", "emulator_frames"]].sum()
        return Score(float(cleared), float(x_pos_max), int(steps), int(frames))

    return score
