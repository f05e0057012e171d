"""Measure an agent under each noise, with seeds that nothing else uses.

AGENT is random, script, bc or RECIPE-SEED. Reads models/ENV/TASK/AGENT/. Writes, for
each noise of params.yaml, data/episodes/ENV/TASK/AGENT/NOISE.csv (one row an episode)
and NOISE.jsonl (its recordings).
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd

from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_lines
from warpzone.core.names import UNTRAINED, cell
from warpzone.core.params import ConditionParams, Params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.replayable import ReplayableEnv
from warpzone.episodes.agent import Agent, RandomAgent, ScriptAgent
from warpzone.episodes.play import play_condition
from warpzone.episodes.recording import Recording


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "agent")
    task, name, noises = arguments.task, arguments.agent, params.evaluate.noises
    if name not in UNTRAINED:
        model = cell("models", params.env, task, name)
        if not model.is_dir():
            raise InputError(
                f"no agent {name!r}: {model} is not there; params.yaml makes "
                f"{', '.join(params.agents)}"
            )
        # They import torch, which takes longer than the others play.
        from warpzone.agents.policy import make_deterministic

        make_deterministic(params.seed, params.torch_threads)
    episodes = sum(noise.episodes for noise in noises.values())
    with progress_bar(episodes, f"evaluating {name}", "episode") as bar:
        played = {
            noise: play(params, task, name, noises[noise], bar.update)
            for noise in noises
        }
    for noise, (table, recordings) in played.items():
        table.insert(0, "noise", noise)
        table.insert(0, "task", task)
        table.insert(0, "agent", name)
        path = cell("data/episodes", params.env, task, name, f"{noise}.csv")
        write_csv(path, table)
        write_lines(path.with_suffix(".jsonl"), [log.to_json() for log in recordings])


def play(
    params: Params,
    task: str,
    name: str,
    noise: ConditionParams,
    on_episode: Callable[[], object],
) -> tuple[pd.DataFrame, list[Recording]]:
    """Return what `play_condition` does of an agent on the seeds of evaluation."""
    # The noises share their first episodes' seeds.
    seeds = [
        episode_seed(Purpose.EVALUATION, params.seed, index)
        for index in range(noise.episodes)
    ]
    return play_condition(
        params,
        noise,
        lambda env: load(
            cell("models", params.env, task, name), env, noise.temperature
        ),
        params.levels(task),
        seeds,
        on_episode,
    )


def load(model: Path, env: ReplayableEnv, temperature: float | None) -> Agent:
    if model.name == "random":
        return RandomAgent(len(env.codes))
    if model.name == "script":
        return ScriptAgent(env)
    from warpzone.agents.model import load_agent

    agent = load_agent(model, env)
    if temperature is None:
        return agent
    return replace(agent, temperature=temperature, idle_temperature=None)


if __name__ == "__main__":
    run_stage(main)
