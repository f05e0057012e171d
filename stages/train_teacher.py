"""Train a teacher, which sees the console's memory: by cloning, then by PPO.

Reads data/demos.jsonl, along which some episodes of PPO begin. Writes models/teacher/
(the policy that was chosen by episodes which are used for nothing else),
metrics/train_teacher.json and plots/train_teacher/curve.csv. If it is killed, the next
run goes on after the last update of PPO.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from warpzone.agents.policy import (
    Policy,
    build_policy,
    describe_origin,
    find_device,
    make_deterministic,
    save_policy,
    set_weights,
)
from warpzone.core.files import write_csv, write_json
from warpzone.core.params import Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.curriculum import MARK_EVERY, PracticeEnv
from warpzone.envs.mario.env import MarioEnv, Mark
from warpzone.envs.nes.consoles import emulator_version
from warpzone.envs.vec_env import ThreadedVecEnv
from warpzone.episodes.recording import Recording, play_again, read_recordings
from warpzone.training.bc import Cloner, watch_all
from warpzone.training.checkpoint import Checkpoint, checkpointed
from warpzone.training.ppo import train
from warpzone.training.selection import make_score

PARAMS = Path("params.yaml")
DEMOS = Path("data/demos.jsonl")
MODEL = Path("models/teacher")
METRICS = Path("metrics/train_teacher.json")
CURVE = Path("plots/train_teacher/curve.csv")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {"train_teacher", "device", "game", "noise", "seed"}


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    origin = describe_origin("train_teacher", params.train_teacher, params.seed)
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [DEMOS, Path(__file__)]
    with checkpointed(CHECKPOINTS, "train_teacher", facts, inputs) as checkpoint:
        train_one(params, origin, checkpoint)


def train_one(params: Params, origin: dict[str, Any], checkpoint: Checkpoint) -> None:
    game, noise, rl = params.game, params.noise, params.train_teacher
    make_deterministic(params.seed)
    device = find_device(params.device)
    recordings = read_recordings(DEMOS)
    start = build_policy(game, "ram").to(device)
    if checkpoint.has("state"):
        print("train_teacher: goes on where it was ended", file=sys.stderr)
    else:
        start = clone_demonstrations(start, recordings, params)
    with (
        closing(MarioEnv(game, noise, obs_type="ram")) as demonstrator,
        closing(
            make_envs(params, find_starts(demonstrator, recordings, params))
        ) as envs,
        progress_bar(rl.agent_steps, "training the teacher", "agent step") as bar,
    ):
        training = train(
            envs,
            start,
            rl,
            episode_seed(Purpose.TRAINING, params.seed, 0),
            make_score(params, rl, params.seed, "ram"),
            device,
            checkpoint=checkpoint,
            on_agent_steps=bar.update,
        )

    set_weights(training.policy, training.best_weights)
    save_policy(training.policy, MODEL, game, origin)
    write_csv(CURVE, training.curve)
    write_json(METRICS, training.summary())


def make_envs(params: Params, starts: Sequence[Mark]) -> ThreadedVecEnv:
    """Make the environments in which the teacher is trained."""
    teacher = params.train_teacher
    make_env = partial(
        PracticeEnv,
        params.game,
        params.noise,
        "ram",
        retry_share=teacher.retry_share,
        starts=starts,
        start_share=teacher.start_share,
    )
    return ThreadedVecEnv([make_env] * teacher.envs)


def find_starts(
    env: MarioEnv, recordings: Sequence[Recording], params: Params
) -> list[Mark]:
    """Return states along the recordings that were made on the same emulator.

    They are good for as long as the environment is open.
    """
    starts: list[Mark] = []
    if params.train_teacher.start_share == 0:
        return starts
    emulator = emulator_version(params.game.emulator)
    usable = [recording for recording in recordings if recording.emulator == emulator]
    with progress_bar(len(usable), "finding starts", "episode") as bar:
        for recording in usable:
            for agent_step, _ in enumerate(play_again(recording, env, str(DEMOS))):
                if agent_step % MARK_EVERY == 0:
                    starts.append(env.mark())
            bar.update()
    return starts


def clone_demonstrations(
    policy: Policy, recordings: Sequence[Recording], params: Params
) -> Policy:
    """Do as the demonstrations do, with what the memory tells."""
    cloning = params.train_teacher.cloning
    with progress_bar(len(recordings), "replaying", "episode") as bar:
        shown = watch_all(recordings, params.game, str(DEMOS), bar.update, "ram")
    cloner = Cloner(policy, cloning, np.random.default_rng(params.seed))
    with progress_bar(cloning.updates, "cloning", "update") as bar:
        cloner.fit(shown, cloning.updates, anneal=True, on_update=bar.update)
    return cloner.average.policy


if __name__ == "__main__":
    run_stage(main)
