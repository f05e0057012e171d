"""Measure an agent under a noise, with seeds that nothing else uses.

AGENT is random, bc or RECIPE-SEED. Reads models/ENV/TASK/AGENT/. Writes
data/episodes/ENV/TASK/AGENT/NOISE.csv (one row an episode) and NOISE.jsonl (its
recordings).
"""

from contextlib import closing
from functools import partial

from warpzone.core.errors import InputError
from warpzone.core.files import write_csv, write_lines
from warpzone.core.names import cell
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import env_class, make_env
from warpzone.episodes.agent import Agent, RandomAgent
from warpzone.episodes.play import play_episodes


def main() -> None:
    params, arguments = read_arguments(__doc__, "task", "agent", "noise")
    task, name = arguments.task, arguments.agent
    noise = params.evaluate.noises[arguments.noise]
    levels = params.levels(task)
    folder = cell("models", params.env, task, name)
    if name != "random" and not folder.is_dir():
        raise InputError(
            f"no agent {name!r}: {folder} is not there; params.yaml makes "
            f"{', '.join(params.agents)}"
        )
    reference = params.world.reference if noise.reference else {}
    make = partial(
        make_env,
        params.env,
        params.world.kwargs | reference,
        noise=noise,
        obs_type=env_class(params.env).OBS_TYPES,
    )
    agent: Agent
    with closing(make(level=levels[0])) as env:
        if name == "random":
            agent = RandomAgent(len(env.codes))
        else:
            # They import torch, which takes longer than random play does.
            from warpzone.agents.model import load_agent
            from warpzone.agents.policy import make_deterministic

            make_deterministic(params.seed, params.torch_threads)
            agent = load_agent(folder, env)
    # The noises share their first episodes' seeds.
    seeds = [
        episode_seed(Purpose.EVALUATION, params.seed, index)
        for index in range(noise.episodes)
    ]
    title = f"evaluating {name}, {arguments.noise}"
    with progress_bar(noise.episodes, title, "episode") as bar:
        table, recordings = play_episodes(
            agent,
            lambda level: make(level=level, obs_type=agent.keys),
            levels,
            seeds,
            params.evaluate.n_envs,
            bar.update,
        )
    table.insert(0, "noise", arguments.noise)
    table.insert(0, "task", task)
    table.insert(0, "agent", name)
    path = cell("data/episodes", params.env, task, name, f"{arguments.noise}.csv")
    write_csv(path, table)
    write_lines(path.with_suffix(".jsonl"), [log.to_json() for log in recordings])


if __name__ == "__main__":
    run_stage(main)
