"""An episode's log replays it exactly, and a log that does not is refused."""

import json
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from warpzone.core.errors import InputError
from warpzone.core.params import NoiseParams
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.cartridge import rom_sha256
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.nes.buttons import DOWN, LEFT, NO_BUTTONS, RIGHT, A, action_name
from warpzone.envs.nes.consoles import emulator_version
from warpzone.envs.registry import make_env
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.recording import (
    Recording,
    read_recordings,
    replay,
    replay_steps,
    watch,
)

ROOT = Path(__file__).parents[2]
STEPS = 30
OTHER_SHA256 = "0" * 64
SEED = 5
KWARGS: dict[str, Any] = {
    "emulator": "fceumm",
    "height": 36,
    "width": 40,
    "frame_stack": 2,
    "time_limit": STEPS,
}
"""Of the env: small frames, short episodes."""
BOTH = ("pixels", "state")


@pytest.fixture(scope="module")
def env(noise: NoiseParams) -> Iterator[ReplayableEnv]:
    with closing(make_env("mario", KWARGS, "1-1", noise, BOTH)) as env:
        yield env


@pytest.fixture(scope="module")
def episode(env: ReplayableEnv) -> tuple[Recording, dict[str, np.ndarray], np.ndarray]:
    """A recording, and the observations and actions that the environment saw."""
    rng = np.random.default_rng(0)
    actions = rng.integers(7, size=STEPS)
    observations = [env.reset(seed=SEED)[0]]
    observations += [env.step(action)[0] for action in actions]
    assert env.no_ops > 0
    seen = {key: np.stack([one[key] for one in observations[:-1]]) for key in BOTH}
    return Recording.of_episode(env, SEED), seen, actions


@pytest.fixture(scope="module")
def recording(
    episode: tuple[Recording, dict[str, np.ndarray], np.ndarray],
) -> Recording:
    return episode[0]


@pytest.fixture(scope="module")
def death(noise: NoiseParams) -> Recording:
    """Mario walks into the first goomba, in the middle of an agent step."""
    kwargs = KWARGS | {"time_limit": 1000, "frame_skip": 6}
    with closing(make_env("mario", kwargs, "1-1", noise, "state")) as walk:
        walk.reset(seed=SEED)
        while not walk.step(1)[2]:
            pass
        return Recording.of_episode(walk, SEED)


@pytest.fixture(scope="module")
def four_steps(no_noise: NoiseParams) -> Recording:
    """Walk, walk, jump and nothing, without noise."""
    with closing(make_env("mario", KWARGS, "1-1", no_noise, "state")) as env:
        env.reset(seed=1)
        for action in (1, 1, 2, 0):
            env.step(action)
        return Recording.of_episode(env, 1)


@pytest.fixture(scope="module")
def pole(noise: NoiseParams) -> tuple[Recording, np.ndarray]:
    """A pole that is pushed to the left until it falls, and what was seen."""
    with closing(
        make_env("cartpole", {"time_limit": 99}, "default", noise, "state")
    ) as env:
        observations = [env.reset(seed=SEED)[0]]
        while env.cause is None:
            observations.append(env.step(0)[0])
        return Recording.of_episode(env, SEED), np.stack(observations[:-1])


@pytest.fixture(scope="module")
def player(no_noise: NoiseParams) -> Iterator[ReplayableEnv]:
    """Where recordings of 1-1 are replayed."""
    with closing(make_env("mario", KWARGS, "1-1", no_noise, "state")) as env:
        yield env


def changed(recording: Recording, **changes: Any) -> str:
    """The recording's line of JSON with some keys changed."""
    return json.dumps(json.loads(recording.to_json()) | changes)


def test_a_recording_survives_its_line_of_json(
    recording: Recording, pole: tuple[Recording, np.ndarray]
) -> None:
    for one in (recording, pole[0]):
        line = one.to_json()
        assert "\n" not in line
        again = Recording.parse(line, "line 1")
        assert again == one
        assert again.to_json() == line


def test_a_recording_says_what_was_played(
    recording: Recording, episode: tuple[Recording, dict[str, np.ndarray], np.ndarray]
) -> None:
    assert (recording.env, recording.level) == ("mario", "1-1")
    assert recording.seed == SEED
    assert recording.rom_sha256 == rom_sha256()
    assert recording.version == emulator_version("fceumm")
    assert recording.version.startswith("fceumm, stable-retro 1.")
    assert recording.outcome == "unfinished"
    assert len(recording.held) == recording.no_ops + 4 * STEPS
    assert recording.held[: recording.no_ops] == bytes(recording.no_ops)
    masks = [ACTION_SETS["simple"][action] for action in episode[2]]
    assert list(recording.decided) == masks


def test_a_recording_of_another_world_has_no_cartridge(
    pole: tuple[Recording, np.ndarray],
) -> None:
    recording, observations = pole
    assert (recording.env, recording.level) == ("cartpole", "default")
    assert recording.rom_sha256 is None
    assert recording.version == f"gymnasium {gym.__version__}"
    assert recording.frame_skip == 1
    assert recording.decided == bytes(len(observations))
    # The idle frames push to and fro.
    idle = recording.held[: recording.no_ops]
    assert idle == bytes(frame % 2 for frame in range(recording.no_ops))
    assert recording.outcome == "failure"


def test_equal_episodes_have_equal_lines(env: ReplayableEnv) -> None:
    lines = []
    for _ in range(2):
        env.reset(seed=SEED)
        for _ in range(3):
            env.step(1)
        lines.append(Recording.of_episode(env, SEED).to_json())
    assert lines[0] == lines[1]


def test_what_is_held_is_logged_as_runs(four_steps: Recording) -> None:
    assert four_steps.frame_actions == [(RIGHT, 8), (RIGHT | A, 4), (NO_BUTTONS, 4)]
    assert four_steps.decisions == [(RIGHT, 2), (RIGHT | A, 1), (NO_BUTTONS, 1)]


@pytest.mark.parametrize("keys", [("pixels",), ("state",), BOTH])
def test_watching_shows_what_the_environment_returned(
    episode: tuple[Recording, dict[str, np.ndarray], np.ndarray], keys: tuple[str, ...]
) -> None:
    recording, observations, actions = episode
    seen, taken = watch(recording, KWARGS, keys, "demo")
    assert tuple(seen) == keys
    assert taken.dtype == np.int64
    np.testing.assert_array_equal(taken, actions)
    for key in keys:
        assert seen[key].dtype == np.uint8
        np.testing.assert_array_equal(seen[key], observations[key])


def test_another_world_can_be_watched_too(pole: tuple[Recording, np.ndarray]) -> None:
    recording, observations = pole
    seen, taken = watch(recording, {"time_limit": 99}, ("state",), "demo")
    assert seen["state"].dtype == np.float32
    np.testing.assert_array_equal(seen["state"], observations)
    assert taken.tolist() == [0] * len(observations)


def test_watching_an_episode_that_ends_in_the_middle_of_a_step(
    death: Recording,
) -> None:
    assert death.outcome == "failure"
    assert (len(death.held) - death.no_ops) % 6 != 0
    seen, actions = watch(death, KWARGS | {"frame_skip": 6}, ("pixels",), "demo")
    assert len(seen["pixels"]) == len(actions) == len(death.decided)
    assert set(actions) == {1}


def test_a_replay_counts_the_frames_and_ends_in_the_recorded_state(
    recording: Recording, player: ReplayableEnv
) -> None:
    frames = list(replay(recording, player, "demo"))
    assert frames == list(range(len(recording.held) + 1))


def test_a_failure_replays(death: Recording, player: ReplayableEnv) -> None:
    assert max(replay(death, player, "demo")) == len(death.held)


def test_a_replay_logs_the_episode_as_it_was(
    death: Recording, pole: tuple[Recording, np.ndarray]
) -> None:
    for recording in (death, pole[0]):
        with closing(recording.make_env({})) as env:
            list(replay(recording, env, "demo"))
            assert bytes(env.frame_actions) == recording.held
            assert bytes(env.decisions) == recording.decided


def test_a_replay_of_another_world_counts_its_frames(
    pole: tuple[Recording, np.ndarray],
) -> None:
    recording, observations = pole
    with closing(recording.make_env({})) as env:
        frames = list(replay(recording, env, "demo"))
    assert frames == list(range(recording.no_ops + len(observations) + 1))


def test_a_success_that_depends_on_a_number_of_decisions_replays(
    noise: NoiseParams,
) -> None:
    """Frame by frame and step by step: a pole that stood for three decisions."""
    kwargs = {"time_limit": 3}
    with closing(make_env("cartpole", kwargs, "default", noise, "state")) as env:
        env.reset(seed=SEED)
        while env.cause is None:
            env.step(1)
        recording = Recording.of_episode(env, SEED)
    assert (recording.outcome, recording.no_ops > 3) == ("success", True)
    with closing(recording.make_env(kwargs)) as env:
        assert max(replay(recording, env, "demo")) == recording.no_ops + 3
        assert env.outcome == "success"
        assert len(list(replay_steps(recording, env, "demo"))) == 3


def assert_refused(line: str, player: ReplayableEnv, *parts: str) -> None:
    """Reading and replaying a line fails with one line that has these parts."""
    with pytest.raises(InputError) as caught:
        list(replay(Recording.parse(line, "demos.jsonl, line 7"), player, "line 7"))
    message = str(caught.value)
    assert "\n" not in message
    assert "line 7: " in message
    for part in parts:
        assert part in message


def test_a_changed_byte_in_what_is_held_is_refused(
    recording: Recording, player: ReplayableEnv
) -> None:
    held = bytearray(recording.held)
    frame = recording.no_ops + 40
    before = held[frame - 1]
    held[frame] = LEFT | A
    runs = [(mask, 1) for mask in held]
    assert_refused(
        changed(recording, frame_actions=runs),
        player,
        f"frame {frame} holds left+A",
        f"{action_name(before)} held",
    )
    # A person decides nothing, but ends up elsewhere.
    line = changed(recording, frame_actions=runs, decisions=None)
    assert_refused(line, player, "ends in another state", recording.state_sha256)


def test_a_changed_byte_in_the_decisions_is_refused(
    four_steps: Recording, player: ReplayableEnv
) -> None:
    line = changed(four_steps, decisions=[[RIGHT, 2], [DOWN, 1], [NO_BUTTONS, 1]])
    assert_refused(line, player, "frame 8 holds right+A, but down was decided")


def test_another_state_is_refused_with_both(
    recording: Recording, player: ReplayableEnv
) -> None:
    line = changed(recording, state_sha256=OTHER_SHA256)
    assert_refused(line, player, OTHER_SHA256, recording.state_sha256)


def test_another_outcome_is_refused_with_both(
    recording: Recording, player: ReplayableEnv
) -> None:
    line = changed(recording, outcome="success")
    assert_refused(line, player, "'unfinished'", "'success'")


def test_another_rom_is_refused_with_both(
    recording: Recording, player: ReplayableEnv
) -> None:
    line = changed(recording, rom_sha256=OTHER_SHA256)
    assert_refused(line, player, "another ROM", OTHER_SHA256, rom_sha256())


@pytest.mark.parametrize("version", ["snes9x 1.60", "gymnasium 0.26.3", "nes-py"])
def test_another_emulator_is_refused_by_its_name(
    recording: Recording, player: ReplayableEnv, version: str
) -> None:
    line = changed(recording, version=version)
    assert_refused(line, player, f"recorded with {version!r}, which is not installed")


OTHER_RELEASE = "fceumm, stable-retro 0.9.2"


def test_another_release_of_the_emulator_replays(
    recording: Recording, pole: tuple[Recording, np.ndarray]
) -> None:
    for one, version in ((recording, OTHER_RELEASE), (pole[0], "gymnasium 0.26.3")):
        other = Recording.parse(changed(one, version=version), "line 1")
        with closing(other.make_env({})) as env:
            assert env.version == one.version
            assert max(replay(other, env, "line 1")) == len(one.held)
        assert other.version == version


def test_another_release_is_named_where_the_replay_fails(
    recording: Recording, death: Recording, player: ReplayableEnv
) -> None:
    both = f"; it is of {OTHER_RELEASE!r}, here is {recording.version!r}"
    line = changed(recording, version=OTHER_RELEASE, state_sha256=OTHER_SHA256)
    assert_refused(line, player, "ends in another state", both)
    line = changed(recording, version=OTHER_RELEASE, outcome="success")
    assert_refused(line, player, "ends with 'unfinished'", both)
    longer = json.loads(beyond_the_end(death)) | {"version": OTHER_RELEASE}
    assert_refused(json.dumps(longer), player, "ends after", both)
    # The same release has nothing to do with it.
    line = changed(recording, state_sha256=OTHER_SHA256)
    with pytest.raises(InputError) as caught:
        list(replay(Recording.parse(line, "line 1"), player, "line 1"))
    assert "it is of" not in str(caught.value)


def beyond_the_end(death: Recording) -> str:
    """The line of a death after which the buttons go on for an agent step."""
    runs = json.loads(death.to_json())
    return changed(
        death,
        frame_actions=[*runs["frame_actions"], [RIGHT, 6]],
        decisions=[*runs["decisions"], [RIGHT, 1]],
    )


def test_a_replay_that_ends_early_is_refused(
    death: Recording, player: ReplayableEnv
) -> None:
    frames = len(death.held)
    line = beyond_the_end(death)
    assert_refused(line, player, f"ends after {frames} of {frames + 6} frames")


def test_watching_what_ends_early_is_refused_in_the_same_words(
    death: Recording,
) -> None:
    frames = len(death.held)
    longer = Recording.parse(beyond_the_end(death), "demo")
    message = f"^demo: the replay ends after {frames} of {frames + 6} frames$"
    with pytest.raises(InputError, match=message):
        watch(longer, KWARGS | {"frame_skip": 6}, ("state",), "demo")


def test_a_run_that_is_too_short_is_refused(
    recording: Recording, player: ReplayableEnv
) -> None:
    runs = json.loads(recording.to_json())["frame_actions"]
    line = changed(recording, frame_actions=[*runs, [NO_BUTTONS, 5]])
    frames = len(recording.held) + 5
    assert_refused(
        line, player, f"{frames} frames", f"need {STEPS + 2} decisions, got {STEPS}"
    )


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"env": "chess"}, ("no env 'chess'", "mario, cartpole")),
        ({"level": "9-1"}, ("no level '9-1'", "mario has 1-1 to 8-4")),
        ({"frame_skip": 0}, ("frame_skip", "0", "greater than or equal to 1")),
        ({"frame_actions": [[300, 4]]}, ("frame_actions", "300", "equal to 255")),
        ({"frame_actions": [[1, 0]]}, ("frame_actions", "0", "equal to 1")),
        ({"frame_actions": [[1, 40_000]]}, ("40000 frames", "30000")),
        ({"frame_actions": [[0, 3]], "no_ops": 3}, ("3 frames", "3 no-ops")),
        ({"frame_actions": "AAB"}, ("frame_actions", "AAB", "array")),
        ({"outcome": "won"}, ("outcome", "won", "'success', 'failure' or 'unfin")),
        ({"state_sha256": "abc"}, ("state_sha256", "abc")),
        ({"speed": 2}, ("speed", "xtra")),
        ({"no_ops": float("nan")}, ("no_ops", "nan", "finite number")),
        ({"no_ops": 10**400}, ("no_ops", "300")),
        ({"version": "x" * 10**6}, ("version = 'xxx", "at most 64 characters")),
        ({"frame_actions": [[1, 100_000]] * 9}, ("900000 frames", "30000")),
    ],
)
def test_an_impossible_value_is_refused(
    recording: Recording,
    player: ReplayableEnv,
    changes: dict[str, Any],
    parts: tuple[str, ...],
) -> None:
    assert_refused(changed(recording, **changes), player, *parts)


def test_a_code_that_a_world_does_not_know_is_refused(
    pole: tuple[Recording, np.ndarray],
) -> None:
    recording, _ = pole
    frames = len(recording.held)
    message = "line 1: not a recording: holds 2, in cartpole a frame can hold 0 to 1"
    # Whoever decides, and also in an idle frame.
    for changes in (
        {"frame_actions": [[2, frames]], "decisions": None},
        {"frame_actions": [[2, 1], [0, frames - 1]], "decisions": None},
        {"decisions": [[2, len(recording.decided)]]},
    ):
        with pytest.raises(InputError, match=message):
            Recording.parse(changed(recording, **changes), "line 1")


@pytest.mark.parametrize("line", ["", "{", "[]", "null", '"1-1"', "{}"])
def test_a_line_that_is_no_recording_is_refused(
    line: str, player: ReplayableEnv
) -> None:
    assert_refused(line, player, "not a recording")


def test_a_missing_key_is_named(recording: Recording, player: ReplayableEnv) -> None:
    content = json.loads(recording.to_json())
    del content["no_ops"]
    assert_refused(json.dumps(content), player, "no_ops", "required")


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
    mangled = f"{recording.to_json()}\n".encode() * 2 + b'{"env": "\xff"}\n'
    assert_file_refused(lambda path: path.write_bytes(mangled), "line 3: not a rec")
    assert_file_refused(lambda path: path.write_bytes(b"\0" * 10**6), "line 1: not a")
    two = f"{recording.to_json()}\n{recording.to_json()[:-9]}\n"
    assert_file_refused(lambda path: path.write_text(two), "line 2: not a recording")
    blank = f"{recording.to_json()}\n\n{recording.to_json()}\n"
    assert_file_refused(lambda path: path.write_text(blank), "line 2: not a recording")


def test_line_ends_and_mark_of_another_system_are_read(
    recording: Recording, death: Recording, tmp_path: Path
) -> None:
    path = tmp_path / "demos.jsonl"
    text = f"\ufeff{recording.to_json()}\r\n{death.to_json()}\r\n"
    path.write_bytes(text.encode())
    assert read_recordings(path) == [recording, death]


@pytest.mark.parametrize("key", ["env", "level", "version", "outcome", "a\n\x1b[2J"])
def test_a_message_shows_line_ends_and_escapes_as_text(
    recording: Recording, tmp_path: Path, key: str
) -> None:
    path = tmp_path / "a\nb\x1b[2J.jsonl"
    path.write_text(changed(recording, **{key: "a\nb\x1b[2J"}))
    with pytest.raises(InputError) as caught:
        read_recordings(path)
    assert r"a\nb\x1b[2J" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frame_skip": 2}, "frame skip is 4, params.yaml wants 2"),
        (
            {"action_set": "right_only"},
            "presses A, which is none of the env's actions: NOOP, right, right",
        ),
    ],
)
def test_a_recording_that_does_not_fit_the_env_is_refused(
    recording: Recording, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=f"demo: .*{message}"):
        watch(recording, KWARGS | changes, ("state",), "demo")


def by_a_person(recording: Recording, **changes: Any) -> Recording:
    """As a person's: no decisions, and no noise to seed."""
    line = changed(recording, decisions=None, seed=None, **changes)
    return Recording.parse(line, "human")


def test_a_person_decides_what_is_held_in_most_frames_of_a_step(
    recording: Recording,
) -> None:
    held = [[0, 2], [RIGHT, 3], [A, 1], [RIGHT, 1], [A, 3], [DOWN, 2]]
    human = by_a_person(recording, frame_actions=held, no_ops=2)
    # RIGHT three times to one A, then one RIGHT to three A, then what is left.
    assert human.decided == bytes([RIGHT, A, DOWN])


def test_a_recording_without_decisions_can_be_watched(recording: Recording) -> None:
    human = by_a_person(recording)
    seen, taken = watch(human, KWARGS, BOTH, "human")
    expected, _ = watch(recording, KWARGS, BOTH, "demo")
    for key in BOTH:
        np.testing.assert_array_equal(seen[key], expected[key])
    held = np.frombuffer(recording.held[recording.no_ops :], np.uint8)
    masks = np.array(ACTION_SETS["simple"])[taken]
    # In each step the mask is one of those held, and held at least as long as any.
    for step, mask in zip(held.reshape(STEPS, 4).tolist(), masks, strict=True):
        assert step.count(mask) == max(map(step.count, step))


CLEARS = (ROOT / "tests/data/clears.jsonl").read_text().splitlines()
"""From the time when Mario was the only world: other keys, other words."""


def test_an_old_recording_is_read_as_a_new_one() -> None:
    old = json.loads(CLEARS[0])
    assert {"buttons", "emulator", "ram_sha256"} <= old.keys()
    assert not {"env", "frame_actions", "version", "state_sha256"} & old.keys()
    new = Recording.parse(CLEARS[0], "line 1")
    assert (new.env, new.level, new.seed) == ("mario", "1-1", 0)
    assert (old["outcome"], new.outcome) == ("clear", "success")
    assert new.version == old["emulator"] == "nes-py 9.0.1"
    assert new.state_sha256 == old["ram_sha256"]
    assert [list(run) for run in new.frame_actions] == old["buttons"]
    assert Recording.parse(new.to_json(), "again") == new
    lost = Recording.parse(json.dumps(old | {"outcome": "death"}), "line 1")
    assert lost.outcome == "failure"


def test_an_old_recording_replays_and_shows_what_its_player_saw() -> None:
    # 1-4 is the shortest one.
    recording = Recording.parse(CLEARS[3], "line 4")
    kwargs = {"height": 36, "width": 40, "frame_stack": 2}
    seen, taken = watch(recording, kwargs, ("pixels",), "line 4")
    assert len(recording.held) == 901
    assert len(taken) == len(recording.decided) == len(seen["pixels"])
    assert seen["pixels"].shape[1:] == (2, 36, 40)


@pytest.mark.slow
@pytest.mark.parametrize("line", CLEARS, ids=lambda line: json.loads(line)["level"])
def test_every_old_recording_still_clears_its_level(line: str) -> None:
    recording = Recording.parse(line, "clears.jsonl")
    with closing(recording.make_env({})) as env:
        assert isinstance(env, MarioEnv)
        assert env.emulator == "nes-py"
        assert max(replay(recording, env, "clears.jsonl")) == len(recording.held)
        assert env.outcome == "success"


def test_a_damaged_old_recording_is_refused() -> None:
    old = json.loads(CLEARS[3])
    for changes, message in (
        ({"buttons": "AAB"}, "frame_actions = 'AAB'"),
        ({"decisions": [[0, 3]]}, r".*901 frames .* decisions, got 3"),
        ({"outcome": "won"}, "outcome = 'won'"),
    ):
        with pytest.raises(InputError, match=f"line 4: not a recording: {message}"):
            Recording.parse(json.dumps(old | changes), "line 4")


def test_the_words_of_two_times_do_not_mix(recording: Recording) -> None:
    new = json.loads(recording.to_json())
    new["buttons"] = new.pop("frame_actions")
    with pytest.raises(InputError, match=r"line 1: .* frame_actions: .* required"):
        Recording.parse(json.dumps(new), "line 1")
