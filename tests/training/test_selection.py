from pathlib import Path

import numpy as np
import pytest
import torch

from warpzone.agents.policy import build_policy, make_deterministic
from warpzone.core.params import GameParams, NoiseParams, load_params
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.envs.mario.observation import ObsType
from warpzone.episodes.evaluation import play_episodes
from warpzone.training.selection import make_score

PARAMS = Path(__file__).parents[2] / "params.yaml"
# Of the set "simple".
RIGHT = 1


class Right:
    def act(self, observations: np.ndarray, rngs: object) -> np.ndarray:
        return np.full(len(observations), RIGHT)


@pytest.mark.parametrize("obs_type", ["pictures", "ram"])
def test_a_score_is_what_the_episodes_of_selection_give(
    game: GameParams, noise: NoiseParams, obs_type: ObsType
) -> None:
    make_deterministic(1)
    policy = build_policy(game, obs_type)
    with torch.no_grad():
        # It always walks to the right.
        policy.get_parameter("action_net.bias")[RIGHT] = 1e6
    params = load_params(PARAMS)
    params = params.model_copy(update={"game": game, "noise": noise})
    rl = params.train_rl.model_copy(update={"selection_episodes": 3, "envs": 2})
    score = make_score(params, rl, 7, obs_type)(policy)
    seeds = [episode_seed(Purpose.SELECTION, 7, index) for index in range(3)]
    table, _ = play_episodes(Right(), game, noise, seeds, 3)
    assert score.episodes == 3
    assert score.clear_rate == 0
    assert score.x_pos_max == pytest.approx(table["x_pos_max"].mean())
    assert score.x_pos_max > 250
    assert score.agent_steps == table["agent_steps"].sum()
    assert score.emulator_frames == table["emulator_frames"].sum()


@pytest.mark.parametrize(("goal", "episodes"), [(0.0, 80), (0.05, 80), (0.06, 64)])
def test_a_look_ends_once_the_goal_is_out_of_reach(
    game: GameParams, noise: NoiseParams, goal: float, episodes: int
) -> None:
    # Nobody clears the level in two steps. With no clear in 64 episodes, the clear rate
    # may still be 5.7 %.
    game = game.model_copy(update={"time_limit": 2})
    params = load_params(PARAMS)
    params = params.model_copy(update={"game": game, "noise": noise})
    rl = params.train_rl.model_copy(
        update={"selection_episodes": 80, "goal_clear_rate": goal}
    )
    score = make_score(params, rl, 7)(build_policy(game))
    assert (score.episodes, score.agent_steps) == (episodes, 2 * episodes)
