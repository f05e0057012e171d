"""Fit the policy to the demonstrations, and go on with DAgger.

Reads data/demos.jsonl. Writes models/bc/, metrics/pretrain_bc.json and
plots/pretrain_bc/{rounds,confusion}.csv. If it is killed, the next run goes on after
the last round.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from warpzone.agents.checkpoints import Checkpoint, checkpointed
from warpzone.agents.cloning import (
    Cloner,
    Demonstration,
    Fit,
    join,
    measure,
    sharpen,
    split_episodes,
    watch_all,
)
from warpzone.agents.dagger import Dagger, Lesson
from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    build_policy,
    describe_origin,
    find_device,
    make_deterministic,
    save_policy,
)
from warpzone.demos.recording import read_recordings
from warpzone.files import write_csv, write_json
from warpzone.game.actions import ACTION_SETS, action_name
from warpzone.params import Params, load_params
from warpzone.progress import progress_bar
from warpzone.provenance import note
from warpzone.seeds import Purpose, episode_seed
from warpzone.stage import argument_parser, run_stage

PARAMS = Path("params.yaml")
DEMOS = Path("data/demos.jsonl")
MODEL = Path("models/bc")
METRICS = Path("metrics/pretrain_bc.json")
ROUNDS = Path("plots/pretrain_bc/rounds.csv")
CONFUSION = Path("plots/pretrain_bc/confusion.csv")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("pretrain_bc", "device", "game", "noise", "seed"), True),
    "evaluate": {"temperature"},
}

# Episodes of DAgger played side by side.
SEATS = 24


@dataclass
class Pairs:
    """All that there is to learn from, round by round."""

    train: list[Demonstration]
    held_out: list[Demonstration]


@dataclass
class Log:
    """What happened so far. JSON can say it."""

    demonstrations: int
    rounds: list[dict[str, Any]]
    """Rows of the table."""
    agent_steps: int = 0
    emulator_frames: int = 0


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    origin = describe_origin("pretrain_bc", params.pretrain_bc, params.seed)
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [DEMOS, Path(__file__)]
    with checkpointed(CHECKPOINTS, "pretrain_bc", facts, inputs) as checkpoint:
        pretrain(params, origin, checkpoint)


def pretrain(params: Params, origin: dict[str, Any], checkpoint: Checkpoint) -> None:
    bc = params.pretrain_bc
    make_deterministic(params.seed)
    rng = np.random.default_rng(params.seed)
    untrained = build_policy(params.game).to(find_device(params.device))
    cloner = Cloner(untrained, bc, rng)
    policy = cloner.average.policy
    pairs, log = resume(checkpoint, cloner, rng) or begin(params, rng)
    dagger = Dagger(params.game, params.noise, bc, min(bc.round_episodes, SEATS))
    for round_ in range(len(log.rounds), bc.rounds + 1):
        row: dict[str, Any] = {"round": round_, "deaths": None, "clear_rate": None}
        if round_ > 0:
            lessons = teach(dagger, policy, round_, params)
            shown = [lesson.shown for lesson in lessons]
            train, held_out = split_episodes(shown, bc.held_out_share, rng)
            pairs.train.append(join(train))
            pairs.held_out.append(join(held_out))
            deaths = np.array([lesson.deaths for lesson in lessons])
            row["deaths"] = float(deaths.mean())
            row["clear_rate"] = float((deaths == 0).mean())
            log.agent_steps += sum(lesson.agent_steps for lesson in lessons)
            log.emulator_frames += sum(lesson.emulator_frames for lesson in lessons)
        updates = bc.round_updates if round_ else bc.updates
        with progress_bar(updates, f"cloning, round {round_}", "update") as bar:
            fit = cloner.fit(join(pairs.train), updates, on_update=bar.update)
        measured, _ = measure(policy, join(pairs.held_out))
        row["pairs"] = sum(map(len, pairs.train + pairs.held_out))
        log.rounds.append(row | figures(fit, measured))
        save(checkpoint, cloner, rng, pairs, log)

    train, held_out = join(pairs.train), join(pairs.held_out)
    with progress_bar(bc.final_updates, "cloning, at the end", "update") as bar:
        fit = cloner.fit(train, bc.final_updates, True, bar.update)
    measured, predictions = measure(policy, held_out)
    log.rounds[-1] |= figures(fit, measured)
    sharpen(policy, bc.temperature)

    save_policy(policy, MODEL, params.game, origin)
    note(MODEL, Path())
    majority_action = np.bincount(train.actions).argmax()
    majority_accuracy = (held_out.actions == majority_action).mean()
    write_json(
        METRICS,
        {
            "demonstrations": log.demonstrations,
            "dagger_episodes": bc.rounds * bc.round_episodes,
            "agent_steps": log.agent_steps,
            "emulator_frames": log.emulator_frames,
            "pairs": len(train) + len(held_out),
            "held_out_pairs": len(held_out),
            "held_out_loss": round(measured.loss, 4),
            "held_out_accuracy": round(measured.accuracy, 4),
            "majority_action_accuracy": round(float(majority_accuracy), 4),
        },
    )
    write_csv(ROUNDS, pd.DataFrame(log.rounds))
    names = np.array(
        [action_name(mask) for mask in ACTION_SETS[params.game.action_set]]
    )
    confusion = {"actual": names[held_out.actions], "predicted": names[predictions]}
    write_csv(CONFUSION, pd.DataFrame(confusion))


def begin(params: Params, rng: np.random.Generator) -> tuple[Pairs, Log]:
    """See what the demonstrations show."""
    recordings = read_recordings(DEMOS)
    with progress_bar(len(recordings), "replaying", "episode") as bar:
        episodes = watch_all(recordings, params.game, str(DEMOS), bar.update)
    train, held_out = split_episodes(episodes, params.pretrain_bc.held_out_share, rng)
    return Pairs([join(train)], [join(held_out)]), Log(len(recordings), [])


def teach(dagger: Dagger, policy: Policy, round_: int, params: Params) -> list[Lesson]:
    """Let the learner play the episodes of a round, with help where it dies."""
    bc = params.pretrain_bc
    # As it is evaluated in the end.
    learner = PolicyAgent(policy, bc.temperature * params.evaluate.temperature)
    first = (round_ - 1) * bc.round_episodes
    seeds = [
        episode_seed(Purpose.DAGGER, params.seed, first + index)
        for index in range(bc.round_episodes)
    ]
    with progress_bar(len(seeds), f"DAgger, round {round_}", "episode") as bar:
        return dagger.play(learner, seeds, bar.update)


def figures(fit: Fit, measured: Fit) -> dict[str, float]:
    return {
        "train_loss": fit.loss,
        "held_out_loss": measured.loss,
        "train_accuracy": fit.accuracy,
        "held_out_accuracy": measured.accuracy,
    }


def save(
    checkpoint: Checkpoint,
    cloner: Cloner,
    rng: np.random.Generator,
    pairs: Pairs,
    log: Log,
) -> None:
    """Keep a round: its pairs first, and then what says that it is over."""
    round_ = len(log.rounds) - 1
    tensors = {
        f"{name}.{field}": torch.from_numpy(getattr(part[round_], field))
        for name, part in vars(pairs).items()
        for field in ("observations", "actions")
    }
    checkpoint.save(f"pairs-{round_}", tensors, None)
    state = {"log": vars(log), "rng": rng.bit_generator.state}
    checkpoint.save("state", cloner.tensors(), state)


def resume(
    checkpoint: Checkpoint, cloner: Cloner, rng: np.random.Generator
) -> tuple[Pairs, Log] | None:
    """Go back to the last round that was kept, if any."""
    if not checkpoint.has("state"):
        return None
    stored = checkpoint.load("state")
    cloner.restore(stored.tensors)
    rng.bit_generator.state = stored.state["rng"]
    log = Log(**stored.state["log"])
    pairs = Pairs([], [])
    for round_ in range(len(log.rounds)):
        tensors = checkpoint.load(f"pairs-{round_}").tensors
        for name, part in vars(pairs).items():
            arrays = (
                tensors[f"{name}.{f}"].numpy() for f in ("observations", "actions")
            )
            part.append(Demonstration(*arrays))
    print("pretrain_bc: goes on where it was ended", file=sys.stderr)
    return pairs, log


if __name__ == "__main__":
    run_stage(main)
