"""What callbacks do, for algorithms of each kind that SB3 has."""

from contextlib import closing
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback, CallbackList

from warpzone.agents.networks import (
    AsymmetricPolicy,
    QPolicy,
    QuantilePolicy,
    RecurrentPolicy,
)
from warpzone.agents.policy import MovingAverage, weights_of
from warpzone.core.errors import InputError
from warpzone.episodes.table import Score
from warpzone.training.algorithms import make_model
from warpzone.training.callbacks import (
    Callback,
    CountSecondTries,
    EntropySchedule,
    Evaluate,
    KeepCheckpoint,
    LearningCurve,
    Periodic,
    Progress,
    StopEarly,
    UpdateAverage,
)
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.memory import ReplayMemory
from warpzone.training.value_based import QRDQN, DoubleDQN

CPU = torch.device("cpu")
POLICY: dict[str, Any] = {"world": "cartpole", "actor_key": "state"}


def ppo(envs, algorithm: Any = PPO, policy: Any = AsymmetricPolicy):
    kwargs = {"n_steps": 10, "batch_size": 20, "n_epochs": 2, "learning_rate": 1e-3}
    kwargs["policy_kwargs"] = POLICY
    return algorithm(policy, envs, **kwargs, seed=3, device="cpu")


def recurrent_ppo(envs):
    return ppo(envs, RecurrentPPO, RecurrentPolicy)


def a2c(envs):
    return A2C(
        AsymmetricPolicy, envs, n_steps=4, policy_kwargs=POLICY, seed=3, device="cpu"
    )


def dqn(envs, algorithm: Any = DoubleDQN, policy: Any = QPolicy):
    """Explores less and less, and its buffer of 2 x 60 runs over."""
    return algorithm(
        policy,
        envs,
        learning_rate=1e-3,
        buffer_size=120,
        replay_buffer_class=ReplayMemory,
        replay_buffer_kwargs={"n_steps": 3, "gamma": 0.9},
        learning_starts=50,
        batch_size=8,
        train_freq=2,
        target_update_interval=14,
        exploration_fraction=0.7,
        exploration_final_eps=0.05,
        policy_kwargs=POLICY,
        seed=3,
        device="cpu",
    )


def qrdqn(envs):
    return dqn(envs, QRDQN, QuantilePolicy)


@dataclass
class Learned:
    """All that a training has come to."""

    model: Any
    curve: LearningCurve
    evaluate: Evaluate
    average: MovingAverage
    agent_steps: list[int]

    @property
    def parameters(self) -> dict[str, Any]:
        """Weights and what the optimizers remember."""
        return self.model.get_parameters()

    @property
    def replay(self) -> dict[str, Any]:
        buffer: Any = getattr(self.model, "replay_buffer", None)
        return {} if buffer is None else buffer.state_dict()


def learn(world, make, total=240, checkpoint=None, kill_at=None, score=None):
    """Train with a row every 40 agent steps and an evaluation every 80."""
    done: list[int] = []

    def count(more):
        done.append(more)
        if kill_at is not None and model.num_timesteps >= kill_at:
            raise Killed

    with closing(world.envs(2)) as envs:
        model = make(envs)
        average = MovingAverage(model.policy.player, 0.5)
        curve = LearningCurve(40)
        update = UpdateAverage(40, average)
        evaluate = Evaluate(80, average, score or first_weight, curve)
        callbacks: list[Callback] = [Progress(count), update, curve, evaluate]
        if checkpoint is not None:
            keep = KeepCheckpoint(40, checkpoint, tuple(callbacks))
            callbacks.append(keep)
            if checkpoint.state is not None:
                keep.restore(model)
        model.learn(
            total - model.num_timesteps,
            CallbackList([*callbacks]),
            log_interval=None,
            reset_num_timesteps=False,
        )
    return Learned(model, curve, evaluate, average, done)


def first_weight(policy):
    return Score(0.0, next(policy.parameters()).flatten()[0].item(), 1)


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


def assert_same(ours: Any, theirs: Any, where: str = "") -> None:
    """Compare trees to the bit."""
    if isinstance(ours, dict):
        assert ours.keys() == theirs.keys(), where
        for name in ours:
            assert_same(ours[name], theirs[name], f"{where}.{name}")
    elif isinstance(ours, torch.Tensor):
        assert torch.equal(ours, theirs), where
        assert ours.stride() == theirs.stride(), where
    elif isinstance(ours, np.ndarray):
        assert ours.dtype == theirs.dtype, where
        assert np.array_equal(ours, theirs), where
    elif isinstance(ours, list | tuple):
        assert len(ours) == len(theirs), where
        for index, pair in enumerate(zip(ours, theirs, strict=True)):
            assert_same(*pair, f"{where}[{index}]")
    elif isinstance(ours, int | float | str):
        assert ours == theirs or (ours != ours and theirs != theirs), where


@pytest.mark.parametrize("make", [ppo, recurrent_ppo, a2c, dqn, qrdqn])
@pytest.mark.parametrize(
    "row",
    [
        pytest.param(0, marks=pytest.mark.slow),
        1,
        2,
        pytest.param(5, marks=pytest.mark.slow),
    ],
)
def test_a_training_by_any_algorithm_resumes_to_the_same_bytes(
    cartpole, make, row, tmp_path
):
    world = replace(cartpole, restart_probability=0.5)
    whole = learn(world, make)
    checkpoint = Checkpoint(tmp_path / "kept")
    with pytest.raises(Killed):
        learn(world, make, checkpoint=checkpoint, kill_at=row * 40 + 14)
    # As in a new process, where these may be anything.
    torch.manual_seed(99)
    np.random.seed(99)  # noqa: NPY002
    resumed = learn(world, make, checkpoint=Checkpoint(tmp_path / "kept"))
    assert sum(resumed.agent_steps) == 240 - row * 40
    assert_same(resumed.parameters, whole.parameters)
    assert_same(resumed.curve.rows, whole.curve.rows)
    assert_same(resumed.replay, whole.replay)
    assert_same(vars(resumed.average.policy), vars(whole.average.policy))
    assert_same(resumed.evaluate.best_weights, whole.evaluate.best_weights)
    assert resumed.evaluate.best_row == whole.evaluate.best_row
    assert_same(
        dict(resumed.average.policy.state_dict()),
        dict(whole.average.policy.state_dict()),
    )
    # What came next would be the same, too.
    names = ["_last_obs", "_last_episode_starts", "num_timesteps", "_n_updates"]
    if make is recurrent_ppo:
        names.append("_last_lstm_states")
        assert any(state.any() for state in whole.model._last_lstm_states.pi)
    for name in names:
        assert_same(getattr(resumed.model, name), getattr(whole.model, name), name)


def test_a_resumed_dqn_has_its_memories_and_its_curiosity_back(cartpole, tmp_path):
    whole = learn(cartpole, dqn)
    assert whole.replay["full"]
    assert whole.replay["_seen"].shape == (60, 2, 1)
    # An episode has a frame more than it has agent steps.
    ended = whole.replay["_is_over"].sum()
    assert len(whole.replay["frames"]) >= 120 + ended
    # More than 7 tenths of the training are over.
    assert whole.model.exploration_rate == pytest.approx(0.05)
    assert whole.model._n_calls == 120
    checkpoint = Checkpoint(tmp_path / "kept")
    with pytest.raises(Killed):
        learn(cartpole, dqn, checkpoint=checkpoint, kill_at=90)
    with closing(cartpole.envs(2)) as envs:
        model: Any = dqn(envs)
        KeepCheckpoint(40, Checkpoint(tmp_path / "kept"), ()).restore(model)
        assert model.num_timesteps == 80
        assert model._n_calls == 40
        # From 1 to 0.05 over 168 agent steps.
        assert model.exploration_rate == pytest.approx(1 - 0.95 * 80 / 168)
        assert model.replay_buffer.pos == 40
        assert model.replay_buffer.size() == 40


@pytest.mark.parametrize("make", [ppo, recurrent_ppo, a2c, dqn, qrdqn])
def test_rows_and_evaluations_go_by_agent_steps_for_any_algorithm(cartpole, make):
    learned = learn(cartpole, make)
    rows = learned.curve.rows
    steps = [row["agent_steps"] for row in rows]
    assert steps == [0, 40, 80, 120, 160, 200, 240]
    evaluated = [row["eval_progress"] is not None for row in rows]
    assert evaluated == [True, False, True, False, True, False, True]
    assert len(learned.evaluate.scores) == 4
    # Every agent step takes one emulator frame; resets take some, too.
    frames = np.diff([row["emulator_frames"] for row in rows])
    assert (frames >= 40).all()
    assert sum(row["episodes"] for row in rows) > 5
    said = "loss" if make in (dqn, qrdqn) else "value_loss"
    assert [said in row for row in rows[2:]] == [True] * 5
    assert learned.agent_steps == [2] * 120


@pytest.mark.parametrize("make", [recurrent_ppo, a2c, dqn, qrdqn])
def test_the_average_of_any_algorithm_s_policy_is_scored(cartpole, make):
    seen = []

    def score(policy):
        seen.append(policy)
        return Score(0.0, 0.0, 1)

    learned = learn(cartpole, make, score=score)
    assert all(policy is learned.average.policy for policy in seen)
    policy, average = learned.model.policy.player, learned.average.policy
    pairs = zip(policy.parameters(), average.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)
    # Without a success the first one is kept.
    assert learned.evaluate.best_row == 0
    with closing(cartpole.envs(2)) as envs:
        start = weights_of(make(envs).policy.player)
    assert_same(learned.evaluate.best_weights, start)


def test_second_tries_are_counted_by_level_and_stretch():
    infos = [{} for _ in range(3)]
    envs: Any = SimpleNamespace(
        unwrapped=SimpleNamespace(reset_infos=infos),
        get_attr=lambda name, indices: [("1-2", "1-1", "1-1")[i] for i in indices],
    )
    counting: Any = CountSecondTries()
    counting.model = SimpleNamespace(get_env=lambda: envs)
    for places, dones in (
        ((15.9, 16.0, 31.9), (True, True, True)),
        ((8.0, 32.0, 47.5), (True, True, False)),
        # Where an episode began long ago counts no more.
        ((8.0, None, 160.0), (False, True, True)),
        ((None, 16.0, None), (True, True, True)),
    ):
        infos[:] = [{} if at is None else {"restarted_at": at} for at in places]
        counting.locals = {"dones": np.array(dones)}
        assert counting._on_step()
    table = counting.table
    assert list(table) == ["level", "progress", "second_tries"]
    assert table.to_numpy().tolist() == [
        ["1-1", 16, 3],
        ["1-1", 32, 1],
        ["1-1", 160, 1],
        ["1-2", 0, 2],
    ]


class Restarts(BaseCallback):
    """Notes how far environments are whose episodes have just been restarted."""

    def __init__(self):
        super().__init__()
        self.places: list[float] = []

    def _on_step(self):
        envs = self.training_env
        for index, is_done in enumerate(self.locals["dones"]):
            [log] = envs.env_method("log", indices=[index])
            if is_done and len(log["actions"]) in dict(log["restores"]):
                self.places += envs.get_attr("progress", [index])
        return True


def test_the_environments_second_tries_are_all_counted(world, recipe):
    world = replace(world.but(time_limit=30), restart_probability=0.7)
    noted, counted = Restarts(), CountSecondTries()
    with closing(world.envs(3)) as envs:
        rl = recipe(n_envs=3, n_steps=100, batch_size=50)
        model = make_model(rl, envs, world.name, world.key, 5, CPU, [])
        model.learn(600, CallbackList([noted, counted]))
    assert len(noted.places) > 8
    starts = np.array(noted.places) // 16 * 16
    places, counts = np.unique(starts, return_counts=True)
    assert set(counted.table["level"]) == {world.level}
    assert counted.table["progress"].tolist() == places.tolist()
    assert counted.table["second_tries"].tolist() == counts.tolist()


class Dates(Periodic):
    """Notes when it is due."""

    def __init__(self, freq):
        super().__init__(freq)
        self.dates: list[int] = []

    def on_due(self):
        self.dates.append(self.model.num_timesteps)


@pytest.mark.parametrize(
    ("freq", "total", "dates"),
    [
        # Rollouts end every 20 agent steps.
        (20, 80, [0, 20, 40, 60, 80]),
        (40, 80, [0, 40, 80]),
        (30, 100, [0, 40, 60, 100]),
        (7, 40, [0, 20, 40]),
        (1000, 60, [0, 60]),
        # The last rollout goes beyond the budget.
        (40, 50, [0, 40, 60]),
    ],
)
def test_what_is_periodic_is_done_at_the_start_then_when_due_and_at_the_end(
    cartpole, freq, total, dates
):
    noted = Dates(freq)
    with closing(cartpole.envs(2)) as envs:
        ppo(envs).learn(total, noted)
    assert noted.dates == dates


def test_the_entropy_coefficient_falls_in_a_straight_line(cartpole, recipe):
    used = []

    class Note(BaseCallback):
        def _on_rollout_end(self):
            model: Any = self.model
            used.append(model.ent_coef)

        def _on_step(self):
            return True

    rl = recipe(ent_coef=0.4, final_ent_coef=0.1)
    with closing(cartpole.envs(2)) as envs:
        model = make_model(rl, envs, "cartpole", "state", 5, CPU, [])
        model.learn(96, CallbackList([EntropySchedule(0.4, 0.1), Note()]))
    assert used == pytest.approx([0.3, 0.2, 0.1])


@pytest.mark.parametrize(
    ("rates", "kept"),
    [
        # The lower end of 98 of 100 is 93.
        ([0.5, 0.98, 0.94, 0.95], 3),
        ([0.5, 0.98, 0.94, 0.92], 2),
        ([0.5, 0.98, 0.92, 0.93], 3),
        # Each less than the one before, but the last one significantly less than the
        # best.
        ([0.98, 0.94, 0.9, 0.86], 1),
        # Where nothing succeeds, progress decides.
        ([0.0, 0.0, 0.0, 0.0], 0),
    ],
)
def test_the_last_policy_that_is_not_significantly_worse_than_the_best_is_kept(
    cartpole, recipe, weights, are_equal, rates, kept
):
    scores = (Score(rate, -index, 100) for index, rate in enumerate(rates))
    seen = []

    def score(policy):
        seen.append(weights(policy))
        return next(scores)

    training = cartpole.train(recipe(), score=score)
    assert training.best_row == kept
    assert are_equal(weights(training.policy), seen[kept])


def evaluated(world, rates, episodes=100):
    """Return an `Evaluate` that has seen such success rates, after every second row."""
    curve = LearningCurve(40)
    for rate in rates:
        score = asdict(Score(rate, 0.0, episodes))
        curve.rows.append({f"eval_{name}": value for name, value in score.items()})
        curve.rows.append(dict.fromkeys(curve.rows[-1]))
    return Evaluate(80, MovingAverage(world.policy(), 0.5), first_weight, curve)


def reason_to_stop(evaluate, recipe):
    stop = StopEarly(evaluate, recipe)
    stop._on_rollout_start()
    assert stop._on_step() == (stop.reason is None)
    return stop.reason


@pytest.mark.parametrize(
    ("rates", "is_reached"),
    # Of 48 of 48 the interval's lower end is 0.926, of 47 of 48 it is 0.891.
    [([], False), ([1.0], True), ([1.0, 47 / 48], False), ([0.0, 1.0], True)],
)
def test_the_goal_is_reached_by_the_last_evaluation(
    cartpole, recipe, rates, is_reached
):
    reason = reason_to_stop(
        evaluated(cartpole, rates, 48), recipe(goal_success_rate=0.92)
    )
    assert reason == ("goal" if is_reached else None)


@pytest.mark.parametrize(
    ("rates", "patience", "is_reached"),
    [
        # The upper end of 30 of 100 is 39.6, of 31 of 100 it is 40.6.
        ([0.8], 1, False),
        ([0.8, 0.3], 1, True),
        ([0.8, 0.31], 1, False),
        ([0.8, 0.3], 2, False),
        ([0.8, 0.3, 0.3], 2, True),
        ([0.8, 0.3, 0.31, 0.3], 2, False),
        ([0.8, 0.3, 0.3, 0.31], 2, False),
        # Bad is what was bad at the time.
        ([0.3, 0.3, 0.8], 1, False),
        ([0.3, 0.3, 0.8, 0.3], 2, False),
    ],
)
def test_a_collapse_is_so_many_bad_evaluations_in_a_row(
    cartpole, recipe, rates, patience, is_reached
):
    rl = recipe(collapse_share=0.5, patience=patience)
    reason = reason_to_stop(evaluated(cartpole, rates), rl)
    assert reason == ("collapse" if is_reached else None)


@dataclass
class Rollout:
    """What GAE is computed from, shape ``(T, N)`` each."""

    rewards: np.ndarray
    values: np.ndarray
    next_values: np.ndarray
    """Of the state that followed; where an episode ended, of its last one."""
    causes: np.ndarray
    advantages: np.ndarray
    returns: np.ndarray


class Watch(BaseCallback):
    """Keeps the rollout as the environments gave it."""

    def __init__(self) -> None:
        super().__init__()
        self.rewards: list[np.ndarray] = []
        self.causes: list[list[str | None]] = []
        self.next_values: list[list[float]] = []
        self.rollout: Rollout | None = None

    def value(self, observation):
        tensors = {k: torch.from_numpy(one[None]) for k, one in observation.items()}
        with torch.no_grad():
            policy: Any = self.model.policy
            return policy.predict_values(tensors).item()

    def _on_step(self):
        dones, infos = self.locals["dones"], self.locals["infos"]
        self.rewards.append(self.locals["rewards"].copy())
        self.causes.append([info["cause"] for info in infos])
        self.next_values.append(
            [
                self.value(
                    info["terminal_observation"]
                    if done
                    else {k: a[i] for k, a in self.locals["new_obs"].items()}
                )
                for i, (done, info) in enumerate(zip(dones, infos, strict=True))
            ]
        )
        return True

    def _on_rollout_end(self):
        model: Any = self.model
        buffer = model.rollout_buffer
        self.rollout = Rollout(
            np.array(self.rewards),
            buffer.values.copy(),
            np.array(self.next_values),
            np.array(self.causes, object),
            buffer.advantages.copy(),
            buffer.returns.copy(),
        )


@pytest.mark.parametrize("key", ["pixels", "state"])
def test_nothing_follows_being_stuck_and_the_time_limit_is_bootstrapped(
    tiny_mario, recipe, key
):
    # Who stands still for 3 steps is stuck; who does not is stopped after 7.
    world = replace(tiny_mario, key=key).but(time_limit=7, stuck_limit=3)
    gamma, gae_lambda = 0.8, 0.7
    rl = recipe(n_steps=40, batch_size=80, gamma=gamma, gae_lambda=gae_lambda)
    watch = Watch()
    with closing(world.envs(2)) as envs:
        model = make_model(rl, envs, "mario", key, 5, CPU, [])
        # Values that are worth telling apart.
        with torch.no_grad():
            model.policy.get_parameter("value_net.bias")[:] = 3.0
        model.learn(80, watch)
    rollout = watch.rollout
    assert rollout is not None
    ends = [cause for cause in rollout.causes.flat if cause]
    assert min(ends.count("stuck"), ends.count("time_limit")) >= 2
    assert set(ends) == {"stuck", "time_limit"}
    expected = np.zeros_like(rollout.rewards)
    for env in range(2):
        following = 0.0
        for step in reversed(range(40)):
            cause = rollout.causes[step, env]
            worth = 0.0 if cause == "stuck" else rollout.next_values[step, env]
            delta = rollout.rewards[step, env] + gamma * worth
            delta -= rollout.values[step, env]
            following = delta + (0 if cause else gamma * gae_lambda * following)
            expected[step, env] = following
    assert np.allclose(rollout.advantages, expected, atol=1e-4)
    assert np.allclose(rollout.returns, expected + rollout.values, atol=1e-4)
    # Stuck at the end: what was paid less what had been expected, nearly 3.
    stuck = rollout.causes == "stuck"
    alone = rollout.rewards[stuck] - rollout.values[stuck]
    assert np.allclose(rollout.advantages[stuck], alone, atol=1e-4)
    assert (rollout.advantages[stuck] < -1).all()


def test_a_pole_that_falls_has_no_future(cartpole, recipe):
    watch = Watch()
    with closing(cartpole.envs(2)) as envs:
        rl = recipe(n_steps=60, batch_size=120, gamma=0.5, gae_lambda=0.0)
        model = make_model(rl, envs, "cartpole", "state", 5, CPU, [])
        model.learn(120, watch)
    rollout = watch.rollout
    assert rollout is not None
    fell = rollout.causes == "fell"
    assert fell.sum() >= 4
    # With lambda 0 a return is the reward, 1, and half of the next value.
    expected = 1 + 0.5 * np.where(fell, 0, rollout.next_values)
    assert np.allclose(rollout.returns, expected, atol=1e-5)


def test_a_damaged_checkpoint_of_a_training_is_told(cartpole, recipe, tmp_path):
    checkpoint = Checkpoint(tmp_path / "kept")
    cartpole.train(recipe(), checkpoint=checkpoint)
    path = checkpoint.path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(InputError, match="kept: is damaged: delete it to begin anew"):
        Checkpoint(path)
