"""Train an agent by a recipe: from demonstrations, an agent, or random weights.

Reads what the recipe starts from: models/ENV/TASK/starts/RECIPE/, or for the teacher
data/demos/ENV/TASK.jsonl. AGENT being RECIPE-SEED, it writes models/ENV/TASK/AGENT/
(the policy that was chosen by episodes which are used for nothing else),
models/ENV/TASK/milestones/AGENT/ (how it played after 0, 10 and 30 % of its budget),
metrics/train_rl/ENV/TASK/AGENT.json, its learning curve beside it, and the evaluations
alone to plots/train_rl/ENV/TASK/AGENT.csv; the teacher's to train_teacher/. Where the
second tries of an agent began, by level and stretch of 16 of progress, is in
plots/train_rl/ENV/TASK/second-tries/AGENT.csv; the teacher has none. If it is
interrupted, the next run resumes after the last row of the curve.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from warpzone.agents.model import describe_origin, load_agent, save_agent
from warpzone.agents.policy import (
    PolicyAgent,
    build_policy,
    find_device,
    make_deterministic,
    set_weights,
)
from warpzone.core.files import write_csv, write_json
from warpzone.core.names import DEMOS, agent_name, cell, second_tries_of
from warpzone.core.params import CloningParams, ModelStart, RecipeParams
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.curriculum import TrainingEnv
from warpzone.envs.registry import agent_key, make_env
from warpzone.envs.replayable import ReplayableEnv, Snapshot
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.demonstrations import start_states
from warpzone.episodes.recording import Recording, read_recordings
from warpzone.training.algorithms import ALGORITHMS, keys_to_show
from warpzone.training.bc import Cloner, Transitions, watch_all
from warpzone.training.checkpoint import checkpointed
from warpzone.training.curricula import Curriculum, make_curriculum
from warpzone.training.memory import remember
from warpzone.training.train import make_score, train

EVALUATION = ["eval_success_rate", "eval_progress", "eval_episodes"]
"""Columns of the learning curve that say how well the agent plays."""


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "recipe", "seed")
    task, name, seed = arguments.task, arguments.recipe, arguments.seed
    recipe, agent = params.recipes[name], agent_name(name, seed)
    algorithm = ALGORITHMS[recipe.algorithm]
    stage = "train_teacher" if name == "teacher" else "train_rl"
    source = cell("models", params.env, task, "starts", name)
    demos = source / DEMOS
    if name == "teacher":
        source = demos = cell("data/demos", params.env, f"{task}.jsonl")
    kind, packages = algorithm.policy.KIND, algorithm.packages
    origin = describe_origin(stage, params.env, task, recipe, seed, packages)
    kwargs, levels = params.world.kwargs, params.levels(task)
    device = find_device(params.device)
    key = agent_key(params.env, recipe.observation)
    make = partial(make_env, params.env, kwargs, noise=params.noise)
    make_both = partial(make, obs_type=keys_to_show(params.env, recipe))
    facts = [origin, device.type, params.torch_threads, kwargs, levels]
    facts.append(params.noise.model_dump())
    inputs = [source, Path(__file__)]
    make_deterministic(seed, params.torch_threads)
    with ExitStack() as stack:
        checkpoint = stack.enter_context(
            checkpointed(f"train_rl-{params.env}-{task}-{agent}", facts, inputs)
        )
        one = stack.enter_context(closing(make_both(levels[0])))
        spaces: Any = one.observation_space
        if recipe.start == "bc" or isinstance(recipe.start, ModelStart):
            policy = load_agent(source, one, key).policy
        else:
            policy = build_policy(params.env, spaces, len(one.codes), key, kind)
        start = PolicyAgent(policy, key, recipe.temperature, recipe.idle_temperature)
        recordings = read_recordings(demos) if recipe.needs_demonstrations else []
        shown: Sequence[Transitions] = ()
        is_new = checkpoint.state is None
        if recipe.gail is not None or (is_new and recipe.cloning is not None):
            with progress_bar(len(recordings), "replaying", "episode") as bar:
                shown = watch_all(
                    recordings, kwargs, key, len(one.codes), str(demos), bar.update
                )
        resumed = 0
        if not is_new:
            resumed = checkpoint.state["agent_steps"]
            print(f"train_rl {agent}: resumes", file=sys.stderr)
        elif recipe.cloning is not None:
            start = clone(start, shown, recipe.cloning, seed)
        start.policy.to(device)
        remembered = None
        if recipe.demonstrations is not None:
            with progress_bar(len(recordings), "replaying", "episode") as bar:
                remembered = remember(
                    recordings, kwargs, one, recipe, device, str(demos), bar.update
                )
        starts = find_starts(recipe, make_both, levels, recordings, stack)
        curriculum = make_curriculum(name, recipe, task, levels, starts)
        makers = training_makers(recipe, make_both, levels, starts, curriculum)
        envs = stack.enter_context(closing(ThreadedVecEnv(makers)))
        title, total = f"training {agent}", recipe.total_timesteps
        with progress_bar(total, title, "agent step", resumed) as bar:
            training = train(
                envs,
                start,
                params.env,
                recipe,
                episode_seed(Purpose.TRAINING, seed, 0),
                make_score(start, partial(make, obs_type=(key,)), levels, recipe, seed),
                device,
                checkpoint,
                bar.update,
                shown=shown,
                remembered=remembered,
                warn=lambda said: bar.write(f"train_rl {agent}: {said}", sys.stderr),
                curriculum=curriculum,
            )
        folder = cell("models", params.env, task, agent)
        save_agent(start.playing(training.policy), folder, one, origin)
        if stage == "train_rl":
            for percent, weights in training.milestones.items():
                set_weights(training.policy, weights)
                folder = cell("models", params.env, task, "milestones", agent, percent)
                save_agent(start.playing(training.policy), folder, one, origin)
            tries = second_tries_of(params.env, task, agent)
            write_csv(tries, training.second_tries)
        # DVC draws an empty cell as 0, so its chart gets the evaluations alone.
        measured = training.curve.dropna(subset=["eval_progress"])
        evaluations = cell(f"plots/{stage}", params.env, task, f"{agent}.csv")
        write_csv(evaluations, measured.filter(["agent_steps", *EVALUATION]))
        metrics = cell(f"metrics/{stage}", params.env, task, f"{agent}.json")
        write_json(metrics, training.summary())
        write_csv(metrics.with_suffix(".csv"), training.curve)


def clone(
    agent: PolicyAgent, shown: Sequence[Transitions], params: CloningParams, seed: int
) -> PolicyAgent:
    """Return an agent that does as was shown."""
    cloner = Cloner(agent, params, np.random.default_rng(seed))
    with progress_bar(params.updates, "cloning", "update") as bar:
        cloner.fit(shown, params.updates, anneal=True, on_update=bar.update)
    return agent.playing(cloner.average.policy)


def find_starts(
    recipe: RecipeParams,
    make: Callable[[str], ReplayableEnv],
    levels: Sequence[str],
    recordings: Sequence[Recording],
    stack: ExitStack,
) -> dict[str, list[Snapshot]]:
    """Return the states along demonstrations that episodes may begin at, by level.

    They are good for as long as the stack is open.
    """
    places = {
        level: stack.enter_context(closing(make(level)))
        for level in (levels if recipe.begins_along_demonstrations else ())
    }
    return start_states(recordings, levels, places)


def training_makers(
    recipe: RecipeParams,
    make: Callable[[str], ReplayableEnv],
    levels: Sequence[str],
    starts: Mapping[str, Sequence[Snapshot]],
    curriculum: Curriculum,
) -> list[Callable[[], gym.Env]]:
    """Return what makes the environments to train in, levels in turns."""
    shares = recipe.demo_start_probability, recipe.restart_probability, curriculum.plan
    return [
        partial(TrainingEnv, partial(make, level), starts[level], *shares)
        for level in islice(cycle(levels), recipe.n_envs)
    ]


if __name__ == "__main__":
    run_stage(main)
