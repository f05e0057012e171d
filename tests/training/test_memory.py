"""The replay memory: what SB3's buffers give, from a part of the bytes."""

from contextlib import closing
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer

from warpzone.core.errors import InputError
from warpzone.episodes.recording import Recording
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.memory import ReplayMemory, bytes_of_transition, remember

ENVS = 3
GAMMA = 0.9


def spaces_of(envs) -> tuple[Any, Any]:
    return envs.observation_space, envs.action_space


def memory_for(envs, size: int, n_steps: int) -> ReplayMemory:
    return ReplayMemory(
        size, *spaces_of(envs), n_envs=ENVS, n_steps=n_steps, gamma=GAMMA
    )


def play(envs, steps: int, *memories: Any, key: str, seed: int = 1) -> int:
    """Act at random and let each of the memories keep it; return how many ended.

    SB3's own take the observation, ours a dictionary of it.
    """
    rng = np.random.default_rng(seed)
    envs.seed(seed)
    seen, ended = envs.reset(), 0
    for _ in range(steps):
        actions = rng.integers(0, envs.action_space.n, ENVS)
        new, rewards, dones, infos = envs.step(actions)
        following = {name: value.copy() for name, value in new.items()}
        for index in np.flatnonzero(dones):
            ended += 1
            last = infos[index]["terminal_observation"]
            following[key][index] = last[key]
        for memory in memories:
            ours = isinstance(memory, ReplayMemory)
            pair = (seen, following) if ours else (seen[key], following[key])
            memory.add(*pair, actions, rewards, dones, infos)
        seen = new
    return ended


def samples_of(memory: Any, key: str, count: int = 200) -> list[np.ndarray]:
    np.random.seed(7)  # noqa: NPY002
    batch = memory.sample(count)
    tensors = [
        part[key] if isinstance(part, dict) else part
        for part in batch
        if part is not None
    ]
    return [tensor.numpy() for tensor in tensors]


@pytest.mark.parametrize("n_steps", [1, 4])
@pytest.mark.parametrize("steps", [10, 70])
@pytest.mark.parametrize("key", ["pixels", "state", "cartpole"])
def test_samples_are_those_of_sb3(cartpole, tiny_mario, key, steps, n_steps):
    """A memory of 30 steps of each environment, before and after it is full.

    Episodes end or are truncated after 17 agent steps or fewer; most begin further on,
    where the frames of a stack differ from each other.
    """
    world = cartpole if key == "cartpole" else tiny_mario.but(frame_stack=4)
    key = "state" if key == "cartpole" else key
    world = replace(world.but(time_limit=17), key=key, restart_probability=0.8)
    size = 30 * ENVS
    with closing(world.envs(ENVS, keys=(key,))) as envs:
        ours = memory_for(envs, size, n_steps)
        space: Any = envs.observation_space
        kwargs: Any = {"n_steps": n_steps, "gamma": GAMMA} if n_steps > 1 else {}
        buffer = NStepReplayBuffer if n_steps > 1 else ReplayBuffer
        theirs = buffer(
            size, space[key], envs.action_space, "cpu", n_envs=ENVS, **kwargs
        )
        ended = play(envs, steps, ours, theirs, key=key)
    assert ended > 3 or steps < 17
    assert (ours.pos, ours.full) == (theirs.pos, theirs.full)
    pairs = zip(samples_of(ours, key), samples_of(theirs, key), strict=False)
    for index, (mine, other) in enumerate(pairs):
        assert mine.shape == other.shape
        assert np.array_equal(mine, other), index
    assert samples_of(ours, key)[0].dtype == space[key].dtype


def test_without_sb3_s_n_steps_the_discount_is_gamma(cartpole):
    with closing(cartpole.envs(ENVS)) as envs:
        memory = memory_for(envs, 60, 1)
        play(envs, 30, memory, key="state")
    assert np.allclose(samples_of(memory, "state")[5], GAMMA)


def test_each_frame_is_kept_once(tiny_mario):
    world = tiny_mario.but(frame_stack=4, time_limit=100)
    with closing(world.envs(ENVS, keys=("pixels",))) as envs:
        memory = memory_for(envs, 300, 1)
        [space] = envs.observation_space.values()
        play(envs, 60, memory, key="pixels")
    # At the start 4, then one a step; no episode ends in 60 steps.
    assert memory._count == ENVS * (4 + 60)
    frame = 36 * 36
    assert memory._frames.nbytes < 1.35 * 300 * frame
    assert bytes_of_transition(space) == int(1.25 * frame) + 4 * 8 + 22


def test_short_episodes_need_more_frames_and_get_them(tiny_mario):
    # Each episode of 2 agent steps keeps 4 + 2 frames.
    world = tiny_mario.but(frame_stack=4, time_limit=2)
    with closing(world.envs(ENVS, keys=("pixels",))) as envs:
        ours = memory_for(envs, 20 * ENVS, 1)
        places = len(ours._frames)
        [space] = envs.observation_space.values()
        theirs = ReplayBuffer(20 * ENVS, space, envs.action_space, "cpu", n_envs=ENVS)
        play(envs, 50, ours, theirs, key="pixels")
    # 180 at least, where there was room for 90.
    assert len(ours._frames) == 4 * places
    pairs = zip(samples_of(ours, "pixels"), samples_of(theirs, "pixels"), strict=False)
    for mine, other in pairs:
        assert np.array_equal(mine, other)


@pytest.mark.parametrize("steps", [12, 45])
def test_a_memory_that_was_saved_goes_on_as_it_would_have(tiny_mario, tmp_path, steps):
    world = tiny_mario.but(frame_stack=4, time_limit=11)
    checkpoint = Checkpoint(tmp_path / "kept")
    with closing(world.envs(ENVS, keys=("pixels",))) as envs:
        whole = memory_for(envs, 30 * ENVS, 3)
        play(envs, steps, whole, key="pixels")
        checkpoint.save(whole.state_dict())
        again = memory_for(envs, 30 * ENVS, 3)
        again.load_state_dict(Checkpoint(tmp_path / "kept").state)
        for memory in (whole, again):
            play(envs, 40, memory, key="pixels", seed=2)
    for mine, other in zip(
        samples_of(whole, "pixels"), samples_of(again, "pixels"), strict=True
    ):
        assert np.array_equal(mine, other)


def test_only_what_is_filled_is_saved(tiny_mario, tmp_path):
    with closing(tiny_mario.envs(ENVS, keys=("pixels",))) as envs:
        memory = memory_for(envs, 100_000, 1)
        play(envs, 8, memory, key="pixels")
    checkpoint = Checkpoint(tmp_path / "kept")
    checkpoint.save(memory.state_dict())
    # 8 steps and an end, of 36 x 36 bytes and a few numbers.
    assert checkpoint.path.stat().st_size < ENVS * 10 * (36 * 36 + 100) + 4000


@pytest.fixture
def recordings(cartpole) -> list[Recording]:
    """Three episodes of CartPole, the first one cut off."""
    made = []
    with closing(cartpole.make()) as env:
        for seed in range(3):
            env.reset(seed=seed)
            while env.cause is None and not (seed == 0 and len(env.decisions) == 5):
                env.step(1)
            made.append(Recording.of_episode(env, seed))
    return made


def test_demonstrations_are_remembered_with_our_rewards(
    cartpole, recordings, recipe_of
):
    cpu = torch.device("cpu")
    with closing(cartpole.make(keys=("state",))) as env:
        memory = remember(
            recordings, cartpole.kwargs, env, recipe_of("dqn", n_steps=1), cpu, "demos"
        )
        steps = [len(one.decided) for one in recordings]
        assert steps[0] == 5
        assert memory.full
        assert memory.size() == sum(steps)
        assert (memory._actions == 1).all()
        # One a step; only the pole's fall is an end.
        assert (memory._rewards == 1).all()
        ends = np.flatnonzero(memory._is_over)
        assert ends.tolist() == (np.cumsum(steps) - 1).tolist()
        assert memory._is_terminated[ends].tolist() == [[False], [True], [True]]
        env.begin(recordings[1].no_ops)
        first = memory._frames[memory._seen[5, 0, 0]]
        assert np.array_equal(first, env.begin(recordings[1].no_ops)[0]["state"])


def test_a_demonstration_that_does_not_replay_is_named_by_its_line(
    cartpole, recordings, recipe_of
):
    wrong = recordings[1].model_copy(update={"state_sha256": "0" * 64})
    some, dqn, cpu = [recordings[0], wrong], recipe_of("dqn"), torch.device("cpu")
    with (
        closing(cartpole.make(keys=("state",))) as env,
        pytest.raises(InputError, match="demos, line 2: the replay ends in another"),
    ):
        remember(some, cartpole.kwargs, env, dqn, cpu, "demos")


def test_a_vector_is_a_stack_of_one() -> None:
    space = gym.spaces.Box(0, 1, (4,), np.float32)
    assert bytes_of_transition(space) == int(1.25 * 16) + 8 + 22
