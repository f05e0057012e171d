"""Environments on threads keep SB3's contract and change nothing about the game."""

import threading
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from warpzone.envs.cartpole import CartPoleEnv
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.vec_env import ThreadedVecEnv

ENVS = 4
STEPS = 240


def short_mario(**changes: Any) -> Callable[[], MarioEnv]:
    """Return what makes episodes that end soon: at an enemy, or after 90 decisions."""
    arguments: dict[str, Any] = {"frame_skip": 2, "time_limit": 90}
    return partial(MarioEnv, **arguments | changes)


def played(envs: VecEnv, steps: int) -> list[tuple[Any, ...]]:
    """Play seeded random actions; all that came back, copied as soon as it came."""
    rng = np.random.default_rng(0)
    is_discrete = isinstance(envs.action_space, gym.spaces.Discrete)
    envs.seed(7)
    seen: list[tuple[Any, ...]] = [(deepcopy(envs.reset()), tuple(envs.reset_infos))]
    for _ in range(steps):
        actions: Any = rng.integers(7, size=envs.num_envs)
        if not is_discrete:
            actions = rng.uniform(-2, 2, (envs.num_envs, 1)).astype(np.float32)
        observations, rewards, dones, infos = envs.step(actions)
        resets = tuple(envs.reset_infos)
        seen.append(
            (deepcopy(observations), rewards.copy(), dones.copy(), infos, resets)
        )
    envs.close()
    return seen


def assert_equal(left: Any, right: Any) -> None:
    """Equal values, types, shapes and order of keys."""
    assert type(left) is type(right)
    if isinstance(left, np.ndarray):
        assert left.dtype == right.dtype
        np.testing.assert_array_equal(left, right, strict=True)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right


def without_episodes(seen: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Take out ``info["episode"]``, which SB3 adds by wrappers, and check it."""
    returns = np.zeros(ENVS)
    lengths = np.zeros(ENVS, int)
    for _, rewards, dones, infos, _ in seen[1:]:
        returns += rewards
        lengths += 1
        for index, info in enumerate(infos):
            assert ("episode" in info) == dones[index]
            if dones[index]:
                episode = info.pop("episode")
                assert episode == {"r": info["reward"], "l": info["steps"]}
                # Rewards are rounded to float32.
                assert episode["r"] == pytest.approx(returns[index], abs=1e-4)
                assert episode["l"] == lengths[index]
                returns[index] = lengths[index] = 0
    return seen


@pytest.mark.slow
def test_equals_the_vector_environment_of_sb3_whatever_the_number_of_threads() -> None:
    make_mario = short_mario()
    expected = played(DummyVecEnv([make_mario] * ENVS), STEPS)
    dones = np.stack([step[2] for step in expected[1:]])
    truncated = sum(
        info["TimeLimit.truncated"] for step in expected[1:] for info in step[3]
    )
    # The comparison covers both ways in which an episode ends.
    assert 0 < truncated < dones.sum()
    for threads in (1, 2, 4):
        found = played(ThreadedVecEnv([make_mario] * ENVS, threads), STEPS)
        assert_equal(without_episodes(found), expected)


def test_dictionaries_of_observations_are_stacked_by_key() -> None:
    keys = ("pixels", "state")
    make_mario = short_mario(obs_type=keys, height=36, width=36, time_limit=10)
    expected = played(DummyVecEnv([make_mario] * ENVS), steps=25)
    found = played(ThreadedVecEnv([make_mario] * ENVS, 2), steps=25)
    for observations, *_ in found:
        assert list(observations) == list(keys)
        assert observations["pixels"].shape == (ENVS, 4, 36, 36)
        assert observations["state"].shape == (ENVS, 2048)
        for stacked in observations.values():
            assert stacked.dtype == np.uint8
            assert stacked.flags.c_contiguous
    ended = [info for step in found[1:] for info in step[3] if "episode" in info]
    assert len(ended) >= ENVS
    for info in ended:
        assert list(info["terminal_observation"]) == list(keys)
    assert_equal(without_episodes(found), expected)


def test_actions_may_be_arrays() -> None:
    """A torque is one number in an array, not a number."""
    make = partial(gym.make, "Pendulum-v1")
    expected = played(DummyVecEnv([make] * 3), 20)
    for ours, theirs in zip(
        played(ThreadedVecEnv([make] * 3), 20), expected, strict=True
    ):
        assert_equal(ours[:3], theirs[:3])


def test_a_dictionary_that_a_step_returned_is_not_overwritten_by_the_next() -> None:
    envs = ThreadedVecEnv([short_mario(obs_type=("state",))] * 2)
    first: Any = envs.reset()
    kept = first["state"].copy()
    for _ in range(3):
        envs.step(np.ones(2, int))
    np.testing.assert_array_equal(first["state"], kept)
    envs.close()


class Countdown(gym.Env[np.ndarray, np.int64]):
    """Ends after ``length`` steps; an action of 13 raises.

    Not the game, so that a test can say what happens when.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 50}  # noqa: RUF012
    observation_space = gym.spaces.Box(0, 255, (2,), np.uint8)
    action_space = gym.spaces.Discrete(14)

    def __init__(self, length: int = 3, render_mode: str | None = None) -> None:
        self.length = length
        self.render_mode = render_mode
        self.seeds: list[int | None] = []
        self.options: list[Any] = []
        self.closed = 0
        self.entered = threading.Event()
        self.gate = threading.Event()
        self.gate.set()

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        self.seeds.append(seed)
        self.options.append(options)
        self.steps = 0
        return np.zeros(2, np.uint8), {"resets": len(self.seeds)}

    def step(
        self, action: np.int64
    ) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        self.entered.set()
        self.gate.wait()
        if action == 13:
            raise LookupError("no thirteenth floor")
        self.steps += 1
        observation = np.full(2, self.steps, np.uint8)
        return observation, 0.1, self.steps == self.length, False, {}

    def render(self) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        return np.full((1, 1, 3), self.length, np.uint8)

    def close(self) -> None:
        self.closed += 1


def countdowns(*lengths: int, threads: int = 2, **kwargs: Any) -> ThreadedVecEnv:
    return ThreadedVecEnv([partial(Countdown, n, **kwargs) for n in lengths], threads)


def test_an_ended_episode_is_reset_at_once_and_leaves_its_last_observation() -> None:
    envs = countdowns(2, 3)
    envs.reset()
    observations, rewards, dones, infos = envs.step(np.zeros(2, int))
    assert infos == [{"TimeLimit.truncated": False}] * 2
    assert rewards.dtype == np.float32
    observations, _, dones, infos = envs.step(np.zeros(2, int))
    np.testing.assert_array_equal(observations, [[0, 0], [2, 2]])
    np.testing.assert_array_equal(dones, [True, False])
    np.testing.assert_array_equal(infos[0]["terminal_observation"], [2, 2])
    # Two steps that were worth 0.1 each.
    assert infos[0]["episode"] == {"r": pytest.approx(0.2), "l": 2}
    assert infos[1] == {"TimeLimit.truncated": False}
    assert envs.reset_infos == [{"resets": 2}, {"resets": 1}]
    envs.close()


@pytest.mark.parametrize(("length", "truncated"), [(5, True), (2, False)])
def test_time_limit_truncated_means_truncated_and_not_terminated(
    length: int, truncated: bool
) -> None:
    envs = ThreadedVecEnv([lambda: TimeLimit(Countdown(length), 2)])
    envs.reset()
    envs.step(np.zeros(1, int))
    _, _, dones, infos = envs.step(np.zeros(1, int))
    assert dones[0]
    assert infos[0]["TimeLimit.truncated"] is truncated
    envs.close()


def test_a_mario_who_is_stuck_is_terminated_and_one_out_of_time_truncated() -> None:
    # SB3 adds the value of the last observation where an episode is truncated, and
    # where it is terminated nothing more can be earned.
    limits = ({"stuck_limit": 4, "time_limit": 90}, {"stuck_limit": 0, "time_limit": 4})
    envs = ThreadedVecEnv([short_mario(obs_type="state", **one) for one in limits])
    envs.seed(0)
    envs.reset()
    for _ in range(3):
        assert not envs.step(np.zeros(2, int))[2].any()
    _, _, dones, infos = envs.step(np.zeros(2, int))
    assert dones.all()
    assert [info["cause"] for info in infos] == ["stuck", "time_limit"]
    assert [info["TimeLimit.truncated"] for info in infos] == [False, True]
    envs.close()


def test_what_a_step_returned_is_not_overwritten_by_the_next() -> None:
    envs = countdowns(9, 9)
    kept = [envs.reset(), *(envs.step(np.zeros(2, int)) for _ in range(2))]
    envs.step(np.zeros(2, int))
    np.testing.assert_array_equal(kept[0], np.zeros((2, 2)))
    np.testing.assert_array_equal(kept[1][0], np.full((2, 2), 1))
    np.testing.assert_array_equal(kept[2][0], np.full((2, 2), 2))
    for observations in (kept[0], kept[1][0]):
        assert observations.flags.c_contiguous
        assert observations.dtype == np.uint8
    envs.close()


def test_environment_i_gets_seed_plus_i_at_the_next_reset_only() -> None:
    envs = countdowns(9, 9, 9)
    assert envs.seed(40) == [40, 41, 42]
    envs.reset()
    envs.reset()
    seeds = envs.get_attr("seeds")
    assert seeds == [[40, None], [41, None], [42, None]]
    envs.close()


def test_options_reach_the_next_reset_only() -> None:
    envs = countdowns(9, 9)
    envs.set_options({"start": 5})
    envs.reset()
    envs.set_options([{"start": 6}, {}])
    envs.reset()
    envs.reset()
    options = envs.get_attr("options")
    assert options == [[{"start": 5}, {"start": 6}, None], [{"start": 5}, None, None]]
    envs.close()


def test_attributes_and_methods_of_chosen_environments() -> None:
    envs = ThreadedVecEnv([lambda: TimeLimit(Countdown(4), 5), lambda: Countdown(6)])
    assert envs.get_attr("length") == [4, 6]
    assert envs.get_attr("length", 1) == [6]
    envs.set_attr("length", 8, indices=[1])
    assert envs.get_attr("length") == [4, 8]
    assert envs.has_attr("length")
    assert not envs.has_attr("width")
    assert envs.env_method("reset", indices=[1], seed=3)[0][1] == {"resets": 1}
    assert envs.get_attr("seeds") == [[], [3]]
    assert envs.env_is_wrapped(TimeLimit) == [True, False]
    envs.close()


def test_what_is_set_reaches_a_wrapped_game() -> None:
    envs = ThreadedVecEnv([lambda: Monitor(MarioEnv()), MarioEnv])
    assert envs.get_attr("sticky_probability") == [0.25, 0.25]
    envs.set_attr("sticky_probability", 0.5)
    worlds = envs.get_attr("unwrapped")
    assert [world.sticky_probability for world in worlds] == [0.5, 0.5]
    assert envs.get_attr("sticky_probability") == [0.5, 0.5]
    assert "sticky_probability" not in vars(envs.envs[0])
    envs.close()


def test_setting_what_no_environment_has_is_refused() -> None:
    envs = ThreadedVecEnv([lambda: Monitor(CartPoleEnv())])
    with pytest.raises(AttributeError, match=r"<Monitor.*no attribute 'noise' to set"):
        envs.set_attr("noise", 0.5)
    assert not envs.has_attr("noise")
    envs.close()


def test_an_episode_is_counted_anew_after_a_reset_in_its_middle() -> None:
    envs = countdowns(3)
    envs.reset()
    envs.step(np.zeros(1, int))
    envs.reset()
    *_, infos = [envs.step(np.zeros(1, int))[3] for _ in range(3)]
    assert infos[0]["episode"] == {"r": pytest.approx(0.3), "l": 3}
    envs.close()


def test_the_episode_of_a_monitor_is_kept() -> None:
    envs = ThreadedVecEnv([lambda: Monitor(Countdown(2))])
    envs.reset()
    *_, infos = [envs.step(np.zeros(1, int))[3] for _ in range(2)]
    assert infos[0]["episode"].keys() == {"r", "l", "t"}
    envs.close()


def test_pictures_are_tiled() -> None:
    envs = countdowns(7, 9, render_mode="rgb_array")
    picture = envs.render()
    assert picture is not None
    np.testing.assert_array_equal(picture[..., 0].ravel(), [7, 9])
    assert [image[0, 0, 0] for image in envs.get_images() if image is not None] == [
        7,
        9,
    ]
    assert envs.metadata["render_fps"] == 50
    envs.close()


def test_without_a_render_mode_there_are_no_pictures() -> None:
    envs = countdowns(7, 9)
    with pytest.warns(UserWarning, match="render mode is None"):
        assert envs.get_images() == [None, None]
    envs.close()


def test_a_second_step_before_the_first_is_waited_for_is_an_error() -> None:
    envs = countdowns(9)
    envs.reset()
    with pytest.raises(RuntimeError, match=r"call step_async\(\) first"):
        envs.step_wait()
    envs.step_async(np.zeros(1, int))
    with pytest.raises(RuntimeError, match=r"call step_wait\(\) first"):
        envs.step_async(np.zeros(1, int))
    observations, *_ = envs.step_wait()
    np.testing.assert_array_equal(observations, [[1, 1]])
    envs.close()


def test_a_reset_drops_the_step_under_way() -> None:
    envs = countdowns(9)
    envs.reset()
    envs.step_async(np.zeros(1, int))
    np.testing.assert_array_equal(envs.reset(), [[0, 0]])
    observations, *_ = envs.step(np.zeros(1, int))
    np.testing.assert_array_equal(observations, [[1, 1]])
    envs.close()


def test_an_attribute_is_read_after_the_step_under_way() -> None:
    envs = countdowns(9, 9)
    envs.reset()
    first, _ = envs.get_attr("unwrapped")
    first.gate.clear()
    envs.step_async(np.zeros(2, int))
    assert first.entered.wait(5)
    threading.Timer(0.05, first.gate.set).start()
    assert envs.get_attr("steps") == [1, 1]
    envs.step_wait()
    envs.close()


def test_one_action_is_needed_per_environment() -> None:
    envs = countdowns(9, 9)
    envs.reset()
    with pytest.raises(ValueError, match="got 3 actions for 2 environments"):
        envs.step(np.zeros(3, int))
    envs.close()


def test_environments_step_at_the_same_time() -> None:
    envs = countdowns(9, 9, 9, threads=3)
    envs.reset()
    first, second, third = envs.get_attr("unwrapped")
    first.gate.clear()
    envs.step_async(np.zeros(3, int))
    # The second gets on although the first is held up.
    assert second.entered.wait(5)
    # So does whoever waits.
    third.gate.clear()
    threading.Timer(0.05, third.gate.set).start()
    threading.Timer(0.1, first.gate.set).start()
    envs.step_wait()
    envs.close()


def test_an_error_names_the_environment_and_closes_all() -> None:
    before = threading.active_count()
    envs = countdowns(9, 9, 9, 9, 9)
    envs.reset()
    inner = envs.get_attr("unwrapped")
    with pytest.raises(
        RuntimeError, match=r"^environment 3: no thirteenth floor$"
    ) as caught:
        envs.step(np.array([0, 0, 0, 13, 13]))
    assert isinstance(caught.value.__cause__, LookupError)
    assert [env.closed for env in inner] == [1] * 5
    assert threading.active_count() == before
    for use in (envs.reset, envs.step_wait, lambda: envs.step(np.zeros(5, int))):
        with pytest.raises(RuntimeError, match="are closed"):
            use()


def test_an_environment_that_cannot_be_made_closes_those_that_were() -> None:
    made: list[Countdown] = []

    def make() -> Countdown:
        made.append(Countdown())
        return made[-1]

    def fail() -> Countdown:
        raise OSError("no cartridge")

    with pytest.raises(RuntimeError, match=r"^environment 1: no cartridge$") as caught:
        ThreadedVecEnv([make, fail, make])
    assert isinstance(caught.value.__cause__, OSError)
    assert [env.closed for env in made] == [1, 1]


def test_closing_twice_is_allowed_and_joins_the_threads() -> None:
    before = threading.active_count()
    envs = countdowns(9, 9)
    envs.reset()
    assert threading.active_count() > before
    inner = envs.get_attr("unwrapped")
    envs.step_async(np.zeros(2, int))
    envs.close()
    envs.close()
    assert threading.active_count() == before
    assert [env.closed for env in inner] == [1, 1]


def test_impossible_environments_are_refused() -> None:
    with pytest.raises(ValueError, match="env_fns is empty"):
        ThreadedVecEnv([])
    shared = Countdown()
    with pytest.raises(ValueError, match="returned the same instance"):
        ThreadedVecEnv([lambda: shared, lambda: TimeLimit(shared, 3)])
    for space in (
        gym.spaces.Text(5),
        gym.spaces.Dict({"words": gym.spaces.Text(5)}),
        gym.spaces.Dict({"inner": gym.spaces.Dict({"x": gym.spaces.Discrete(2)})}),
    ):
        odd = Countdown()
        odd.observation_space = space  # pyright: ignore[reportAttributeAccessIssue]
        with pytest.raises(ValueError, match="must be arrays, got the space "):
            ThreadedVecEnv([lambda odd=odd: odd])
        assert odd.closed == 1


def test_ppo_of_sb3_learns_on_it_and_counts_every_environment() -> None:
    make_mario = short_mario(time_limit=5, height=36, width=36)
    envs = ThreadedVecEnv([make_mario] * 2)
    model = PPO(
        "CnnPolicy", envs, n_steps=12, batch_size=8, n_epochs=1, seed=1, device="cpu"
    )
    before = [weights.clone() for weights in model.policy.parameters()]
    model.learn(24)
    assert any(
        not old.equal(new)
        for old, new in zip(before, model.policy.parameters(), strict=True)
    )
    # Two episodes of five decisions in each of the two environments.
    assert model.ep_info_buffer is not None
    assert [episode["l"] for episode in model.ep_info_buffer] == [5] * 4
    assert list(model.ep_success_buffer or ()) == [False] * 4
    envs.close()


def test_ppo_of_sb3_learns_from_a_dictionary() -> None:
    keys = ("pixels", "state")
    make_mario = short_mario(time_limit=5, height=36, width=36, obs_type=keys)
    envs = ThreadedVecEnv([make_mario] * 2)
    model = PPO("MultiInputPolicy", envs, n_steps=8, batch_size=8, n_epochs=1)
    model.learn(16)
    assert model.num_timesteps == 16
    envs.close()


class Brighter(gym.ObservationWrapper):
    """Changes what is seen, in new arrays."""

    def observation(self, observation: Any) -> Any:
        return observation | 1


class Twice(gym.Wrapper):
    """Takes each step twice, as a frame skip does."""

    def step(self, action: Any) -> Any:
        first = self.env.step(action)
        return first if first[2] or first[3] else self.env.step(action)


@pytest.mark.parametrize("wrapper", [Brighter, Twice, TimeLimit])
@pytest.mark.parametrize("key", ["pixels", "state"])
def test_a_wrapper_s_observations_are_those_of_sb3_s_vector(
    wrapper: Callable[..., gym.Env], key: str
) -> None:
    def make() -> gym.Env:
        env = short_mario(obs_type=key)()
        return wrapper(env, 20) if wrapper is TimeLimit else wrapper(env)

    ours = played(ThreadedVecEnv([make] * 3, threads=2), 60)
    theirs = played(DummyVecEnv([make] * 3), 60)
    for mine, other in zip(ours, theirs, strict=True):
        assert_equal(mine[:3], other[:3])


def test_a_last_observation_is_not_overwritten_by_the_next_episode() -> None:
    envs = ThreadedVecEnv([short_mario(time_limit=3, obs_type=("pixels", "state"))])
    envs.seed(1)
    envs.reset()
    for _ in range(2):
        envs.step(np.array([1]))
    observations, _, _, infos = envs.step(np.array([1]))
    last = infos[0]["terminal_observation"]
    alone = short_mario(time_limit=3, obs_type=("pixels", "state"))()
    expected, _ = alone.reset(seed=1)
    for _ in range(3):
        expected, *_ = alone.step(1)
    for key, array in last.items():
        np.testing.assert_array_equal(array, expected[key])
        assert not np.shares_memory(array, observations[key])  # pyright: ignore[reportArgumentType, reportCallIssue]
    envs.close()


def test_worlds_of_one_kind_and_another_stand_side_by_side() -> None:
    mixed = [short_mario(obs_type="pixels"), lambda: Brighter(short_mario()())]
    ours = played(ThreadedVecEnv(mixed, threads=2), 40)
    theirs = played(DummyVecEnv(mixed), 40)
    for mine, other in zip(ours, theirs, strict=True):
        assert_equal(mine[:3], other[:3])
