"""Clone what the teacher does, then go on with DAgger.

Reads models/ENV/TASK/teacher-SEED/. Writes models/ENV/TASK/bc/,
metrics/pretrain_bc/ENV/TASK.json and plots/pretrain_bc/ENV/TASK/{rounds,confusion}.csv.
The clone keeps the teacher's critic, for whoever trains it on. If it is interrupted,
the next run resumes after the last round.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from warpzone.agents.model import describe_origin, load_agent, save_agent
from warpzone.agents.policy import (
    PolicyAgent,
    build_policy,
    copy_critic,
    find_device,
    make_deterministic,
)
from warpzone.core.files import write_csv, write_json
from warpzone.core.names import agent_name, cell
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import agent_key, make_env, observed_keys
from warpzone.training.checkpoint import checkpointed
from warpzone.training.dagger import DAgger


def main() -> None:
    params, arguments = read_arguments(__doc__, "task")
    task, bc, seed = arguments.task, params.pretrain_bc, params.seed
    kwargs, levels = params.world.kwargs, params.levels(task)
    source = cell("models", params.env, task, agent_name("teacher", seed))
    origin = describe_origin("pretrain_bc", params.env, task, bc, seed)
    device = find_device(params.device)
    key = agent_key(params.env, bc.observation)
    obs_type = observed_keys(params.env, bc.observation)
    make = partial(make_env, params.env, kwargs, noise=params.noise, obs_type=obs_type)
    facts = [origin, device.type, params.torch_threads, kwargs, levels]
    facts.append(params.noise.model_dump())
    inputs = [source, Path(__file__)]
    make_deterministic(seed, params.torch_threads)
    with (
        checkpointed(f"pretrain_bc-{params.env}-{task}", facts, inputs) as checkpoint,
        closing(make(levels[0])) as env,
    ):
        if checkpoint.state is not None:
            print("pretrain_bc: resumes", file=sys.stderr)
        teacher = load_agent(source, env)
        policy = build_policy(params.env, env.observation_space, len(env.codes), key)  # pyright: ignore[reportArgumentType]
        copy_critic(policy, teacher.policy)
        teacher.policy.to(device)
        pupil = PolicyAgent(policy.to(device), key, bc.temperature, bc.idle_temperature)
        dagger = DAgger(
            teacher, pupil, make, levels, env.stuck_limit, bc, seed, checkpoint
        )
        dagger.run()
        save_agent(dagger.pupil, cell("models", params.env, task, "bc"), env, origin)
        measured, pairs, predictions = dagger.measure()
        trained = np.concatenate([episode.actions for episode in dagger.train])
        majority = np.bincount(trained).argmax()
        metrics = {
            "teacher_episodes": bc.episodes,
            "dagger_episodes": bc.rounds * bc.round_episodes,
            "agent_steps": len(trained) + len(pairs),
            "emulator_frames": dagger.emulator_frames,
            "pairs": len(trained) + len(pairs),
            "held_out_pairs": len(pairs),
            "held_out_loss": round(measured.loss, 4),
            "held_out_accuracy": round(measured.accuracy, 4),
            "majority_action_accuracy": round(
                float((pairs.actions == majority).mean()), 4
            ),
        }
        write_json(cell("metrics/pretrain_bc", params.env, f"{task}.json"), metrics)
        plots = cell("plots/pretrain_bc", params.env, task)
        write_csv(plots / "rounds.csv", pd.DataFrame(dagger.rounds))
        names = np.array([env.code_name(code) for code in env.codes])
        confusion = {"actual": names[pairs.actions], "predicted": names[predictions]}
        write_csv(plots / "confusion.csv", pd.DataFrame(confusion))


if __name__ == "__main__":
    run_stage(main)
