"""CartPole as a world: Gymnasium's physics, and the noise of all worlds."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from warpzone.envs.cartpole import CartPoleEnv, Demonstrator
from warpzone.envs.registry import make_demonstrator
from warpzone.episodes.recording import Recording, replay_steps

LEFT, RIGHT = 0, 1


def make(**changes: Any) -> CartPoleEnv:
    """Make one without noise, but for what is given."""
    quiet: dict[str, Any] = {"no_op_max": 0, "sticky_probability": 0.0}
    return CartPoleEnv(**quiet | changes)


def play_out(env: CartPoleEnv, demonstrator: Demonstrator) -> dict[str, Any]:
    """Let the demonstrator play to the end of the episode, and return its info."""
    info: dict[str, Any] = {}
    while env.cause is None:
        *_, info = env.step(demonstrator.decide())
    return info


def test_the_physics_are_those_of_gymnasium() -> None:
    env, official = make(), gym.make("CartPole-v1").unwrapped
    env.reset()
    official.reset(seed=0)
    official.state = np.zeros(4)  # pyright: ignore[reportAttributeAccessIssue]
    rng = np.random.default_rng(0)
    while env.cause is None:
        action = rng.integers(2)
        observation, reward, terminated, truncated, _ = env.step(action)
        expected = official.step(action)
        np.testing.assert_array_equal(observation, expected[0], strict=True)
        assert (reward, terminated, truncated) == expected[1:4]
    assert len(env.decisions) > 8


def test_an_episode_begins_upright_after_pushes_to_and_fro() -> None:
    env = make(no_op_max=3)
    begun = set()
    for seed in range(40):
        observation, info = env.reset(seed=seed)
        pushes = [LEFT, RIGHT, LEFT][: env.no_ops]
        assert list(env.frame_actions) == pushes
        plain = make()
        expected, _ = plain.reset()
        for push in pushes:
            expected, *_ = plain.step(push)
        np.testing.assert_array_equal(observation, expected)
        assert info["steps"] == info["progress"] == 0
        begun.add(env.no_ops)
    assert begun == {0, 1, 2, 3}


def test_more_idle_frames_than_the_pole_stands_are_refused() -> None:
    env = make(no_op_max=32)
    env.begin(32)
    assert env.outcome == "unfinished"
    env.begin(33)
    assert env.outcome == "failure"
    with pytest.raises(ValueError, match="no_op_max must be at most 32, got 33"):
        make(no_op_max=33)


def test_a_decision_is_a_frame_so_its_noise_is_the_same() -> None:
    held = []
    for per in ("frame", "decision"):
        env = make(sticky_probability=0.5, sticky_unit=per)
        env.reset(seed=1)
        for step in range(8):
            env.step(step % 2)
        held.append(bytes(env.frame_actions))
    assert held[0] == held[1]
    with pytest.raises(
        ValueError, match="sticky_unit must be frame or decision, got 3"
    ):
        make(sticky_unit=3)


def test_pushes_stick_in_the_given_share_of_frames() -> None:
    env = make(sticky_probability=0.25)
    stuck = asked = 0
    for seed in range(60):
        env.reset(seed=seed)
        for step in range(8):
            env.step(step % 2)
        assert env.cause is None
        held = np.array(list(env.frame_actions))
        # The first cannot stick to anything. A frame shows that it stuck if the frame
        # before it did as asked: of a share s of the frames, where s = p (1 - s).
        stuck += int((held != np.arange(8) % 2).sum())
        asked += 7
    # Four standard deviations of 420 draws.
    assert stuck / asked == pytest.approx(0.25 / 1.25, abs=0.078)


def test_a_pole_that_is_pushed_over_falls() -> None:
    env = make()
    env.reset()
    steps = [env.step(RIGHT)]
    while env.cause is None:
        steps.append(env.step(RIGHT))
    observation, reward, terminated, truncated, info = steps[-1]
    assert (terminated, truncated, info["cause"]) == (True, False, "fell")
    assert not info["is_success"]
    assert env.outcome == "failure"
    # 12 degrees, to the left when the cart is pushed to the right.
    assert observation[2] < -0.2095
    assert abs(observation[0]) < 2.4
    # It takes 9 pushes, each worth 1.
    assert (info["steps"], info["progress"], info["reward"], reward) == (9, 9, 9, 1)


def test_a_cart_that_is_driven_off_leaves_the_track() -> None:
    env = make()
    env.reset()
    steps = []
    while env.cause is None:
        _, _, angle, turn = env.state
        # Lets the pole lean to the right, and follows it.
        steps.append(env.step(int(angle + 0.5 * turn > 0.05)))
    observation, _, terminated, truncated, info = steps[-1]
    assert (terminated, truncated, info["cause"]) == (True, False, "left")
    assert env.outcome == "failure"
    assert observation[0] > 2.4
    assert abs(observation[2]) < 0.2095


def test_a_pole_that_stands_for_the_time_limit_is_a_success() -> None:
    env = make(time_limit=20)
    env.reset()
    steps = [env.step(Demonstrator(env).decide()) for _ in range(20)]
    _, _, terminated, truncated, info = steps[-1]
    # To stand so long is what is asked for, so the episode is not cut short.
    assert (terminated, truncated, info["cause"]) == (True, False, "balanced")
    assert info["is_success"]
    assert env.outcome == "success"
    # Every step is progress.
    assert env.idle_steps == 0
    assert info["progress"] == info["reward"] == 20
    assert all(not step[2] for step in steps[:-1])


def test_the_demonstrator_balances_500_steps_without_noise() -> None:
    env = make()
    env.reset()
    info = play_out(env, Demonstrator(env))
    assert (info["cause"], info["steps"]) == ("balanced", 500)


def test_the_demonstrator_balances_mostly_under_noise() -> None:
    env = CartPoleEnv()
    demonstrator = make_demonstrator("cartpole", env)
    assert isinstance(demonstrator, Demonstrator)
    successes = 0
    for seed in range(40):
        env.reset(seed=seed)
        demonstrator.reset()
        successes += play_out(env, demonstrator)["is_success"]
    assert successes > 20
    assert demonstrator.emulated_frames == env.emulated_frames > 20 * 500


def test_a_snapshot_brings_an_episode_back_in_any_env() -> None:
    env, other = CartPoleEnv(), CartPoleEnv()
    demonstrator = Demonstrator(env)
    env.reset(seed=1)
    steps = [env.step(demonstrator.decide()) for _ in range(30)]
    seen, *_, info = steps[-1]
    assert info["cause"] is None
    snapshot = env.snapshot()
    generator = env.np_random.bit_generator.state
    # A snapshot is not used up, and good for an episode that has ended, too.
    for one in (env, other, env):
        one.reset()
        while one.cause is None:
            one.step(RIGHT)
        observation, again = one.restore(snapshot)
        np.testing.assert_array_equal(observation, seen)
        assert again == info
        one.np_random.bit_generator.state = generator
        play_out(one, Demonstrator(one))
    assert env.frame_actions == other.frame_actions
    assert env.state_sha256() == other.state_sha256()


def test_a_recording_replays_frame_by_frame_and_step_by_step() -> None:
    env = CartPoleEnv()
    observation, _ = env.reset(seed=7)
    seen = [observation]
    demonstrator = Demonstrator(env)
    while env.cause is None:
        observation, *_ = env.step(demonstrator.decide())
        seen.append(observation)
    recording = Recording.parse(Recording.of_episode(env, seed=7).to_json(), "it")
    assert recording.outcome == "success"
    assert (recording.env, recording.level) == ("cartpole", "default")
    assert recording.rom_sha256 is None
    again = recording.make_env({"time_limit": 500})
    np.testing.assert_array_equal(list(replay_steps(recording, again, "it")), seen[:-1])
    assert again.state_sha256() == env.state_sha256()


def test_a_frame_has_the_cart_where_the_state_says() -> None:
    env = make(render_mode="rgb_array")
    env.reset()
    places = set()
    for _ in range(40):
        frame = env.render()
        assert frame is not None
        assert frame.shape == (400, 600, 3)
        assert frame.dtype == np.uint8
        x, _, angle, _ = env.state
        # 600 pixels are 4.8 m. The cart is 61 pixels wide and black.
        black = (frame[312] == 0).all(axis=1).nonzero()[0]
        middle = int(300 * (x / 2.4 + 1))
        assert (black[0], black[-1]) == (middle - 30, middle + 30)
        # The pole is 200 pixels long; its tip leans to where the angle does.
        rows, columns = (frame == (202, 152, 101)).all(axis=2).nonzero()
        tip = columns[rows == rows.min()].mean()
        assert tip - middle == pytest.approx(200 * np.sin(angle), abs=4)
        places.add(middle)
        env.step(int(angle + 0.5 * env.state[3] > 0.05))
    assert len(places) > 5


def test_without_a_render_mode_there_is_no_frame() -> None:
    env = make()
    env.reset()
    assert env.render() is None


def test_states_are_described_as_numbers_of_about_one() -> None:
    states = np.array([[2.4, 2.0, 0.2095, -2.0], [-1.2, 0.0, 0.0, 1.0]])
    described = CartPoleEnv.describe_state(states)
    assert described.dtype == np.float32
    np.testing.assert_allclose(described, [[1, 1, 1, -1], [-0.5, 0, 0, 0.5]])


def test_what_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="no level '1-1': there is default"):
        CartPoleEnv("1-1")
    with pytest.raises(ValueError, match="obs_type must be of state, got 'pixels'"):
        CartPoleEnv(obs_type="pixels")
    env = make()
    env.reset()
    with pytest.raises(ValueError, match="no action 2: there are 2 actions, from 0"):
        env.step(2)


def test_a_step_after_the_end_is_an_error() -> None:
    env = make(time_limit=1)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(LEFT)
    env.reset()
    env.step(LEFT)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(LEFT)
