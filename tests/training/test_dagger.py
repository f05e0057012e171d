"""DAgger: what the teacher is asked, and that it resumes."""

from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch

from warpzone.agents.policy import PolicyAgent, action_logits, make_deterministic
from warpzone.core.params import PretrainBCParams
from warpzone.episodes.agent import Agent, RandomAgent
from warpzone.episodes.play import play_episodes
from warpzone.episodes.recording import Recording, replay_steps, watch
from warpzone.training.checkpoint import Checkpoint
from warpzone.training.dagger import DAgger, TrajectoryRecorder

SEEDS = [5, 6, 7]


@pytest.fixture
def short_mario(tiny_mario):
    """Episodes of 20 agent steps, in stacks of four frames."""
    return tiny_mario.but(frame_stack=4, time_limit=20)


def recorded(
    agent: Agent, world
) -> tuple[list[Recording], list[TrajectoryRecorder], list[str]]:
    """Return episodes, who recorded what was seen, and what ended them."""
    recorders = [TrajectoryRecorder(world.key) for _ in SEEDS]
    table, recordings = play_episodes(
        agent,
        world.make,
        [world.level],
        SEEDS,
        len(SEEDS),
        on_step=lambda index, observation: recorders[index].record(observation),
    )
    return recordings, recorders, table["cause"].tolist()


def teacher_of(world, temperature: float = 0.5) -> PolicyAgent:
    teacher = replace(world, key="state")
    return teacher.agent(teacher.policy(1), temperature)


@pytest.mark.parametrize("frame_stack", [1, 4])
def test_the_teacher_is_asked_about_what_was_to_be_seen(short_mario, frame_stack):
    world = short_mario.but(frame_stack=frame_stack)
    teacher = teacher_of(world)
    recordings, recorders, _ = recorded(RandomAgent(7), world)
    for recording, recorder in zip(recordings, recorders, strict=True):
        asked, stuck = recorder.label(teacher, 0)
        assert len(stuck) == 0
        seen, actions = watch(recording, world.kwargs, ("pixels", "state"), "here")
        frames = seen["pixels"]
        assert len(actions) == 20
        assert frames.shape == (20, frame_stack, 36, 36)
        assert np.array_equal(asked.observations, frames)
        # Each frame is kept once, though most are seen four times.
        first, last = np.lib.array_utils.byte_bounds(asked.observations)
        assert last - first == (20 + frame_stack - 1) * frames[0, 0].nbytes
        # Half the temperature doubles the logits.
        logits = torch.from_numpy(action_logits(teacher.policy, "state", seen["state"]))
        expected = torch.softmax(2 * logits, dim=1).numpy()
        assert asked.probabilities.dtype == np.float32
        assert np.allclose(asked.probabilities, expected, atol=1e-6)


def test_what_is_asked_is_what_the_env_showed(tiny_mario):
    for frame_stack in (1, 4):
        world = tiny_mario.but(frame_stack=frame_stack, time_limit=40)
        recorder, shown = TrajectoryRecorder("pixels"), []
        with closing(world.make()) as env:
            observation, _ = env.reset(seed=3)
            for action in (1, 3, 4, 1, 0, 6, 3, 3, 4):
                recorder.record(observation)
                shown.append(observation["pixels"])
                observation, *_ = env.step(action)
        asked, _ = recorder.label(teacher_of(world), 0)
        assert np.array_equal(asked.observations, shown)
        # The frames differ, so a shift by one would be seen.
        assert not np.array_equal(shown[0], shown[1])


def test_a_pupil_of_a_world_without_pixels_is_asked_about_states(cartpole):
    teacher = teacher_of(cartpole)
    recordings, recorders, _ = recorded(RandomAgent(2), cartpole)
    for recording, recorder in zip(recordings, recorders, strict=True):
        asked, stuck = recorder.label(teacher, 0)
        seen, _ = watch(recording, cartpole.kwargs, ("state",), "here")
        assert len(stuck) == 0
        assert asked.observations.shape == (len(recording.decided), 4)
        assert np.array_equal(asked.observations, seen["state"])
        weights = teacher.action_weights(seen["state"])
        expected = weights / weights.sum(axis=1, keepdims=True)
        assert np.allclose(asked.probabilities, expected, atol=1e-7)


def test_a_pupil_that_sees_mario_s_state_is_asked_about_it(tiny_mario):
    world = replace(tiny_mario, key="state")
    [recording, *_], [recorder, *_], _ = recorded(RandomAgent(7), world)
    asked, _ = recorder.label(teacher_of(world), 0)
    seen, _ = watch(recording, world.kwargs, ("state",), "here")
    assert asked.observations.shape == (8, 2048)
    assert np.array_equal(asked.observations, seen["state"])


def test_a_teacher_without_temperature_is_certain(short_mario):
    teacher = teacher_of(short_mario, temperature=0.0)
    [recording, *_], [recorder, *_], _ = recorded(RandomAgent(7), short_mario)
    asked, _ = recorder.label(teacher, 0)
    seen, _ = watch(recording, short_mario.kwargs, ("state",), "here")
    likeliest = action_logits(teacher.policy, "state", seen["state"]).argmax(axis=1)
    assert np.array_equal(asked.probabilities, np.eye(7)[likeliest])


def test_whoever_sees_it_played_again_is_told_the_same(short_mario):
    world = short_mario.but(stuck_limit=10, time_limit=100)
    teacher = teacher_of(world)
    recordings, recorders, _ = recorded(Stops(), world)
    with closing(world.make()) as env:
        for recording, recorder in zip(recordings, recorders, strict=True):
            later = TrajectoryRecorder("pixels")
            for observation in replay_steps(recording, env, "here"):
                later.record(observation)
            first, again = (one.label(teacher, 10) for one in (recorder, later))
            for told, told_again in zip(first, again, strict=True):
                assert len(told) > 0
                assert np.array_equal(told.observations, told_again.observations)
                assert np.array_equal(told.probabilities, told_again.probabilities)


def test_where_the_pupil_is_stuck_any_action_is_as_good(short_mario):
    world = short_mario.but(stuck_limit=10, time_limit=100)
    teacher = teacher_of(world)
    recordings, recorders, causes = recorded(Stops(), world)
    assert causes == ["stuck"] * 3
    for recording, recorder in zip(recordings, recorders, strict=True):
        told, untold = recorder.label(teacher, 10)
        seen, _ = watch(recording, world.kwargs, ("pixels",), "here")
        frames = seen["pixels"]
        assert len(frames) < 34
        # Four steps after the last new ground all four frames show him stand.
        assert len(told) == len(told.probabilities) == len(frames) - 6
        assert np.array_equal(told.observations, frames[:-6])
        assert np.array_equal(untold.observations, frames[-6:])
        assert np.array_equal(untold.probabilities, np.full((6, 7), np.float32(1 / 7)))


# Stuck for too short a time, or ended otherwise.
@pytest.mark.parametrize("stuck_steps", [3, 0])
def test_the_teacher_is_asked_to_the_end_of_an_episode_that_ends_otherwise(
    short_mario, stuck_steps
):
    world = short_mario.but(stuck_limit=stuck_steps or 10, time_limit=100)
    recordings, recorders, _ = recorded(Stops(), world)
    for recording, recorder in zip(recordings, recorders, strict=True):
        told, untold = recorder.label(teacher_of(world), stuck_steps)
        assert len(untold) == 0
        assert len(told) == len(recording.decided)


class Stops:
    """Runs to the right for ten agent steps."""

    keys, memory_size = ("state",), 0

    def __init__(self) -> None:
        self._steps = 0

    def act(
        self,
        observations: object,
        memories: np.ndarray,
        rngs: Sequence[np.random.Generator],
    ) -> tuple[np.ndarray, np.ndarray]:
        self._steps += 1
        return np.full(len(rngs), int(self._steps <= 10)), memories


class Killed(Exception):
    """Stands for SIGKILL, as far as one process can."""


class DiesAfter(Checkpoint):
    """Is killed once so many rounds were saved."""

    saves = 1

    def save(self, state):
        super().save(state)
        self.saves -= 1
        if self.saves == 0:
            raise Killed


def params(**changes):
    values = {
        "batch_size": 8,
        "learning_rate": 1e-3,
        "weight_decay": 1e-4,
        "updates": 5,
        "observation": "pixels",
        "temperature": 0.0,
        "idle_temperature": 1.0,
        "held_out_share": 0.3,
        "n_envs": 2,
        "episodes": 3,
        "rounds": 2,
        "round_episodes": 3,
        "round_updates": 4,
        "final_updates": 6,
    }
    return PretrainBCParams(**values | changes)


def dagger_of(world, checkpoint, seed=9, teacher_does=None, **changes):
    teacher = teacher_of(world)
    if teacher_does is not None:
        with torch.no_grad():
            teacher.policy.get_parameter("action_net.bias")[teacher_does] = 100.0
    make_deterministic(1)
    return DAgger(
        teacher,
        PolicyAgent(world.policy(seed), world.key, 0.0, 1.0),
        world.make,
        [world.level],
        world.kwargs.get("stuck_limit", 0),
        params(**changes),
        4,
        checkpoint,
    )


def test_the_pupil_plays_all_rounds_but_the_first(cartpole, tmp_path):
    dagger = dagger_of(cartpole, Checkpoint(tmp_path / "kept"))
    dagger.run()
    rounds = dagger.rounds
    assert [row["round"] for row in rounds] == [0, 1, 2]
    assert [len(episodes) for episodes in dagger.episodes] == [3, 3, 3]
    # One of three episodes of each round is held out.
    assert (len(dagger.train), len(dagger.held_out)) == (6, 3)
    played = [
        [Recording.parse(line, "here") for line in episodes]
        for episodes in dagger.episodes
    ]
    steps = [sum(len(one.decided) for one in episodes) for episodes in played]
    assert [row["pairs"] for row in rounds] == np.cumsum(steps).tolist()
    frames = [len(one.held) for episodes in played for one in episodes]
    assert dagger.emulator_frames == sum(frames)
    # No episode is played twice.
    assert len({one.seed for episodes in played for one in episodes}) == 9
    metrics, pairs, predictions = dagger.measure()
    assert len(pairs) == len(predictions) == sum(map(len, dagger.held_out))
    assert rounds[-1]["held_out_loss"] == metrics.loss


def test_pairs_without_an_answer_are_trained_on_and_not_measured(tiny_mario, tmp_path):
    # A teacher that presses nothing is stuck after 6 agent steps. In the first one a
    # frame might still show Mario move.
    dagger = dagger_of(
        tiny_mario.but(time_limit=60, stuck_limit=6),
        Checkpoint(tmp_path / "kept"),
        teacher_does=0,
        rounds=0,
    )
    dagger.run()
    assert [len(episode) for episode in dagger.train] == [1, 1, 5, 5, 5]
    assert [len(episode) for episode in dagger.held_out] == [1]
    for episode in dagger.train[2:]:
        assert np.array_equal(episode.probabilities, np.full((5, 7), np.float32(1 / 7)))
    for episode in (*dagger.train[:2], *dagger.held_out):
        assert np.allclose(episode.probabilities, np.eye(7)[[0]])
    assert dagger.rounds[0]["pairs"] == 18


@pytest.mark.parametrize(
    ("name", "saves"),
    [
        ("cartpole", 1),
        ("cartpole", 3),
        ("mario", 2),
        pytest.param("mario", 1, marks=pytest.mark.slow),
        pytest.param("mario", 3, marks=pytest.mark.slow),
    ],
)
def test_dagger_resumes_after_a_round_to_the_same_bytes(
    cartpole, tiny_mario, weights, are_equal, tmp_path, name, saves
):
    world = {"cartpole": cartpole, "mario": tiny_mario.but(frame_stack=4)}[name]
    if name == "mario":
        world = world.but(time_limit=40, stuck_limit=8)
    whole = dagger_of(world, Checkpoint(tmp_path / "whole"))
    whole.run()
    dies = DiesAfter(tmp_path / "killed")
    dies.saves = saves
    with pytest.raises(Killed):
        dagger_of(world, dies).run()
    resumed = dagger_of(world, Checkpoint(tmp_path / "killed"), seed=77)
    resumed.run()
    assert are_equal(weights(resumed.pupil.policy), weights(whole.pupil.policy))
    assert resumed.rounds == whole.rounds
    assert resumed.episodes == whole.episodes
    assert resumed.emulator_frames == whole.emulator_frames
    for ours, theirs in (
        (resumed.train, whole.train),
        (resumed.held_out, whole.held_out),
    ):
        assert len(ours) == len(theirs)
        for one, other in zip(ours, theirs, strict=True):
            assert np.array_equal(one.observations, other.observations)
            assert np.array_equal(one.probabilities, other.probabilities)
