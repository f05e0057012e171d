"""Updates of value-based algorithms, with numbers computed by hand."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from warpzone.core.errors import InputError
from warpzone.core.params import DemonstrationsParams
from warpzone.episodes.recording import Recording
from warpzone.training.algorithms import make_model
from warpzone.training.memory import Batch, remember
from warpzone.training.value_based import large_margin_loss

CPU = torch.device("cpu")
VALUE_BASED = ("dqn", "qrdqn")
DEMOS: dict[str, Any] = {"share": 0.25, "margin": 0.8, "updates": 30}
DEMOS |= {"margin_weight": 1.0}
WEIGHTY: dict[str, Any] = {"margin_weight": 50.0}


@pytest.fixture
def model_of(cartpole, recipe_of):
    """Make a model of CartPole, with environments that are closed."""

    def model_of(algorithm: str, **changes: Any) -> Any:
        with closing(cartpole.envs(2)) as envs:
            rl = recipe_of(algorithm, **changes)
            return make_model(rl, envs, "cartpole", "state", 5, CPU, [])

    return model_of


@pytest.fixture
def shown(cartpole, recipe_of):
    """A memory of two episodes in which the cart is pushed to the right."""
    recordings = []
    with closing(cartpole.make(keys=("state",))) as env:
        for seed in range(2):
            env.reset(seed=seed)
            while env.cause is None:
                env.step(1)
            recordings.append(Recording.of_episode(env, seed))
        return remember(
            recordings, cartpole.kwargs, env, recipe_of("dqn"), CPU, "demos"
        )


def batch_of(states: int, rewards: list[float], dones: list[float]) -> Any:
    rng = np.random.default_rng(1)
    seen = torch.from_numpy(rng.normal(size=(2, states, 4)).astype(np.float32))
    column = (torch.tensor(one)[:, None] for one in (rewards, dones))
    rewarded, ended = column
    return Batch(
        observations={"state": seen[0]},
        actions=torch.zeros((states, 1), dtype=torch.int64),
        next_observations={"state": seen[1]},
        dones=ended,
        rewards=rewarded,
        discounts=torch.full((states, 1), 0.5),
    )


class Fixed(torch.nn.Module):
    """A network that says the same of every observation."""

    def __init__(self, says: Any) -> None:
        super().__init__()
        self.says = torch.nn.Parameter(torch.tensor(says))

    def forward(self, observations: dict[str, torch.Tensor]) -> torch.Tensor:
        rows = len(observations["state"])
        return self.says.expand(rows, *self.says.shape)


def test_double_dqn_judges_by_the_target_what_the_network_chooses(model_of):
    model = model_of("dqn")
    # The network takes action 1, which the target holds worth 2; its own best is 6.
    model.policy.q_net = Fixed([1.0, 3.0])
    model.policy.q_net_target = Fixed([6.0, 2.0])
    values, loss = model.td_loss(batch_of(2, [1.0, 1.0], [0.0, 1.0]))
    assert values.tolist() == [[1.0, 3.0], [1.0, 3.0]]
    # 1 + 0.5 x 2 = 2, and 1 where the episode has ended; Huber's of 1 is a half.
    assert loss.item() == pytest.approx((0.5 + 0.0) / 2)


def test_qrdqn_takes_the_action_with_the_highest_mean(model_of):
    model = model_of("qrdqn")
    # Quantiles by action: the second's mean is 2, though the first has one of 5.
    model.policy.quantile_net = Fixed([[0.0, 0.0], [0.0, 0.0]])
    model.policy.quantile_net_target = Fixed([[-5.0, 2.0], [5.0, 2.0]])
    values, loss = model.td_loss(batch_of(1, [1.0], [0.0]))
    assert values.tolist() == [[0.0, 0.0]]
    # Both targets are 1 + 0.5 x 2 = 2, Huber's of 2 is 1.5. The quantiles at 1/4 and
    # 3/4 are below them, so they weigh as much.
    assert loss.item() == pytest.approx(1.5 * (0.25 + 0.75))


def test_the_large_margin_loss_is_zero_once_the_demonstrated_action_is_ahead():
    values = torch.tensor([[3.0, 1.0], [3.0, 2.5], [1.0, 2.0]])
    demonstrated = torch.tensor([0, 0, 0])
    # 0; 2.5 + 0.8 - 3; 2 + 0.8 - 1.
    loss = large_margin_loss(values, demonstrated, 0.8)
    assert loss.item() == pytest.approx((0.0 + 0.3 + 1.8) / 3)


@pytest.mark.parametrize("algorithm", VALUE_BASED)
def test_updates_from_demonstrations_imitate(model_of, shown, algorithm):
    """Pushing to the left is never shown; its value has to stay below the other's."""
    model = model_of(algorithm, learning_rate=3e-3)
    seen = {"state": shown.sample(64).observations["state"]}
    model.demonstrations = DemonstrationsParams(**(DEMOS | WEIGHTY))
    model.shown = shown
    target = [p.clone() for p in model.policy.target.parameters()]
    done = []
    model.pretrain(lambda: done.append(1))
    assert len(done) == 30
    values = model.policy.player.logits(seen)
    assert (values[:, 1] > values[:, 0]).all()
    # No agent step has been taken, and the target has followed.
    assert model.num_timesteps == model.replay_buffer.size() == 0
    now = model.policy.target.parameters()
    assert not all(torch.equal(*pair) for pair in zip(target, now, strict=True))


def test_a_share_of_each_batch_is_demonstrated(model_of, shown):
    model = model_of("dqn", batch_size=8)
    model.demonstrations, model.shown = DemonstrationsParams(**DEMOS), shown
    # The agent pushes to the left only.
    seen = {"state": np.zeros((2, 4), np.float32)}
    for _ in range(5):
        model.replay_buffer.add(
            seen, seen, np.zeros(2), np.zeros(2), np.zeros(2), [{}, {}]
        )
    batch, count = model._sample(8)
    assert count == 2
    assert batch.actions[:, 0].tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
    assert batch.observations["state"].shape == (8, 4)
    assert shown.size() + 10 > shown.buffer_size


@pytest.mark.parametrize("algorithm", VALUE_BASED)
@pytest.mark.parametrize("key", ["pixels", "state"])
def test_a_training_on_mario_learns(tiny_mario, recipe_of, weights, key, algorithm):
    world = replace(tiny_mario, key=key)
    start = world.policy(kind={"dqn": "q", "qrdqn": "quantiles"}[algorithm])
    before = weights(start)
    training = world.train(recipe_of(algorithm), start=start)
    said = training.curve.iloc[-1]
    assert np.isfinite(said[["loss", "td_loss", "q_value"]].to_numpy(float)).all()
    assert training.policy.KIND == start.KIND
    after = training.milestones["30"]
    assert any(not torch.equal(after[name], before[name]) for name in after)


def test_a_start_of_another_kind_is_refused_with_both(cartpole, recipe_of):
    with pytest.raises(InputError) as raised:
        cartpole.train(recipe_of("dqn"), start=cartpole.policy())
    assert str(raised.value) == (
        "the start is a policy of the kind actor-critic, dqn trains one of the kind q: "
        "start from another one"
    )


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", VALUE_BASED)
def test_q_values_learn_to_balance_a_pole(cartpole, recipe_of, algorithm):
    rl = recipe_of(
        algorithm,
        total_timesteps=16384,
        n_envs=8,
        gamma=0.98,
        buffer_size=16384,
        batch_size=64,
        gradient_steps=16,
        learning_starts=512,
        target_update_interval=512,
        exploration_fraction=0.3,
        log_freq=1024,
        eval_freq=16384,
    )
    curve = cartpole.train(rl).curve
    assert curve["progress"].iloc[1] < 50
    assert curve["progress"].iloc[-1] > 80
