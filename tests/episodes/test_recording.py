"""An episode's log replays it exactly, and a log that does not is refused."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from warpzone.core.errors import InputError
from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import make_console, rom_sha256
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.level import LevelPlay
from warpzone.envs.nes.buttons import (
    DOWN,
    LEFT,
    NO_BUTTONS,
    RIGHT,
    A,
    action_name,
)
from warpzone.envs.nes.consoles import emulator_version
from warpzone.episodes.recording import Recording, read_recordings, replay, watch

STEPS = 30
OTHER_SHA256 = "0" * 64
SEED = 5


@pytest.fixture(scope="module")
def env(game: GameParams, noise: NoiseParams) -> MarioEnv:
    small = {"height": 36, "width": 40, "frame_stack": 2, "time_limit": STEPS}
    return MarioEnv(game.model_copy(update=small), noise)


@pytest.fixture(scope="module")
def episode(env: MarioEnv) -> tuple[Recording, np.ndarray, np.ndarray]:
    """A recording, and the observations and actions that the environment saw."""
    rng = np.random.default_rng(0)
    actions = rng.integers(7, size=STEPS)
    observations = [env.reset(seed=SEED)[0]]
    observations += [env.step(action)[0] for action in actions]
    assert env.no_ops > 0
    return Recording.of_episode(env, SEED), np.stack(observations[:-1]), actions


@pytest.fixture(scope="module")
def recording(episode: tuple[Recording, np.ndarray, np.ndarray]) -> Recording:
    return episode[0]


@pytest.fixture(scope="module")
def death(env: MarioEnv) -> Recording:
    """Mario walks into the first goomba, in the middle of an agent step."""
    game = env.game.model_copy(update={"time_limit": 1000, "frame_skip": 6})
    walk = MarioEnv(game, env.noise)
    walk.reset(seed=SEED)
    while not walk.step(1)[2]:
        pass
    return Recording.of_episode(walk, SEED)


@pytest.fixture(scope="module")
def four_steps(game: GameParams, no_noise: NoiseParams) -> Recording:
    """Walk, walk, jump and nothing, without noise."""
    env = MarioEnv(game, no_noise)
    env.reset(seed=1)
    for action in (1, 1, 2, 0):
        env.step(action)
    return Recording.of_episode(env, 1)


@pytest.fixture(scope="module")
def play() -> LevelPlay:
    return LevelPlay(make_console("nes-py"), "1-1")


def changed(recording: Recording, **changes: Any) -> str:
    """The recording's line of JSON with some keys changed."""
    return json.dumps(json.loads(recording.to_json()) | changes)


def test_a_recording_survives_its_line_of_json(recording: Recording) -> None:
    line = recording.to_json()
    assert "\n" not in line
    again = Recording.parse(line, "line 1")
    assert again == recording
    assert again.to_json() == line


def test_a_recording_says_what_was_played(recording: Recording, env: MarioEnv) -> None:
    assert recording.level == "1-1"
    assert recording.seed == SEED
    assert recording.rom_sha256 == rom_sha256()
    assert recording.emulator == emulator_version("nes-py") == "nes-py 9.0.1"
    assert recording.outcome == "unfinished"
    assert len(recording.frame_buttons) == recording.no_ops + 4 * STEPS
    assert recording.frame_buttons[: recording.no_ops] == bytes(recording.no_ops)
    assert len(recording.decided) == STEPS


def test_equal_episodes_have_equal_lines(env: MarioEnv) -> None:
    lines = []
    for _ in range(2):
        env.reset(seed=SEED)
        for _ in range(3):
            env.step(1)
        lines.append(Recording.of_episode(env, SEED).to_json())
    assert lines[0] == lines[1]


def test_buttons_are_logged_as_runs(four_steps: Recording) -> None:
    assert four_steps.buttons == [(RIGHT, 8), (RIGHT | A, 4), (NO_BUTTONS, 4)]
    assert four_steps.decisions == [(RIGHT, 2), (RIGHT | A, 1), (NO_BUTTONS, 1)]


def test_watching_shows_what_the_environment_returned(
    env: MarioEnv, episode: tuple[Recording, np.ndarray, np.ndarray]
) -> None:
    recording, observations, actions = episode
    seen, taken = watch(recording, env.game, "demo")
    assert seen.dtype == np.uint8
    assert taken.dtype == np.int64
    np.testing.assert_array_equal(seen, observations)
    np.testing.assert_array_equal(taken, actions)


def test_the_memory_can_be_watched_too(
    env: MarioEnv, episode: tuple[Recording, np.ndarray, np.ndarray]
) -> None:
    recording, _, actions = episode
    seeing_ram = MarioEnv(env.game, env.noise, obs_type="ram")
    observations = [seeing_ram.reset(seed=SEED)[0]]
    observations += [seeing_ram.step(action)[0] for action in actions]
    seen, taken = watch(recording, env.game, "demo", "ram")
    np.testing.assert_array_equal(seen, np.stack(observations[:-1]))
    np.testing.assert_array_equal(taken, actions)


def test_watching_an_episode_that_ends_in_the_middle_of_a_step(
    env: MarioEnv, death: Recording
) -> None:
    assert death.outcome == "death"
    assert (len(death.frame_buttons) - death.no_ops) % 6 != 0
    game = env.game.model_copy(update={"frame_skip": 6})
    observations, actions = watch(death, game, "demo")
    assert len(observations) == len(actions) == len(death.decided)
    assert set(actions) == {1}


def test_a_replay_counts_the_frames_and_ends_in_the_recorded_state(
    recording: Recording, play: LevelPlay
) -> None:
    frames = list(replay(recording, play, "demo"))
    assert frames == list(range(len(recording.frame_buttons) + 1))


def test_a_death_replays(death: Recording, play: LevelPlay) -> None:
    assert max(replay(death, play, "demo")) == len(death.frame_buttons)


def assert_refused(line: str, play: LevelPlay, *parts: str) -> None:
    """Reading and replaying a line fails with one line that has these parts."""
    with pytest.raises(InputError) as caught:
        list(replay(Recording.parse(line, "demos.jsonl, line 7"), play, "line 7"))
    message = str(caught.value)
    assert "\n" not in message
    assert "line 7: " in message
    for part in parts:
        assert part in message


def test_a_changed_byte_in_the_buttons_is_refused(
    recording: Recording, play: LevelPlay
) -> None:
    held = bytearray(recording.frame_buttons)
    frame = recording.no_ops + 40
    before = held[frame - 1]
    held[frame] = LEFT | A
    line = changed(recording, buttons=[(mask, 1) for mask in held])
    assert_refused(
        line, play, f"frame {frame} holds left+A", f"{action_name(before)} held"
    )
    # A person decides nothing, but ends up elsewhere.
    line = changed(recording, buttons=[(mask, 1) for mask in held], decisions=None)
    assert_refused(line, play, "ends in another state", recording.ram_sha256)


def test_a_changed_byte_in_the_decisions_is_refused(
    four_steps: Recording, play: LevelPlay
) -> None:
    line = changed(four_steps, decisions=[[RIGHT, 2], [DOWN, 1], [NO_BUTTONS, 1]])
    assert_refused(line, play, "frame 8 holds right+A, but down was decided")


def test_another_ram_hash_is_refused_with_both(
    recording: Recording, play: LevelPlay
) -> None:
    line = changed(recording, ram_sha256=OTHER_SHA256)
    assert_refused(line, play, OTHER_SHA256, recording.ram_sha256)


def test_another_outcome_is_refused_with_both(
    recording: Recording, play: LevelPlay
) -> None:
    line = changed(recording, outcome="clear")
    assert_refused(line, play, "'unfinished'", "'clear'")


def test_another_rom_is_refused_with_both(
    recording: Recording, play: LevelPlay
) -> None:
    line = changed(recording, rom_sha256=OTHER_SHA256)
    assert_refused(line, play, "another ROM", OTHER_SHA256, rom_sha256())


def test_another_emulator_is_refused_with_both(
    recording: Recording, play: LevelPlay
) -> None:
    line = changed(recording, emulator="nes-py 8.2.1")
    assert_refused(
        line, play, "another emulator", "nes-py 8.2.1", emulator_version("nes-py")
    )


def beyond_the_end(death: Recording) -> str:
    """The line of a death after which the buttons go on for an agent step."""
    runs = json.loads(death.to_json())
    return changed(
        death,
        buttons=[*runs["buttons"], [RIGHT, 6]],
        decisions=[*runs["decisions"], [RIGHT, 1]],
    )


def test_a_replay_that_ends_early_is_refused(death: Recording, play: LevelPlay) -> None:
    frames = len(death.frame_buttons)
    line = beyond_the_end(death)
    assert_refused(line, play, f"ends after {frames} of {frames + 6} frames")


def test_watching_what_ends_early_is_refused_in_the_same_words(
    death: Recording, env: MarioEnv
) -> None:
    game = env.game.model_copy(update={"frame_skip": 6})
    frames = len(death.frame_buttons)
    longer = Recording.parse(beyond_the_end(death), "demo")
    message = f"^demo: the replay ends after {frames} of {frames + 6} frames$"
    with pytest.raises(InputError, match=message):
        watch(longer, game, "demo")


def test_a_run_that_is_too_short_is_refused(
    recording: Recording, play: LevelPlay
) -> None:
    runs = json.loads(recording.to_json())["buttons"]
    line = changed(recording, buttons=[*runs, [NO_BUTTONS, 5]])
    frames = len(recording.frame_buttons) + 5
    assert_refused(
        line, play, f"{frames} frames", f"need {STEPS + 2} decisions, got {STEPS}"
    )


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"level": "9-1"}, ("level", "9-1")),
        ({"frame_skip": 0}, ("frame_skip", "0", "greater than or equal to 1")),
        ({"buttons": [[300, 4]]}, ("buttons", "300", "less than or equal to 255")),
        ({"buttons": [[1, 0]]}, ("buttons", "0", "greater than or equal to 1")),
        ({"buttons": [[1, 40_000]]}, ("40000 frames", "30000")),
        ({"buttons": [[0, 3]], "no_ops": 3}, ("3 frames", "3 no-ops")),
        ({"buttons": "AAB"}, ("buttons", "AAB", "array")),
        ({"outcome": "won"}, ("outcome", "won", "'clear', 'death' or 'unfinished'")),
        ({"ram_sha256": "abc"}, ("ram_sha256", "abc")),
        ({"speed": 2}, ("speed", "xtra")),
    ],
)
def test_an_impossible_value_is_refused(
    recording: Recording,
    play: LevelPlay,
    changes: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    assert_refused(changed(recording, **changes), play, *parts)


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '"1-1"', "{}"])
def test_a_line_that_is_no_recording_is_refused(line: str, play: LevelPlay) -> None:
    assert_refused(line, play, "not a recording")


def test_a_missing_key_is_named(recording: Recording, play: LevelPlay) -> None:
    content = json.loads(recording.to_json())
    del content["no_ops"]
    assert_refused(json.dumps(content), play, "no_ops", "required")


def test_a_file_holds_one_recording_a_line(
    recording: Recording, death: Recording, tmp_path: Path
) -> None:
    path = tmp_path / "demos.jsonl"
    path.write_text(f"{recording.to_json()}\n{death.to_json()}\n", encoding="utf-8")
    assert read_recordings(path) == [recording, death]


def test_a_file_that_cannot_be_read_is_refused(
    recording: Recording, tmp_path: Path
) -> None:
    def assert_file_refused(write: Callable[[Path], Any], *parts: str) -> None:
        path = tmp_path / "demos.jsonl"
        write(path)
        with pytest.raises(InputError) as caught:
            read_recordings(path)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(path))
        for part in parts:
            assert part in str(caught.value)

    assert_file_refused(lambda path: None, "cannot be read", "No such file")
    assert_file_refused(Path.touch, "holds no recording")
    assert_file_refused(lambda path: path.write_bytes(b"\xff\xfe"), "cannot be read")
    two = f"{recording.to_json()}\n{recording.to_json()[:-9]}\n"
    assert_file_refused(lambda path: path.write_text(two), "line 2: not a recording")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"level": "1-2"}, "level is 1-1, params.yaml wants 1-2"),
        ({"frame_skip": 2}, "frame skip is 4, params.yaml wants 2"),
        ({"action_set": "right_only"}, "the action set 'right_only' lacks"),
    ],
)
def test_a_recording_that_does_not_fit_the_game_is_refused(
    recording: Recording, env: MarioEnv, changes: dict[str, Any], message: str
) -> None:
    game = env.game.model_copy(update=changes)
    with pytest.raises(InputError, match=f"demo: .*{message}"):
        watch(recording, game, "demo")


def by_a_person(recording: Recording, **changes: Any) -> Recording:
    """As a person's: no decisions, and no noise to seed."""
    line = changed(recording, decisions=None, seed=None, **changes)
    return Recording.parse(line, "human")


def test_a_person_decides_what_is_held_in_most_frames_of_a_step(
    recording: Recording,
) -> None:
    held = [[0, 2], [RIGHT, 3], [A, 1], [RIGHT, 1], [A, 3], [DOWN, 2]]
    human = by_a_person(recording, buttons=held, no_ops=2)
    # RIGHT three times to one A, then one RIGHT to three A, then what is left.
    assert human.decided == bytes([RIGHT, A, DOWN])


def test_a_recording_without_decisions_can_be_watched(
    recording: Recording, env: MarioEnv
) -> None:
    human = by_a_person(recording)
    seen, taken = watch(human, env.game, "human")
    expected, _ = watch(recording, env.game, "demo")
    np.testing.assert_array_equal(seen, expected)
    held = np.frombuffer(recording.frame_buttons[recording.no_ops :], np.uint8)
    masks = np.array(ACTION_SETS["simple"])[taken]
    # In each step the mask is one of those held, and held at least as long as any.
    for step, mask in zip(held.reshape(STEPS, 4).tolist(), masks, strict=True):
        assert step.count(mask) == max(map(step.count, step))
