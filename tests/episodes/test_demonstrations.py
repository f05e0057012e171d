"""Demonstrators that play under noise, and the states along their episodes."""

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from warpzone.core.params import NoiseParams, parse_params
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.yaml import read_yaml
from warpzone.envs.curriculum import MARK_EVERY
from warpzone.envs.registry import make_env
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.demonstrations import (
    Demonstrations,
    demonstrate,
    start_states,
)
from warpzone.episodes.recording import Recording

ROOT = Path(__file__).parents[2]
TIME_LIMIT = 60
# At this noise the demonstrator drops some poles, and balances others.
HARD = NoiseParams(no_op_max=30, sticky_probability=0.6, sticky_unit="frame")


def poles(
    wanted: int, max_tries: int, threads: int, noise: NoiseParams = HARD, **more: Any
) -> Demonstrations:
    document = read_yaml(ROOT / "params.yaml") | {"seed": 1, "env": "cartpole"}
    document["run"]["tasks"] = ["default"]
    document["envs"]["cartpole"]["kwargs"] = {"time_limit": TIME_LIMIT}
    document["collect_demos"] = {"episodes": wanted, "max_tries": max_tries}
    document["noise"] = noise.model_dump()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.process_cpu_count", lambda: threads)
        return demonstrate(parse_params(document, "params.yaml"), "default", **more)


def test_tries_come_in_the_order_of_their_seeds_for_any_number_of_threads() -> None:
    one = poles(wanted=6, max_tries=100, threads=1)
    assert len(one.kept) == 6 < one.tried < 100
    seeds = [recording.seed for recording in one.kept]
    known = [episode_seed(Purpose.DEMONSTRATION, 1, i) for i in range(one.tried)]
    assert [seed for seed in known if seed in seeds] == seeds
    # The last one that was tried is the one that was still needed.
    assert seeds[-1] == known[-1]
    for threads in (2, 5, 9):
        assert poles(wanted=6, max_tries=100, threads=threads) == one


def test_only_successes_are_kept_and_all_tries_are_counted() -> None:
    told: list[bool] = []
    some = poles(wanted=20, max_tries=20, threads=3, on_try=told.append)
    assert some.tried == len(told) == 20
    assert 0 < len(some.kept) == sum(told) < 20
    assert {recording.outcome for recording in some.kept} == {"success"}
    # It plans nothing, so it needs the frames that it plays, of failures too.
    assert some.emulated_frames > sum(len(recording.held) for recording in some.kept)


def test_without_noise_no_frame_is_wasted(no_noise: NoiseParams) -> None:
    two = poles(wanted=2, max_tries=9, threads=2, noise=no_noise)
    assert two.tried == 2
    assert two.emulated_frames == 2 * TIME_LIMIT


def test_nothing_wanted_is_nothing_played() -> None:
    assert poles(wanted=0, max_tries=9, threads=1) == Demonstrations()


@pytest.fixture
def envs(no_noise: NoiseParams) -> Iterator[dict[str, ReplayableEnv]]:
    """Where recordings of two levels are replayed, on one emulator."""
    with ExitStack() as stack:
        yield {
            level: stack.enter_context(
                closing(mario(level, "fceumm", no_noise, ("state",)))
            )
            for level in ("1-1", "1-2")
        }


def mario(level: str, emulator: str, noise: NoiseParams, keys: Any) -> ReplayableEnv:
    return make_env("mario", {"emulator": emulator}, level, noise, keys)


def walk(level: str, emulator: str, noise: NoiseParams, steps: int) -> Recording:
    """Walk to the right for some agent steps."""
    with closing(mario(level, emulator, noise, "state")) as env:
        env.reset(seed=1)
        for _ in range(steps):
            env.step(1)
        return Recording.of_episode(env, 1)


def test_starts_lie_along_the_recordings_of_their_level(
    envs: dict[str, ReplayableEnv], no_noise: NoiseParams
) -> None:
    steps = 2 * MARK_EVERY + 1
    recordings = [walk(level, "fceumm", no_noise, steps) for level in ("1-1", "1-2")]
    starts = start_states([recordings[0], *recordings], ["1-1", "1-2"], envs)
    # Steps 0, MARK_EVERY and 2 * MARK_EVERY of each recording.
    assert {level: len(found) for level, found in starts.items()} == {
        "1-1": 6,
        "1-2": 3,
    }
    at = [len(start.decisions) for start in starts["1-1"]]
    assert at == [0, MARK_EVERY, 2 * MARK_EVERY] * 2
    # From such a state an episode resumes as it was recorded.
    env = envs["1-1"]
    env.restore(starts["1-1"][1])
    while len(env.decisions) < steps:
        env.step(1)
    assert env.state_sha256() == recordings[0].state_sha256


def test_recordings_of_another_emulator_or_level_give_no_starts(
    envs: dict[str, ReplayableEnv], no_noise: NoiseParams
) -> None:
    other = walk("1-1", "nes-py", no_noise, 3)
    elsewhere = walk("1-3", "fceumm", no_noise, 3)
    starts = start_states([other, elsewhere], ["1-1", "1-2"], envs)
    assert starts == {"1-1": [], "1-2": []}


def test_recordings_of_another_release_give_starts(
    envs: dict[str, ReplayableEnv], no_noise: NoiseParams
) -> None:
    one = walk("1-1", "fceumm", no_noise, 3)
    other = one.model_copy(update={"version": "fceumm, stable-retro 0.9.2"})
    assert len(start_states([other], ["1-1"], envs)["1-1"]) == 1
