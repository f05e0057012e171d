"""Fit the policy to the demonstrations, and go on with DAgger.

Reads data/demos.jsonl. Writes models/bc/, metrics/pretrain_bc.json and
plots/pretrain_bc/{rounds,confusion}.csv.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from warpzone.agents.cloning import (
    Cloner,
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

# Episodes of DAgger played side by side.
SEATS = 16


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    bc = params.pretrain_bc
    make_deterministic(params.seed)
    rng = np.random.default_rng(params.seed)

    recordings = read_recordings(DEMOS)
    with progress_bar(len(recordings), "replaying", "episode") as bar:
        episodes = watch_all(recordings, params.game, str(DEMOS), bar.update)
    train, held_out = split_episodes(episodes, bc.held_out_share, rng)

    untrained = build_policy(params.game).to(find_device(params.device))
    cloner = Cloner(untrained, bc, rng)
    policy = cloner.averaged
    dagger = Dagger(params.game, params.noise, bc, min(bc.round_episodes, SEATS))
    rounds: list[dict[str, Any]] = []
    agent_steps = 0
    for round_ in range(bc.rounds + 1):
        alone: dict[str, Any] = {"deaths": None, "clear_rate": None}
        if round_ > 0:
            lessons = teach(dagger, policy, round_, params)
            shown = [lesson.shown for lesson in lessons]
            agent_steps += sum(lesson.agent_steps for lesson in lessons)
            deaths = np.array([lesson.deaths for lesson in lessons])
            alone = {"deaths": deaths.mean(), "clear_rate": (deaths == 0).mean()}
            more_train, more_held_out = split_episodes(shown, bc.held_out_share, rng)
            train += more_train
            held_out += more_held_out
        is_last = round_ == bc.rounds
        updates = bc.round_updates if round_ else bc.updates
        pairs = join(train)
        with progress_bar(
            updates + is_last * bc.final_updates, f"cloning, round {round_}", "update"
        ) as bar:
            fit = cloner.fit(pairs, updates, on_update=bar.update)
            if is_last:
                fit = cloner.fit(pairs, bc.final_updates, True, bar.update)
        measured, _ = measure(policy, join(held_out))
        rounds.append(
            {
                "round": round_,
                "pairs": len(pairs),
                "train_loss": fit.loss,
                "held_out_loss": measured.loss,
                "train_accuracy": fit.accuracy,
                "held_out_accuracy": measured.accuracy,
                **alone,
            }
        )
    sharpen(policy, bc.temperature)

    origin = describe_origin("pretrain_bc", bc, params.seed)
    save_policy(policy, MODEL, params.game, origin)
    note(MODEL, Path())
    actual = join(held_out).actions
    _, predictions = measure(policy, join(held_out))
    majority_action = np.bincount(join(train).actions).argmax()
    last = rounds[-1]
    write_json(
        METRICS,
        {
            "demonstrations": len(recordings),
            "dagger_episodes": bc.rounds * bc.round_episodes,
            "agent_steps": agent_steps,
            "emulator_frames": dagger.emulator_frames,
            "pairs": last["pairs"] + len(actual),
            "held_out_pairs": len(actual),
            "held_out_loss": round(last["held_out_loss"], 4),
            "held_out_accuracy": round(last["held_out_accuracy"], 4),
            "majority_action_accuracy": round(
                float((actual == majority_action).mean()), 4
            ),
        },
    )
    write_csv(ROUNDS, pd.DataFrame(rounds))
    names = [action_name(mask) for mask in ACTION_SETS[params.game.action_set]]
    confusion = {"actual": actual, "predicted": predictions}
    write_csv(
        CONFUSION,
        pd.DataFrame({key: [names[i] for i in row] for key, row in confusion.items()}),
    )


def teach(dagger: Dagger, policy: Policy, round_: int, params: Params) -> list[Lesson]:
    """Let the learner play the episodes of a round, with help where it dies."""
    bc = params.pretrain_bc
    learner = PolicyAgent(policy, bc.temperature)
    first = (round_ - 1) * bc.round_episodes
    seeds = [
        episode_seed(Purpose.DAGGER, params.seed, first + index)
        for index in range(bc.round_episodes)
    ]
    with progress_bar(len(seeds), f"DAgger, round {round_}", "episode") as bar:
        return dagger.play(learner, seeds, bar.update)


if __name__ == "__main__":
    run_stage(main)
