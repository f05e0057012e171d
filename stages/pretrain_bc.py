"""Fit the policy to the demonstrations by behavioural cloning.

Reads data/demos.jsonl. Writes models/bc/, metrics/pretrain_bc.json and
plots/pretrain_bc/{epochs,confusion}.csv.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from warpzone.agents.cloning import clone, join, split_episodes, watch_all
from warpzone.agents.policy import (
    build_policy,
    describe_origin,
    find_device,
    make_deterministic,
    save_policy,
)
from warpzone.demos.recording import read_recordings
from warpzone.files import write_csv, write_json
from warpzone.game.actions import ACTION_SETS, action_name
from warpzone.params import load_params
from warpzone.progress import progress_bar
from warpzone.stage import argument_parser, run_stage

PARAMS = Path("params.yaml")
DEMOS = Path("data/demos.jsonl")
MODEL = Path("models/bc")
METRICS = Path("metrics/pretrain_bc.json")
EPOCHS = Path("plots/pretrain_bc/epochs.csv")
CONFUSION = Path("plots/pretrain_bc/confusion.csv")


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    make_deterministic(params.seed)
    rng = np.random.default_rng(params.seed)

    recordings = read_recordings(DEMOS)
    with progress_bar(len(recordings), "replaying", "episode") as bar:
        episodes = watch_all(recordings, params.game, str(DEMOS), bar.update)
    parts = split_episodes(episodes, params.pretrain_bc.held_out_share, rng)
    train, held_out = map(join, parts)

    policy = build_policy(params.game).to(find_device(params.device))
    with progress_bar(params.pretrain_bc.epochs, "cloning", "epoch") as bar:
        cloning = clone(policy, train, held_out, params.pretrain_bc, rng, bar.update)

    save_policy(
        policy,
        MODEL,
        params.game,
        describe_origin("pretrain_bc", params.pretrain_bc, params.seed),
    )
    best = cloning.epochs.iloc[cloning.best_epoch - 1]
    majority_action = np.bincount(train.actions).argmax()
    write_json(
        METRICS,
        {
            "episodes": len(episodes),
            "pairs": len(train) + len(held_out),
            "held_out_episodes": len(parts[1]),
            "held_out_pairs": len(held_out),
            "best_epoch": cloning.best_epoch,
            "held_out_loss": round(best["held_out_loss"], 4),
            "held_out_accuracy": round(best["held_out_accuracy"], 4),
            "majority_action_accuracy": round(
                float((held_out.actions == majority_action).mean()), 4
            ),
        },
    )
    write_csv(EPOCHS, cloning.epochs)
    names = [action_name(mask) for mask in ACTION_SETS[params.game.action_set]]
    confusion = {"actual": held_out.actions, "predicted": cloning.predictions}
    write_csv(
        CONFUSION,
        pd.DataFrame({key: [names[i] for i in row] for key, row in confusion.items()}),
    )


if __name__ == "__main__":
    run_stage(main)
