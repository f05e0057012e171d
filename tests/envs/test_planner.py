import pytest

from warpzone.core.params import GameParams, NoiseParams
from warpzone.envs.mario.env import MarioEnv
from warpzone.envs.mario.planner import Planner
from warpzone.envs.nes.buttons import LEFT
from warpzone.episodes.recording import Recording, watch


@pytest.fixture(scope="module")
def env(game: GameParams, noise: NoiseParams) -> MarioEnv:
    return MarioEnv(game.model_copy(update={"time_limit": 60}), noise)


@pytest.fixture(scope="module")
def demonstration(env: MarioEnv) -> Recording:
    return Planner(env).demonstrate(seed=5)


def test_the_planner_passes_the_first_enemies_and_pipes(
    env: MarioEnv, demonstration: Recording
) -> None:
    # The first Goomba stands at about 350, the first pipes at 450 and 610 pixels.
    assert demonstration.outcome == "unfinished"
    assert env.play.odometer.x_pos_max > 450


def test_a_demonstration_replays_and_shows_what_the_player_saw(
    env: MarioEnv, demonstration: Recording
) -> None:
    observations, actions = watch(demonstration, env.game, "demonstration")
    assert len(observations) == len(actions) == 60


def test_planning_leaves_the_environment_as_it_was(env: MarioEnv) -> None:
    env.reset(seed=3)
    planner = Planner(env)
    before = bytes(env.play.ram)
    noise = env.np_random.bit_generator.state
    planner.decide()
    assert bytes(env.play.ram) == before
    assert env.np_random.bit_generator.state == noise
    assert not env.decisions


@pytest.mark.slow
def test_the_same_seed_gives_the_same_demonstration(
    env: MarioEnv, demonstration: Recording
) -> None:
    assert Planner(env).demonstrate(seed=5) == demonstration


@pytest.mark.slow
def test_the_planner_clears_1_1_under_noise(
    game: GameParams, noise: NoiseParams
) -> None:
    planner = Planner(MarioEnv(game, noise))
    outcomes = [planner.demonstrate(seed).outcome for seed in (0, 1)]
    assert outcomes == ["clear", "clear"]


@pytest.mark.slow
@pytest.mark.parametrize("level", ["1-2", "1-3", "1-4"])
def test_the_planner_finds_its_way_through_other_levels(
    game: GameParams, noise: NoiseParams, level: str
) -> None:
    # A dead end, falls longer than a jump, and a castle, which has no flag.
    pytest.importorskip("stable_retro")
    params = game.model_copy(update={"emulator": "fceumm", "level": level})
    planner = Planner(MarioEnv(params, noise))
    outcomes = [planner.demonstrate(seed).outcome for seed in (0, 1)]
    assert "clear" in outcomes


def test_a_plan_starts_anew_where_something_else_was_played(
    game: GameParams, no_noise: NoiseParams
) -> None:
    env = MarioEnv(game, no_noise)
    env.reset(seed=0)
    planner = Planner(env)
    for _ in range(20):
        env.step(planner.decide())
    # Walking left is not what was planned; the first Goomba still lies ahead.
    for _ in range(6):
        env.step(env.buttons.index(LEFT))
    for _ in range(60):
        _, _, terminated, _, _ = env.step(planner.decide())
        assert not terminated
    assert env.play.odometer.x_pos_max > 450
