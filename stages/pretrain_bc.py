"""Clone what the teacher does, and go on with DAgger.

Reads models/teacher/. Writes models/bc/, metrics/pretrain_bc.json and
plots/pretrain_bc/{rounds,confusion}.csv. If it is killed, the next run goes on after
the last round.
"""

import sys
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    build_policy,
    describe_origin,
    find_device,
    load_policy,
    make_deterministic,
    save_policy,
)
from warpzone.core.files import write_csv, write_json
from warpzone.core.params import Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.envs.mario.actions import ACTION_SETS, action_name
from warpzone.envs.mario.env import MarioEnv
from warpzone.episodes.evaluation import Cause, cause_of_end, play_episodes
from warpzone.episodes.recording import Recording, play_again
from warpzone.training.bc import (
    Cloner,
    Demonstration,
    Fit,
    join,
    measure,
    split_episodes,
)
from warpzone.training.checkpoint import Checkpoint, checkpointed
from warpzone.training.dagger import Witness

PARAMS = Path("params.yaml")
TEACHER = Path("models/teacher")
MODEL = Path("models/bc")
METRICS = Path("metrics/pretrain_bc.json")
ROUNDS = Path("plots/pretrain_bc/rounds.csv")
CONFUSION = Path("plots/pretrain_bc/confusion.csv")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("pretrain_bc", "device", "game", "noise", "seed"), True),
    "train_teacher": {"temperature"},
    "evaluate": {"temperature", "idle_temperature"},
}


Seen = tuple[Witness, Cause]
"""An episode: who saw it, and what ended it."""


@dataclass
class Log:
    """What happened so far. JSON can say it."""

    episodes: list[list[str]] = field(default_factory=list)
    """Those of each round, as recordings."""
    rounds: list[dict[str, Any]] = field(default_factory=list)
    """Rows of the table."""
    agent_steps: int = 0
    emulator_frames: int = 0


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    teacher = load_policy(TEACHER, params.game, "ram")
    origin = describe_origin("pretrain_bc", params.pretrain_bc, params.seed)
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [TEACHER, Path(__file__)]
    with checkpointed(CHECKPOINTS, "pretrain_bc", facts, inputs) as checkpoint:
        pretrain(teacher, params, origin, checkpoint)


def pretrain(
    teacher: Policy, params: Params, origin: dict[str, Any], checkpoint: Checkpoint
) -> None:
    bc = params.pretrain_bc
    make_deterministic(params.seed)
    device = find_device(params.device)
    teacher = teacher.to(device)
    rng = np.random.default_rng(params.seed)
    cloner = Cloner(build_policy(params.game).to(device), bc, rng)
    policy = cloner.average.policy
    log = resume(checkpoint, cloner, rng) or Log()
    train: list[Demonstration] = []
    held_out: list[Demonstration] = []
    for round_ in range(bc.rounds + 1):
        row: dict[str, Any] = {"round": round_}
        is_new = round_ == len(log.rounds)
        if is_new:
            played, seen = play(policy if round_ else teacher, round_, params, log)
            row |= played
        else:
            seen = play_what_was_logged(round_, params, log)
        episodes, stuck = ask(teacher, seen, params)
        shown, kept_back = split_episodes(episodes, bc.held_out_share)
        train += [*shown, *stuck]
        held_out += kept_back
        if is_new:
            updates = bc.round_updates if round_ else bc.updates
            with progress_bar(updates, f"cloning, round {round_}", "update") as bar:
                fit = cloner.fit(train, updates, on_update=bar.update)
            measured, _ = measure(policy, join(held_out))
            row["pairs"] = sum(map(len, train + held_out))
            log.rounds.append(row | figures(fit, measured))
            state = {"log": vars(log), "rng": rng.bit_generator.state}
            checkpoint.save("state", cloner.tensors(), state)

    with progress_bar(bc.final_updates, "cloning, at the end", "update") as bar:
        fit = cloner.fit(train, bc.final_updates, True, bar.update)
    unseen = join(held_out)
    measured, predictions = measure(policy, unseen)
    log.rounds[-1] |= figures(fit, measured)

    save_policy(policy, MODEL, params.game, origin)
    majority_action = np.bincount(np.concatenate([e.actions for e in train])).argmax()
    majority_accuracy = (unseen.actions == majority_action).mean()
    write_json(
        METRICS,
        {
            "teacher_episodes": bc.episodes,
            "dagger_episodes": bc.rounds * bc.round_episodes,
            "agent_steps": log.agent_steps,
            "emulator_frames": log.emulator_frames,
            "pairs": sum(map(len, train)) + len(unseen),
            "held_out_pairs": len(unseen),
            "held_out_loss": round(measured.loss, 4),
            "held_out_accuracy": round(measured.accuracy, 4),
            "majority_action_accuracy": round(float(majority_accuracy), 4),
        },
    )
    write_csv(ROUNDS, pd.DataFrame(log.rounds))
    names = np.array(
        [action_name(mask) for mask in ACTION_SETS[params.game.action_set]]
    )
    confusion = {"actual": names[unseen.actions], "predicted": names[predictions]}
    write_csv(CONFUSION, pd.DataFrame(confusion))


def play(
    policy: Policy, round_: int, params: Params, log: Log
) -> tuple[dict[str, Any], list[Seen]]:
    """Play the episodes of a round: first the teacher, then the clone."""
    bc = params.pretrain_bc
    obs_type = "pictures" if round_ else "ram"
    count = bc.round_episodes if round_ else bc.episodes
    first = bc.episodes + (round_ - 1) * count if round_ else 0
    seeds = [
        episode_seed(Purpose.DAGGER, params.seed, first + index)
        for index in range(count)
    ]
    witnesses = [Witness(params.game) for _ in seeds]
    with progress_bar(count, f"playing, round {round_}", "episode") as bar:
        table, recordings = play_episodes(
            PolicyAgent.as_measured(policy, params, obs_type),
            params.game,
            params.noise,
            seeds,
            bc.envs,
            bar.update,
            obs_type,
            lambda index, env: witnesses[index].look(env),
        )
    log.episodes.append([recording.to_json() for recording in recordings])
    steps, frames = table[["agent_steps", "emulator_frames"]].sum()
    log.agent_steps += int(steps)
    log.emulator_frames += int(frames)
    cleared, x_pos_max = table[["cleared", "x_pos_max"]].mean()
    played = {"clear_rate": float(cleared), "x_pos_max": float(x_pos_max)}
    return played, list(zip(witnesses, table["cause"], strict=True))


def play_what_was_logged(round_: int, params: Params, log: Log) -> list[Seen]:
    """Play the episodes of a round again, as they were."""
    source = f"round {round_}"
    recordings = [Recording.parse(line, source) for line in log.episodes[round_]]
    seen: list[Seen] = []
    with (
        closing(MarioEnv(params.game, params.noise)) as env,
        progress_bar(len(recordings), f"watching, {source}", "episode") as bar,
    ):
        for recording in recordings:
            witness = Witness(params.game)
            for _ in play_again(recording, env, source):
                witness.look(env)
            seen.append((witness, cause_of_end(env)))
            bar.update()
    return seen


def ask(
    teacher: Policy, seen: Sequence[Seen], params: Params
) -> tuple[list[Demonstration], list[Demonstration]]:
    """Ask the teacher what to do in every step of a round."""
    temperature = params.train_teacher.temperature
    told = [
        witness.ask(teacher, temperature, cause == "stuck") for witness, cause in seen
    ]
    return [first for first, _ in told], [stuck for _, stuck in told if len(stuck)]


def figures(fit: Fit, measured: Fit) -> dict[str, float]:
    return {
        "train_loss": fit.loss,
        "held_out_loss": measured.loss,
        "train_accuracy": fit.accuracy,
        "held_out_accuracy": measured.accuracy,
    }


def resume(
    checkpoint: Checkpoint, cloner: Cloner, rng: np.random.Generator
) -> Log | None:
    """Go back to the last round that was kept, if any."""
    if not checkpoint.has("state"):
        return None
    stored = checkpoint.load("state")
    cloner.restore(stored.tensors)
    rng.bit_generator.state = stored.state["rng"]
    print("pretrain_bc: goes on where it was ended", file=sys.stderr)
    return Log(**stored.state["log"])


if __name__ == "__main__":
    run_stage(main)
