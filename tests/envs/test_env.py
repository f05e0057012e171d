"""The learning problem that agents meet."""

import warnings
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3

from warpzone.agents.policy import stands_still
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LEVELS, LevelPlay
from warpzone.envs.mario.state import Address, read_state, read_x
from warpzone.envs.nes.buttons import NO_BUTTONS, RIGHT, A
from warpzone.episodes.recording import read_recordings

# Of the set "simple".
NOOP, WALK, JUMP, RUN_AND_JUMP, LEFT = 0, 1, 2, 4, 6
# The first goomba gets a Mario who walks right from the start in this frame.
DEATH_FRAME = 160
CLEARS = Path(__file__).parents[1] / "data" / "clears.jsonl"
KEYS = [
    "x_pos",
    "y_pos",
    "time",
    "score",
    "coins",
    "life",
    "status",
    "world",
    "stage",
    "dead",
    "flag_get",
    "x_pos_max",
    "place",
    "reward_terms",
    "reward",
    "steps",
    "progress",
    "cause",
    "is_success",
]


@pytest.fixture
def mario(mario: Callable[..., MarioEnv]) -> Callable[..., MarioEnv]:
    """Make a `MarioEnv` on FCEUmm, the faster emulator.

    tests/envs/test_emulators.py compares it with the reference.
    """
    return partial(mario, emulator="fceumm")


def repeat(
    env: MarioEnv, action: int, steps: int
) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
    """Take an action some times and return what the last step returned."""
    for _ in range(steps - 1):
        env.step(action)
    return env.step(action)


def held_by(env: MarioEnv, actions: list[int], seed: int) -> bytes:
    """What was held after the no-ops when these actions were asked for."""
    env.reset(seed=seed)
    for action in actions:
        env.step(action)
    return bytes(env.frame_actions[env.no_ops :])


def test_the_checkers_of_gymnasium_and_sb3_find_nothing(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(render_mode="rgb_array", no_op_max=30, sticky_probability=0.25)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        # It is made without gymnasium.make, so it has no spec.
        warnings.filterwarnings("ignore", message=".*not having a spec")
        check_env(env)
        check_env_for_sb3(env)


@pytest.mark.parametrize("stack", [1, 4])
def test_an_observation_is_a_stack_of_grey_frames(
    mario: Callable[..., MarioEnv], stack: int
) -> None:
    env = mario(frame_stack=stack, height=40, width=60)
    observation, _ = env.reset()
    assert observation.shape == (stack, 40, 60)
    assert observation.dtype == np.uint8
    assert observation.flags.c_contiguous
    assert env.observation_space.contains(observation)
    assert env.observation_space.shape == (stack, 40, 60)


def test_the_newest_frame_is_last_and_all_are_alike_after_a_reset(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario()
    first, _ = env.reset()
    for frame in first:
        np.testing.assert_array_equal(frame, first[0])
    before = first
    for _ in range(6):
        after, *_ = env.step(WALK)
        np.testing.assert_array_equal(after[:-1], before[1:])
        assert not np.array_equal(after[-1], after[-2])
        before = after


def test_a_frame_is_the_screen_in_grey_without_the_hud(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(render_mode="rgb_array", show_buttons=False)
    env.reset()
    observation, *_ = repeat(env, WALK, 20)
    screen = env.render()
    assert screen is not None
    assert screen.shape == (240, 256, 3)
    grey = cv2.cvtColor(screen, cv2.COLOR_RGB2GRAY)[32:]
    half = cv2.resize(grey, (128, 104), interpolation=cv2.INTER_AREA)
    expected = cv2.resize(half, (84, 84), interpolation=cv2.INTER_LINEAR)
    # Two ways to round luma may differ by a level.
    np.testing.assert_allclose(observation[-1].astype(int), expected, atol=2)


@pytest.mark.parametrize(("height", "width"), [(84, 84), (52, 64), (40, 60)])
def test_a_frame_stands_still_where_mario_does_not_get_on(
    mario: Callable[..., MarioEnv], height: int, width: int
) -> None:
    env = mario(height=height, width=width)
    observation, _ = env.reset()
    seen = [observation]
    for action in [WALK] * 30 + [NOOP] * 12:
        observation, *_ = env.step(action)
        seen.append(observation)
    still = stands_still(np.stack(seen))
    assert still[0]
    # From the middle of the screen on.
    assert not still[20:31].any()
    assert still[-1]


def test_a_single_frame_says_nothing_about_standing_still(
    mario: Callable[..., MarioEnv],
) -> None:
    observation, _ = mario(frame_stack=1).reset()
    assert not stands_still(observation[None])


def test_the_button_overlay_shows_what_is_held(mario: Callable[..., MarioEnv]) -> None:
    env = mario()
    observation, _ = env.reset()
    assert not observation[:, :8, :32].any()
    for action, lit in ((RUN_AND_JUMP, [0, 1, 3]), (LEFT, [2]), (NOOP, [])):
        observation, *_ = env.step(action)
        # From left to right: A, B, left, right.
        for index in range(4):
            square = observation[-1, :8, 8 * index : 8 * index + 8]
            assert (square == (255 if index in lit else 0)).all()
    before = observation[-2]
    assert (before[:8, 16:24] == 255).all()


def test_the_hud_is_kept_when_asked_for(mario: Callable[..., MarioEnv]) -> None:
    whole = {"height": 240, "width": 256, "crop_hud": False, "show_buttons": False}
    full = mario(**whole).reset()[0][0]
    cropped = mario(**whole | {"height": 208, "crop_hud": True}).reset()[0][0]
    np.testing.assert_array_equal(full[32:], cropped)
    # White letters on the sky.
    assert full[:32].max() > 240


def test_what_a_step_returned_is_not_overwritten_by_the_next(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario()
    first, _ = env.reset()
    kept = first.copy()
    for _ in range(5):
        env.step(WALK)
    np.testing.assert_array_equal(first, kept)


def test_the_same_seed_gives_the_same_bytes(mario: Callable[..., MarioEnv]) -> None:
    def episode(env: MarioEnv) -> list[Any]:
        rng = np.random.default_rng(5)
        observation, info = env.reset(seed=11)
        seen: list[Any] = [(observation.tobytes(), info)]
        for action in rng.integers(7, size=40):
            observation, *rest = env.step(action)
            seen.append((observation.tobytes(), *rest))
            if rest[1]:
                break
        return [*seen, bytes(env.frame_actions)]

    noise = {"no_op_max": 30, "sticky_probability": 0.25}
    env = mario(**noise)
    first = episode(env)
    assert episode(env) == first
    assert episode(mario(**noise)) == first


def test_episodes_of_one_environment_differ_in_their_noise(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(no_op_max=30)
    env.reset(seed=1)
    assert len({reset_no_ops(env) for _ in range(8)}) > 3


def test_every_number_of_no_ops_up_to_the_maximum_occurs(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(no_op_max=3)
    seen = set()
    for seed in range(40):
        env.reset(seed=seed)
        seen.add(env.no_ops)
        assert bytes(env.frame_actions) == bytes([NO_BUTTONS]) * env.no_ops
    assert seen == {0, 1, 2, 3}


def test_without_noise_an_action_is_held_for_the_frame_skip(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(frame_skip=3)
    held = held_by(env, [WALK, JUMP, NOOP], seed=0)
    assert held == bytes([RIGHT] * 3 + [RIGHT | A] * 3 + [NO_BUTTONS] * 3)
    assert bytes(env.decisions) == bytes([RIGHT, RIGHT | A, NO_BUTTONS])


def test_buttons_stick_in_the_given_share_of_frames(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(sticky_probability=0.25, frame_skip=1, stuck_limit=0)
    # What is asked for changes every frame. A frame shows that it stuck if the frame
    # before it did as asked: of a share s of the frames, where s = p (1 - s).
    wanted = [LEFT, NOOP] * 600
    held = np.frombuffer(held_by(env, wanted, seed=3), np.uint8)
    asked = np.array([ACTION_SETS["simple"][action] for action in wanted])
    # Four standard deviations of 1,200 draws.
    assert np.mean(held != asked) == pytest.approx(0.25 / 1.25, abs=0.046)
    # What sticks is what the frame before held.
    previous = np.concatenate([[NO_BUTTONS], held[:-1]])
    np.testing.assert_array_equal(held[held != asked], previous[held != asked])


def test_per_decision_buttons_stick_for_whole_agent_steps(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(sticky_probability=0.25, sticky_unit="decision", stuck_limit=0)
    # What is asked for changes every step, so as above s = p (1 - s).
    wanted = [LEFT, NOOP] * 300
    held = np.frombuffer(held_by(env, wanted, seed=3), np.uint8).reshape(-1, 4)
    assert (held == held[:, :1]).all()
    asked = np.array([ACTION_SETS["simple"][action] for action in wanted])
    stuck = held[:, 0] != asked
    # Four standard deviations of 600 draws.
    assert np.mean(stuck) == pytest.approx(0.25 / 1.25, abs=0.066)
    previous = np.concatenate([[NO_BUTTONS], held[:-1, 0]])
    np.testing.assert_array_equal(held[stuck, 0], previous[stuck])


def test_per_decision_as_much_noise_is_drawn_as_per_frame(
    mario: Callable[..., MarioEnv],
) -> None:
    drawn = []
    for per in ("frame", "decision"):
        env = mario(no_op_max=30, sticky_probability=0.25, sticky_unit=per)
        held_by(env, [WALK] * 10, seed=4)
        drawn.append([reset_no_ops(env) for _ in range(5)])
    assert drawn[0] == drawn[1]


def test_the_first_frame_sticks_to_the_no_ops_if_there_are_any(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(no_op_max=1, sticky_probability=0.5, frame_skip=1)
    first: dict[int, set[int]] = {0: set(), 1: set()}
    for seed in range(30):
        held = held_by(env, [WALK], seed)
        first[env.no_ops].add(held[0])
    assert first == {0: {RIGHT}, 1: {RIGHT, NO_BUTTONS}}


def test_the_noise_does_not_depend_on_the_actions(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(no_op_max=30, sticky_probability=0.5)

    def stuck(first: int, second: int) -> list[bool]:
        """In which frames a change of action was held up; they alternate."""
        held = held_by(env, [first, second] * 10, seed=21)
        asked = np.repeat([ACTION_SETS["simple"][a] for a in (first, second) * 10], 4)
        return [one == other for one, other in zip(held, asked, strict=True)]

    # The last frames before the first decision held nothing, so begin with nothing.
    assert stuck(NOOP, WALK) == stuck(NOOP, JUMP) == stuck(NOOP, RUN_AND_JUMP)
    assert False in stuck(NOOP, WALK)


def test_a_step_that_death_cuts_short_draws_as_much_noise_as_any(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(no_op_max=30, frame_skip=6)

    def following_no_ops() -> list[int]:
        return [reset_no_ops(env) for _ in range(5)]

    no_ops = reset_no_ops(env, seed=2)
    while not env.step(WALK)[2]:
        pass
    steps = len(env.decisions)
    assert len(env.frame_actions) - no_ops < 6 * steps
    after_death = following_no_ops()
    reset_no_ops(env, seed=2)
    repeat(env, NOOP, steps)
    assert following_no_ops() == after_death


def reset_no_ops(env: MarioEnv, seed: int | None = None) -> int:
    env.reset(seed=seed)
    return env.no_ops


def test_the_time_limit_truncates(mario: Callable[..., MarioEnv]) -> None:
    env = mario(time_limit=5)
    env.reset()
    steps = [env.step(WALK) for _ in range(5)]
    assert [step[2:4] for step in steps] == [(False, False)] * 4 + [(False, True)]
    assert [step[4]["cause"] for step in steps] == [None] * 4 + ["time_limit"]


def test_the_stuck_limit_terminates_after_steps_without_new_ground(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(stuck_limit=6)
    env.reset()
    repeat(env, WALK, 10)
    steps = [env.step(LEFT)]
    while env.cause is None:
        steps.append(env.step(LEFT))
    assert [step[2] for step in steps] == [False] * (len(steps) - 1) + [True]
    assert not any(step[3] for step in steps)
    _, reward, _, _, info = steps[-1]
    furthest = [step[4]["x_pos_max"] for step in steps]
    assert info["cause"] == "stuck"
    assert not info["is_success"]
    assert info["place"] is None
    # It is no death: nothing is paid for it.
    assert reward == 0.0
    # He slides on at first, which is new ground; then come six steps without any.
    assert furthest[-8] < furthest[-7] == furthest[-1]
    # Ground that he knows is not new ground, though he moves.
    assert read_x(env.play.ram) < furthest[-1]


def test_a_stuck_limit_of_zero_never_terminates(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(stuck_limit=0, time_limit=150)
    env.reset()
    ends = [env.step(NOOP)[2:4] for _ in range(150)]
    assert ends == [(False, False)] * 149 + [(False, True)]


def test_stuck_at_the_time_limit_is_terminated(mario: Callable[..., MarioEnv]) -> None:
    env = mario(stuck_limit=5, time_limit=5)
    env.reset()
    _, _, terminated, truncated, info = repeat(env, NOOP, 5)
    assert (terminated, truncated, info["cause"]) == (True, False, "stuck")


def test_a_death_at_the_time_limit_is_terminated(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(time_limit=DEATH_FRAME // 4)
    env.reset()
    _, _, terminated, truncated, info = repeat(env, WALK, DEATH_FRAME // 4)
    assert (terminated, truncated, info["cause"]) == (True, False, "enemy")


def test_death_terminates_and_costs(mario: Callable[..., MarioEnv]) -> None:
    env = mario()
    env.reset()
    assert not repeat(env, WALK, DEATH_FRAME // 4 - 1)[2]
    before = env.play.odometer.progress
    _, reward, terminated, truncated, info = env.step(WALK)
    assert terminated
    assert not truncated
    pixels = env.play.odometer.progress - before
    assert reward == pytest.approx(0.02 * pixels - 1.0)
    assert info["x_pos_max"] == info["x_pos"] == info["progress"] == 296
    assert (info["cause"], info["place"]) == ("enemy", 296)
    assert not info["is_success"]


@pytest.mark.parametrize(
    ("emulator", "frame_skip"), [("nes-py", 4), ("fceumm", 3), ("fceumm", 7)]
)
def test_the_frame_skip_stops_at_death(
    mario: Callable[..., MarioEnv], emulator: str, frame_skip: int
) -> None:
    env = mario(emulator=emulator, frame_skip=frame_skip)
    env.reset()
    while not env.step(WALK)[2]:
        pass
    assert bytes(env.frame_actions) == bytes([RIGHT]) * DEATH_FRAME
    assert len(env.decisions) == -(-DEATH_FRAME // frame_skip)
    assert read_state(env.play.ram).dead
    # Frame by frame, he is dead no sooner.
    play = LevelPlay(make_console(emulator), "1-1")
    for _ in range(DEATH_FRAME):
        assert not play.is_over
        play.advance(RIGHT)
    assert bytes(env.play.ram) == bytes(play.ram)


@pytest.mark.parametrize("offset", [0, 1, 2, 3])
def test_the_frame_skip_stops_at_the_flag(
    mario: Callable[..., MarioEnv], offset: int
) -> None:
    recording = read_recordings(CLEARS)[0]
    assert recording.level == "1-1"
    held = recording.held
    env = mario(action_set="all", frame_skip=8)
    env.reset()
    # All but the last frames; the flag comes while the last buttons are still held.
    for buttons in held[: -4 - offset]:
        env.play.advance(buttons)
    emulated = env.play.emulator_frames
    action = ACTION_SETS["all"].index(held[-1])
    _, reward, terminated, truncated, info = env.step(action)
    assert terminated
    assert not truncated
    assert info["flag_get"]
    assert (info["cause"], info["is_success"]) == ("clear", True)
    assert env.outcome == "success"
    assert reward > 1.9
    assert env.play.emulator_frames - emulated < 8
    assert len(env.frame_actions) == env.play.emulator_frames - emulated


def test_a_reward_is_what_the_weights_say(mario: Callable[..., MarioEnv]) -> None:
    env = mario()
    _, info = env.reset()
    assert info["reward"] == 0.0
    for _ in range(12):
        before, sum_before = read_x(env.play.ram), info["reward"]
        _, reward, *_, info = env.step(WALK)
        # Nothing but new ground is paid here: 0.02 a pixel.
        assert reward == pytest.approx(0.02 * (info["x_pos"] - before))
        assert info["reward"] == pytest.approx(sum_before + reward)
    assert info["reward"] == pytest.approx(0.02 * (info["x_pos"] - 40))
    assert info["reward"] > 0.3


def test_what_each_term_paid_adds_up_to_the_reward(
    mario: Callable[..., MarioEnv],
) -> None:
    weights = {"clock_tick": -0.01, "idle": -0.5, "new_maximum": 0.1, "clear": 0.0}
    weights |= {"milestone": 0.7, "milestone_every": 50}
    env = mario(reward=weights | {"death": -1.0})
    _, info = env.reset()
    paid = ["progress", "new_maximum", "milestone", "clock_tick", "idle", "death"]
    assert info["reward_terms"] == dict.fromkeys(paid, 0.0)
    steps = idle = new = 0
    while info["cause"] is None:
        # He stands before he walks into the first Goomba.
        before, x = env.progress, info["x_pos"]
        *_, info = env.step(NOOP if steps < 5 else WALK)
        steps += 1
        new += env.progress > before
        idle += info["x_pos"] == x and steps <= 5
    assert info["cause"] == "enemy"
    terms = info["reward_terms"]
    assert list(terms) == paid
    assert sum(terms.values()) == pytest.approx(info["reward"])
    assert terms["progress"] == pytest.approx(0.02 * (info["x_pos_max"] - 40))
    assert terms["milestone"] == pytest.approx(0.7 * ((info["x_pos_max"] - 40) // 50))
    assert terms["milestone"] > 0
    assert terms["new_maximum"] == pytest.approx(0.1 * new)
    assert terms["clock_tick"] < 0
    assert idle == 5
    assert terms["idle"] <= -0.5 * 5
    assert terms["death"] == -1.0
    _, info = env.reset()
    assert info["reward_terms"] == dict.fromkeys(paid, 0.0)


def test_a_power_up_is_paid(mario: Callable[..., MarioEnv]) -> None:
    env = mario(reward={"power_up": 0.5})
    env.reset()
    env.step(WALK)
    for power, paid in ((1, 0.5), (2, 1.0), (0, 1.0)):
        # As the game does when he touches a mushroom, a flower, an enemy.
        env.play.ram[Address.POWER_UP] = power
        *_, info = env.step(NOOP)
        assert info["reward_terms"]["power_up"] == paid


def test_a_jump_of_x_through_a_pipe_is_not_paid(
    mario: Callable[..., MarioEnv], into_the_bonus_room: bytes
) -> None:
    env = mario(action_set="complex", frame_skip=1, stuck_limit=0)
    env.reset()
    for buttons in into_the_bonus_room[:-1]:
        env.step(ACTION_SETS["complex"].index(buttons))
    down = ACTION_SETS["complex"].index(0x20)
    _, reward, terminated, _, info = env.step(down)
    assert not terminated
    assert (info["x_pos"], info["x_pos_max"]) == (24, 918)
    assert reward == 0.0


def test_info_has_the_same_entries_after_resets_and_steps(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(level="2-3")
    _, info = env.reset()
    assert list(info) == KEYS
    assert (info["world"], info["stage"], info["steps"]) == (2, 3, 0)
    *_, info = env.step(WALK)
    assert list(info) == KEYS
    assert info["steps"] == 1
    assert (info["status"], info["life"], info["flag_get"]) == ("small", 2, False)
    assert (info["cause"], info["is_success"], info["place"]) == (None, False, None)


def test_a_step_after_the_end_is_an_error(mario: Callable[..., MarioEnv]) -> None:
    env = mario(time_limit=1)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(NOOP)
    env.reset()
    env.step(NOOP)
    frames = env.play.emulator_frames
    with pytest.raises(RuntimeError, match=r"call reset\(\) before step\(\)"):
        env.step(NOOP)
    assert env.play.emulator_frames == frames


@pytest.mark.parametrize("action", [-1, 7])
def test_an_unknown_action_is_an_error(
    mario: Callable[..., MarioEnv], action: int
) -> None:
    env = mario()
    env.reset()
    message = f"no action {action}: there are 7 actions, from 0"
    with pytest.raises(ValueError, match=message):
        env.step(action)


def test_a_state_is_the_ram_after_each_step(mario: Callable[..., MarioEnv]) -> None:
    noise = {"no_op_max": 30, "sticky_probability": 0.25}
    env = mario(obs_type="state", **noise)
    check_env_for_sb3(env)
    seeing = mario(**noise)
    observation, _ = env.reset(seed=3)
    seeing.reset(seed=3)
    kept = [observation]
    for action in (WALK, RUN_AND_JUMP, RUN_AND_JUMP, WALK):
        observation, *_ = env.step(action)
        seeing.step(action)
        assert env.observation_space.contains(observation)
        assert bytes(observation) == bytes(seeing.play.ram)
        kept.append(observation)
    # Each is a copy.
    assert len({bytes(observation) for observation in kept}) == 5


def test_several_types_of_observations_are_a_dictionary_of_them(
    mario: Callable[..., MarioEnv],
) -> None:
    noise = {"no_op_max": 30, "sticky_probability": 0.25}
    both = mario(obs_type=("pixels", "state"), **noise)
    alone = [mario(obs_type=key, **noise) for key in ("pixels", "state")]
    check_env_for_sb3(both)
    assert both.observation_space == gym.spaces.Dict(
        {
            "pixels": gym.spaces.Box(0, 255, (4, 84, 84), np.uint8),
            "state": gym.spaces.Box(0, 255, (2048,), np.uint8),
        }
    )
    seen, _ = both.reset(seed=3)
    pixels, state = (env.reset(seed=3)[0] for env in alone)
    for action in (WALK, RUN_AND_JUMP, WALK):
        assert list(seen) == ["pixels", "state"]
        np.testing.assert_array_equal(seen["pixels"], pixels)
        np.testing.assert_array_equal(seen["state"], state)
        seen, *_ = both.step(action)
        pixels, state = (env.step(action)[0] for env in alone)


def test_a_tuple_of_one_type_is_a_dictionary_too(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario(obs_type=("state",))
    observation, _ = env.reset()
    assert list(observation) == ["state"]
    assert env.observation_space.contains(observation)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"obs_type": "grey"}, "obs_type must be of pixels, state, got 'grey'"),
        ({"obs_type": ("state", "grey")}, r"got \('state', 'grey'\)"),
        ({"obs_type": ()}, r"got \(\)"),
        ({"render_mode": "human"}, "render_mode must be rgb_array, got 'human'"),
        ({"level": "9-1"}, "no level '9-1': the game has 1-1 to 8-4"),
        (
            {"action_set": "none"},
            "must be one of walk, right_only, simple, .*, got 'none'",
        ),
        ({"frame_skip": 0}, "frame_skip must be a whole number, 1 to 60, got 0"),
        ({"frame_skip": 4.0}, r"frame_skip must be a whole number, 1 to 60, got 4\.0"),
        ({"time_limit": 0}, "time_limit must be .*, 1 to 1000000, got 0"),
        ({"stuck_limit": -1}, "stuck_limit must be .*, 0 to 1000000, got -1"),
        ({"no_op_max": -1}, "no_op_max must be .*, 0 to 300, got -1"),
        ({"sticky_probability": 1.0}, r"must be in \[0, 1\), got 1\.0"),
        ({"sticky_unit": "x"}, "^sticky_unit must be frame or decision, got 'x'$"),
        ({"height": 35}, "height must be a whole number, 36 to 240, got 35"),
        ({"width": 257}, "width must be a whole number, 36 to 256, got 257"),
        ({"frame_stack": 0}, "frame_stack must be a whole number, 1 to 16, got 0"),
        ({"crop_hud": 1}, "crop_hud must be true or false, got 1"),
        ({"reward": {"deaths": -1.0}}, r"reward has unknown \['deaths'\]"),
        ({"reward": {"death": "-1"}}, "reward.death = '-1': write a number"),
    ],
)
def test_an_argument_that_cannot_be_is_refused_with_its_value(
    mario: Callable[..., MarioEnv], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        mario(**changes)


def test_rendered_frames_move(mario: Callable[..., MarioEnv]) -> None:
    env = mario(render_mode="rgb_array")
    env.reset()
    frames = [env.render()]
    for _ in range(8):
        env.step(RUN_AND_JUMP)
        frames.append(env.render())
    for before, after in pairwise(frames):
        assert before is not None
        assert after is not None
        assert after.dtype == np.uint8
        assert not np.array_equal(before, after)
    assert frames[0] is not None
    assert frames[0].std() > 20  # In colour.
    assert not np.array_equal(frames[0][..., 0], frames[0][..., 2])


def test_without_a_render_mode_there_is_no_frame(
    mario: Callable[..., MarioEnv],
) -> None:
    env = mario()
    env.reset()
    assert env.render() is None


def test_closing_twice_is_allowed(mario: Callable[..., MarioEnv]) -> None:
    env = mario()
    env.reset()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="the episode has ended"):
        env.step(NOOP)


@pytest.mark.parametrize("action_set", ACTION_SETS)
def test_every_action_of_a_set_can_be_taken(
    mario: Callable[..., MarioEnv], action_set: str
) -> None:
    env = mario(action_set=action_set, frame_skip=1)
    env.reset()
    count = len(ACTION_SETS[action_set])
    assert env.action_space == gym.spaces.Discrete(count)
    for action in range(count):
        env.step(action)
    assert bytes(env.frame_actions) == bytes(ACTION_SETS[action_set])


@pytest.mark.slow
@pytest.mark.parametrize("level", LEVELS)
def test_every_level_can_be_played(mario: Callable[..., MarioEnv], level: str) -> None:
    env = mario(level=level)
    first, info = env.reset()
    assert f"{info['world']}-{info['stage']}" == level
    observation, _, terminated, truncated, info = repeat(env, WALK, 5)
    assert not terminated
    assert not truncated
    assert info["x_pos"] > 40
    assert first.std() > 5
    assert not np.array_equal(observation[-1], first[-1])
