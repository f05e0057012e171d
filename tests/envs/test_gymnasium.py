"""The worlds as users of Gymnasium and Stable-Baselines3 meet them."""

import inspect
import subprocess
import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.registration import EnvSpec
from gymnasium.utils.env_checker import check_env
from gymnasium.wrappers import (
    AddRenderObservation,
    RecordEpisodeStatistics,
    RecordVideo,
)
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from warpzone.core.params import Params, load_params
from warpzone.envs.mario.actions import ACTION_SETS
from warpzone.envs.mario.rewards import SIZES, TERMS, check_weights
from warpzone.envs.registry import WORLDS, env_class
from warpzone.envs.replayable import ReplayableEnv

MARIO, CARTPOLE = "warpzone/Mario-v0", "warpzone/CartPole-v0"
IDS = [MARIO, CARTPOLE]
SMALL: dict[str, Any] = {"height": 36, "width": 36}
WALK, RUN = 1, 3
PARAMS = Path(__file__).parents[2] / "params.yaml"


@pytest.fixture(scope="module")
def params(tmp_path_factory: pytest.TempPathFactory) -> Params:
    """params.yaml as it was committed: whoever tries a variant changes the file."""
    command = ["git", "show", f"HEAD:{PARAMS.name}"]
    done = subprocess.run(command, cwd=PARAMS.parent, capture_output=True)
    path = tmp_path_factory.mktemp("committed") / PARAMS.name
    path.write_bytes(PARAMS.read_bytes() if done.returncode else done.stdout)
    return load_params(path)


def defaults_of(world: type[ReplayableEnv]) -> dict[str, Any]:
    signature = inspect.signature(world).parameters
    return {name: parameter.default for name, parameter in signature.items()}


def play_out(env: gym.Env, action: Any, seed: int = 0) -> tuple[int, dict[str, Any]]:
    """Take one action to the end of an episode; its length and its last info."""
    env.reset(seed=seed)
    steps, is_over, info = 0, False, {}
    while not is_over:
        _, _, terminated, truncated, info = env.step(action)
        is_over = terminated or truncated
        steps += 1
    return steps, info


def test_a_level_is_made_with_plain_keyword_arguments() -> None:
    env = gym.make(
        MARIO,
        level="1-2",
        emulator="fceumm",
        action_set="right_only",
        frame_skip=2,
        height=40,
        width=48,
        frame_stack=3,
        crop_hud=False,
        show_buttons=False,
        time_limit=7,
        stuck_limit=0,
        reward={"death": -1.0},
        no_op_max=0,
        sticky_probability=0.0,
        obs_type=("pixels", "state"),
        render_mode="rgb_array",
    )
    observation, info = env.reset(seed=1)
    assert (info["world"], info["stage"]) == (1, 2)
    assert observation["pixels"].shape == (3, 40, 48)
    assert observation["state"].shape == (2048,)
    assert env.action_space == gym.spaces.Discrete(5)
    assert play_out(env, WALK)[0] == 7
    env.close()


def test_a_misspelt_argument_is_refused_by_its_name() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'frame_skips'"):
        gym.make(MARIO, frame_skips=2)
    with pytest.raises(ValueError, match="no level '9-1': the game has 1-1 to 8-4"):
        gym.make(MARIO, level="9-1")


def test_the_defaults_are_those_of_params_yaml(params: Params) -> None:
    for name, section in params.envs.items():
        defaults = defaults_of(env_class(name))
        noise = {key: defaults.pop(key) for key in type(params.noise).model_fields}
        assert noise == params.noise.model_dump(), name
        # These are no parameters: the task names the level, the stage what is seen.
        level = defaults.pop("level")
        assert level in {one for task in section.tasks.values() for one in task}
        del defaults["obs_type"], defaults["render_mode"]
        if "reward" in defaults:
            defaults["reward"] = check_weights(defaults["reward"])
        assert defaults == section.kwargs, name


@pytest.mark.parametrize("env_id", IDS)
def test_the_checkers_of_gymnasium_and_sb3_find_nothing(env_id: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if env_id == CARTPOLE:
            # Speeds have no bound; Gymnasium warns of its own CartPole, too.
            warnings.filterwarnings("ignore", message=".*value is -?infinity")
        check_env(gym.make(env_id, render_mode="rgb_array").unwrapped)
        check_env_for_sb3(gym.make(env_id).unwrapped)
        if env_id == MARIO:
            check_env(gym.make(env_id, emulator="nes-py", obs_type="state").unwrapped)
            both = gym.make(env_id, obs_type=("pixels", "state"))
            check_env_for_sb3(both.unwrapped)


def test_a_made_env_says_how_it_was_made_and_is_made_again_from_that() -> None:
    env = gym.make(MARIO, level="1-3", frame_skip=8)
    assert env.spec is not None
    again = gym.make(EnvSpec.from_json(env.spec.to_json()))
    for one in (env, again):
        _, info = one.reset(seed=1)
        assert (info["world"], info["stage"]) == (1, 3)
        assert one.metadata["render_fps"] == 7.5


def test_the_worlds_are_registered_once_and_a_module_in_the_id_does_so() -> None:
    assert {world.id for world in WORLDS.values()} == set(IDS)
    for world in WORLDS.values():
        assert gym.spec(world.id).entry_point == world.env
    with warnings.catch_warnings():
        # Gymnasium warns of what is registered twice.
        warnings.simplefilter("error")
        gym.make("warpzone.envs:warpzone/CartPole-v0").close()


def test_info_says_whether_an_episode_is_a_success() -> None:
    env = gym.make(CARTPOLE, time_limit=5, no_op_max=0)
    env.reset(seed=0)
    seen = [env.step(step % 2)[4]["is_success"] for step in range(5)]
    assert seen == [False] * 4 + [True]
    assert not play_out(gym.make(CARTPOLE), 1)[1]["is_success"]
    assert not play_out(gym.make(MARIO, obs_type="state"), RUN)[1]["is_success"]


@pytest.mark.parametrize(("frame_skip", "fps"), [(4, 15), (1, 60), (3, 20)])
def test_rendered_frames_per_second_are_agent_steps(frame_skip: int, fps: int) -> None:
    env = gym.make(MARIO, frame_skip=frame_skip, render_mode="rgb_array")
    assert env.metadata["render_fps"] == fps
    # It is each env's own.
    assert gym.make(MARIO).metadata["render_fps"] == 15
    assert gym.make(CARTPOLE).metadata["render_fps"] == 50


@pytest.mark.parametrize(
    ("env_id", "shape"), [(MARIO, (240, 256, 3)), (CARTPOLE, (400, 600, 3))]
)
def test_a_frame_in_colour_is_rendered(env_id: str, shape: tuple[int, ...]) -> None:
    env = gym.make(env_id, render_mode="rgb_array")
    env.reset(seed=0)
    frame: Any = env.render()
    assert frame.shape == shape
    assert frame.dtype == np.uint8
    assert frame.std() > 10


@pytest.mark.parametrize("name", WORLDS)
def test_the_docstring_has_gymnasiums_four_tables_and_every_argument(name: str) -> None:
    world = env_class(name)
    text = inspect.getdoc(world) or ""
    headings = [line for line in text.splitlines() if line.startswith("## ")]
    assert headings == [
        "## Action Space",
        "## Observation Space",
        "## Rewards",
        "## Episode End",
    ]
    _, actions, observations, _, end = text.split("\n## ")
    assert f"Discrete({'n' if name == 'mario' else 2})" in actions
    for key in world.OBS_TYPES:
        assert f"`{key}`" in observations
    table, arguments = end.split("Args:")
    for cause in (*world.SUCCESSES, *world.FAILURES):
        assert f"`{cause}`" in table
    for argument in defaults_of(world):
        assert f"\n    {argument}: " in arguments


def test_the_tables_of_mario_have_the_numbers_of_the_code() -> None:
    text = inspect.getdoc(env_class("mario")) or ""
    for action_set, codes in ACTION_SETS.items():
        assert f"| `{action_set}` | {len(codes)} |" in text
    rewards = text.split("## ")[3].splitlines()
    for term, weight in TERMS.items():
        [row] = (line for line in rewards if line.startswith(f"| `{term}`"))
        assert float(row.strip("| ").rsplit("|", 1)[1]) == weight
    guide = (PARAMS.parent / "docs" / "training.md").read_text().splitlines()
    for term, weight in TERMS.items():
        [row] = (line for line in guide if line.startswith(f"| `{term}`"))
        assert float(row.strip("| ").rsplit("|", 1)[1]) == weight
    for name, size in SIZES.items():
        assert f"`{name}` ({size})" in text
        assert f"`{name}` ({size})" in "".join(guide)
    assert (
        "| `stuck` | `stuck_limit` agent steps without new ground | terminated |"
        in (text)
    )
    assert "| `time_limit` | `time_limit` agent steps | truncated |" in text


def test_ppo_of_sb3_learns_from_pixels() -> None:
    env = gym.make(MARIO, **SMALL, time_limit=8)
    model = PPO("CnnPolicy", env, n_steps=16, batch_size=8, n_epochs=1, device="cpu")
    before = [weights.clone() for weights in model.policy.parameters()]
    model.learn(32)
    after = model.policy.parameters()
    assert any(not old.equal(new) for old, new in zip(before, after, strict=True))
    # SB3 wraps it with its Monitor: four episodes of eight steps.
    assert [episode["l"] for episode in model.ep_info_buffer or ()] == [8] * 4
    assert list(model.ep_success_buffer or ()) == [False] * 4


def test_ppo_of_sb3_learns_on_cartpole() -> None:
    env = gym.make(CARTPOLE)
    model = PPO("MlpPolicy", env, n_steps=256, n_epochs=1, seed=1, device="cpu")
    model.learn(256)
    assert model.ep_info_buffer


def test_the_monitor_of_sb3_writes_episodes(tmp_path: Path) -> None:
    env = Monitor(
        gym.make(MARIO, **SMALL),
        str(tmp_path / "it"),
        info_keywords=("is_success", "progress", "cause"),
    )
    steps, info = play_out(env, RUN)
    env.close()
    _, header, row = (tmp_path / "it.monitor.csv").read_text().splitlines()
    assert header == "r,l,t,is_success,progress,cause"
    earned, length, _, *rest = row.split(",")
    assert float(earned) == pytest.approx(info["reward"], abs=1e-6)
    assert int(length) == steps == info["steps"]
    assert rest == ["False", str(info["progress"]), "enemy"]


def test_the_evaluation_callback_of_sb3_counts_successes(tmp_path: Path) -> None:
    # The pole stands for three steps whatever the policy does.
    short: dict[str, Any] = {"time_limit": 3, "no_op_max": 0}
    evaluation = EvalCallback(
        Monitor(gym.make(CARTPOLE, **short)),
        n_eval_episodes=4,
        eval_freq=16,
        log_path=str(tmp_path),
        verbose=0,
    )
    env = gym.make(CARTPOLE, **short)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, device="cpu")
    model.learn(32, callback=evaluation)
    stored = np.load(tmp_path / "evaluations.npz")
    np.testing.assert_array_equal(stored["successes"], np.ones((2, 4), bool))
    np.testing.assert_array_equal(stored["ep_lengths"], np.full((2, 4), 3))
    np.testing.assert_array_equal(stored["results"], np.full((2, 4), 3.0))


def test_sb3_evaluates_a_policy_in_mario() -> None:
    env = Monitor(gym.make(MARIO, **SMALL, time_limit=6))
    model = PPO("CnnPolicy", env, n_steps=8, batch_size=8, device="cpu")
    returns, lengths = evaluate_policy(
        model, env, n_eval_episodes=2, return_episode_rewards=True
    )
    assert lengths == [6, 6]
    assert len(returns) == 2  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("env_id", IDS)
def test_record_episode_statistics_of_gymnasium(env_id: str) -> None:
    env = RecordEpisodeStatistics(gym.make(env_id))
    steps, info = play_out(env, 1)
    assert info["episode"]["l"] == steps == info["steps"]
    assert info["episode"]["r"] == pytest.approx(info["reward"])


def test_record_video_of_gymnasium(tmp_path: Path) -> None:
    pytest.importorskip("moviepy", reason="gymnasium's RecordVideo needs moviepy")
    made = gym.make(MARIO, **SMALL, time_limit=8, render_mode="rgb_array")
    env = RecordVideo(made, str(tmp_path / "videos"), disable_logger=True)
    assert env.frames_per_sec == 15
    play_out(env, WALK)
    env.close()
    [video] = tmp_path.glob("videos/*.mp4")
    assert video.stat().st_size > 1_000


def test_wrappers_of_gymnasium_get_rendered_frames() -> None:
    made = gym.make(MARIO, **SMALL, render_mode="rgb_array")
    env = AddRenderObservation(made, render_only=True)
    first, _ = env.reset(seed=0)
    second, *_ = env.step(RUN)
    assert first.shape == (240, 256, 3)
    assert not np.array_equal(first, second)


def test_a_shorter_time_limit_of_gymnasium_truncates() -> None:
    env = gym.make(MARIO, **SMALL, max_episode_steps=5)
    env.reset(seed=0)
    ends = [env.step(WALK)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]


@pytest.mark.parametrize("env_id", IDS)
def test_envs_are_vectorised_in_turns(env_id: str) -> None:
    arguments = SMALL if env_id == MARIO else {}
    envs = gym.make_vec(env_id, 3, vectorization_mode="sync", **arguments)
    single = gym.make(env_id, **arguments)
    observations, _ = envs.reset(seed=5)
    # Env i gets seed 5 + i.
    expected, _ = single.reset(seed=6)
    np.testing.assert_array_equal(observations[1], expected)
    actions = np.ones(3, int)
    for _ in range(4):
        observations, rewards, *_, infos = envs.step(actions)
        expected, reward, *_, info = single.step(1)
        np.testing.assert_array_equal(observations[1], expected)
        assert rewards[1] == pytest.approx(reward)
        assert infos["progress"][1] == info["progress"]
        assert not infos["is_success"].any()
    envs.close()


def test_a_vectorised_env_is_reset_after_its_end() -> None:
    envs = gym.make_vec(CARTPOLE, 2, vectorization_mode="sync", time_limit=3)
    envs.reset(seed=0)
    ends = [envs.step(np.array([0, 1]))[2] for _ in range(5)]
    np.testing.assert_array_equal(
        ends, [[False] * 2, [False] * 2, [True] * 2, [False] * 2, [False] * 2]
    )
    envs.close()
