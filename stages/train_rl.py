"""Train an agent by a recipe: the teacher, from the clone, or from random weights.

Reads what the recipe starts from: models/ENV/TASK/starts/RECIPE/, or for the teacher
data/demos/ENV/TASK.jsonl. AGENT being RECIPE-SEED, it writes models/ENV/TASK/AGENT/
(the policy that was chosen by episodes which are used for nothing else),
metrics/train_rl/ENV/TASK/AGENT.json, its learning curve beside it, and the evaluations
alone to plots/train_rl/ENV/TASK/AGENT.csv; the teacher's to train_teacher/. If it is
interrupted, the next run resumes after the last row of the curve.
"""

import sys
from collections.abc import Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

import numpy as np

from warpzone.agents.model import describe_origin, load_agent, save_agent
from warpzone.agents.policy import (
    PolicyAgent,
    build_policy,
    find_device,
    make_deterministic,
)
from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_json
from warpzone.core.names import agent_name, cell
from warpzone.core.params import Params, RecipeParams
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.curriculum import TrainingEnv
from warpzone.envs.registry import agent_key, make_env, observed_keys
from warpzone.envs.replayable import ReplayableEnv
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.demonstrations import start_states
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.training.bc import Cloner, watch_all
from warpzone.training.checkpoint import Checkpoint, checkpointed
from warpzone.training.train import make_score, train

CHECKPOINTS = Path(".checkpoints")

EVALUATION = ["eval_success_rate", "eval_progress", "eval_episodes"]
"""Columns of the learning curve that say how well the agent plays."""


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "recipe", "seed")
    task, name, seed = arguments.task, arguments.recipe, arguments.seed
    recipe = params.recipes[name]
    agent = agent_name(name, seed)
    demos = cell("data/demos", params.env, f"{task}.jsonl")
    start = cell("models", params.env, task, "starts", name)
    inputs = [Path(__file__), demos if recipe.start == "demos" else start]
    facts = [params.model_dump(mode="json"), task, agent]
    stage = f"train_rl-{params.env}-{task}-{agent}"
    with checkpointed(CHECKPOINTS, stage, facts, inputs) as checkpoint:
        recordings = read_recordings(demos) if recipe.start == "demos" else []
        train_one(params, task, name, seed, recordings, checkpoint)


def train_one(
    params: Params,
    task: str,
    name: str,
    seed: int,
    recordings: Sequence[Recording],
    checkpoint: Checkpoint,
) -> None:
    """Train an agent and write it with its curve and metrics."""
    recipe, agent = params.recipes[name], agent_name(name, seed)
    make_deterministic(seed)
    device = find_device(params.device)
    key = agent_key(params.env, recipe.observation)
    levels = params.levels(task)
    if checkpoint.has("state"):
        print(f"train_rl {agent}: resumes", file=sys.stderr)
    with ExitStack() as stack:
        shown = observed_keys(params.env, recipe.observation)
        make = partial(world, params, obs_type=shown)
        one = stack.enter_context(closing(make(levels[0])))
        start = starting_agent(params, task, name, one, recordings, checkpoint)
        start.policy.to(device)
        starts = start_states(
            recordings,
            levels,
            {level: stack.enter_context(closing(make(level))) for level in levels}
            if recipe.demo_start_probability
            else {},
        )
        makers = [
            partial(
                TrainingEnv,
                partial(make, level),
                starts.get(level, ()),
                recipe.demo_start_probability,
                recipe.restart_probability,
            )
            for level in (levels[i % len(levels)] for i in range(recipe.n_envs))
        ]
        envs = stack.enter_context(closing(ThreadedVecEnv(makers)))
        bar = stack.enter_context(
            progress_bar(recipe.total_timesteps, f"training {agent}", "agent step")
        )
        played = partial(world, params, obs_type=(key,))
        training = train(
            envs,
            start,
            params.env,
            recipe,
            episode_seed(Purpose.TRAINING, seed, 0),
            make_score(start, played, levels, recipe, seed),
            device,
            checkpoint,
            bar.update,
        )
        origin = describe_origin(stage_of(name), params.env, task, recipe, seed)
        folder = cell("models", params.env, task, agent)
        save_agent(start.playing(training.policy), folder, one, origin)
    # DVC draws an empty cell as 0, so its chart gets the evaluations alone.
    measured = training.curve.dropna(subset=["eval_progress"])
    evaluations = cell(f"plots/{stage_of(name)}", params.env, task, f"{agent}.csv")
    write_csv(evaluations, measured.filter(["agent_steps", *EVALUATION]))
    metrics = cell(f"metrics/{stage_of(name)}", params.env, task, f"{agent}.json")
    write_json(metrics, training.summary())
    write_csv(metrics.with_suffix(".csv"), training.curve)


def stage_of(recipe: str) -> str:
    """Return the stage of dvc.yaml that makes an agent."""
    return "train_teacher" if recipe == "teacher" else "train_rl"


def world(params: Params, level: str, obs_type: tuple[str, ...]) -> ReplayableEnv:
    """Return an env to train in."""
    return make_env(params.env, params.world.kwargs, level, params.noise, obs_type)


def starting_agent(
    params: Params,
    task: str,
    name: str,
    env: ReplayableEnv,
    recordings: Sequence[Recording],
    checkpoint: Checkpoint,
) -> PolicyAgent:
    """Return the agent that a recipe starts from."""
    recipe = params.recipes[name]
    key = agent_key(params.env, recipe.observation)
    if recipe.start == "bc":
        loaded = load_agent(cell("models", params.env, task, "starts", name), env)
        if loaded.key != key:
            raise InputError(
                f"params.yaml: recipes.{name}.observation = {recipe.observation!r}: "
                f"the clone that it starts from sees {loaded.key}"
            )
        policy = loaded.policy
    else:
        policy = build_policy(params.env, env.observation_space, len(env.codes), key)  # pyright: ignore[reportArgumentType]
    agent = PolicyAgent(policy, key, recipe.temperature, recipe.idle_temperature)
    if recipe.start == "demos" and not checkpoint.has("state"):
        return clone_demonstrations(agent, recipe, params, task, recordings)
    return agent


def clone_demonstrations(
    agent: PolicyAgent,
    recipe: RecipeParams,
    params: Params,
    task: str,
    recordings: Sequence[Recording],
) -> PolicyAgent:
    """Do as the demonstrations do."""
    cloning = recipe.cloning
    assert cloning is not None
    actions = agent.policy.action_space.n  # pyright: ignore[reportAttributeAccessIssue]
    source = str(cell("data/demos", params.env, f"{task}.jsonl"))
    kwargs = params.world.kwargs
    with progress_bar(len(recordings), "replaying", "episode") as bar:
        shown = watch_all(recordings, kwargs, agent.key, actions, source, bar.update)
    cloner = Cloner(agent, cloning, np.random.default_rng(params.seed))
    with progress_bar(cloning.updates, "cloning", "update") as bar:
        cloner.fit(shown, cloning.updates, anneal=True, on_update=bar.update)
    return agent.playing(cloner.average.policy)


if __name__ == "__main__":
    run_stage(main)
