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
from warpzone.core.params import Params
from warpzone.core.stage import read_arguments, run_stage
from warpzone.envs.registry import agent_key, make_env, observed_keys
from warpzone.training.checkpoint import Checkpoint, checkpointed
from warpzone.training.dagger import DAgger

CHECKPOINTS = Path(".checkpoints")


def main() -> None:
    params, arguments = read_arguments(__doc__, "task")
    task = arguments.task
    teacher = cell("models", params.env, task, agent_name("teacher", params.seed))
    facts = [params.model_dump(mode="json"), task]
    stage = f"pretrain_bc-{params.env}-{task}"
    inputs = [teacher, Path(__file__)]
    with checkpointed(CHECKPOINTS, stage, facts, inputs) as checkpoint:
        pretrain(params, task, teacher, checkpoint)


def pretrain(params: Params, task: str, folder: Path, checkpoint: Checkpoint) -> None:
    """Train the clone and write it with its metrics."""
    bc, levels = params.pretrain_bc, params.levels(task)
    make_deterministic(params.seed)
    device = find_device(params.device)
    key = agent_key(params.env, bc.observation)
    make = partial(
        make_env,
        params.env,
        params.world.kwargs,
        noise=params.noise,
        obs_type=observed_keys(params.env, bc.observation),
    )
    if checkpoint.has("state"):
        print("pretrain_bc: resumes", file=sys.stderr)
    with closing(make(level=levels[0])) as env:
        teacher = load_agent(folder, env)
        policy = build_policy(params.env, env.observation_space, len(env.codes), key)  # pyright: ignore[reportArgumentType]
        copy_critic(policy, teacher.policy)
        teacher.policy.to(device)
        pupil = PolicyAgent(policy.to(device), key, bc.temperature, bc.idle_temperature)
        dagger = DAgger(
            teacher,
            pupil,
            lambda level: make(level=level),
            levels,
            bc,
            params.seed,
            checkpoint,
        )
        dagger.run()
        origin = describe_origin("pretrain_bc", params.env, task, bc, params.seed)
        save_agent(dagger.pupil, cell("models", params.env, task, "bc"), env, origin)
        names = np.array([env.code_name(code) for code in env.codes])
    measured, pairs, predictions = dagger.measure()
    trained = np.concatenate([episode.actions for episode in dagger.train])
    majority = np.bincount(trained).argmax()
    write_json(
        cell("metrics/pretrain_bc", params.env, f"{task}.json"),
        {
            "teacher_episodes": bc.episodes,
            "dagger_episodes": bc.rounds * bc.round_episodes,
            "agent_steps": dagger.log.agent_steps,
            "emulator_frames": dagger.log.emulator_frames,
            "pairs": len(trained) + len(pairs),
            "held_out_pairs": len(pairs),
            "held_out_loss": round(measured.loss, 4),
            "held_out_accuracy": round(measured.accuracy, 4),
            "majority_action_accuracy": round(
                float((pairs.actions == majority).mean()), 4
            ),
        },
    )
    plots = cell("plots/pretrain_bc", params.env, task)
    write_csv(plots / "rounds.csv", pd.DataFrame(dagger.log.rounds))
    confusion = {"actual": names[pairs.actions], "predicted": names[predictions]}
    write_csv(plots / "confusion.csv", pd.DataFrame(confusion))


if __name__ == "__main__":
    run_stage(main)
