"""Train the policy by PPO, from the cloned one or from scratch.

Reads models/bc/ if --init is bc. With NAME being INIT-seedN, it writes
models/rl/NAME/ (the policy that played best, chosen by episodes that are used for
nothing else), models/rl/NAME/final/ (the last one), metrics/train_rl/NAME.json and
plots/train_rl/NAME.csv. If it is killed, the next run goes on after the last update.
"""

import sys
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, get_args

from warpzone.agents.checkpoints import Checkpoint, checkpointed
from warpzone.agents.policy import (
    Policy,
    PolicyAgent,
    describe_origin,
    find_device,
    load_policy,
    make_deterministic,
    save_policy,
    set_weights,
)
from warpzone.agents.ppo import Score, train
from warpzone.evaluation import play_episodes
from warpzone.files import write_csv, write_json
from warpzone.game.env import MarioEnv
from warpzone.game.vec_env import ThreadedVecEnv
from warpzone.params import Init, Params, load_params
from warpzone.progress import progress_bar
from warpzone.provenance import note
from warpzone.seeds import SEEDS, Purpose, episode_seed
from warpzone.stage import argument_parser, run_stage

PARAMS = Path("params.yaml")
CLONE = Path("models/bc")
MODELS = Path("models/rl")
METRICS = Path("metrics/train_rl")
CURVES = Path("plots/train_rl")
CHECKPOINTS = Path(".checkpoints")

# Sections of the parameters that decide the result.
USED = {
    **dict.fromkeys(("train_rl", "device", "game", "noise"), True),
    "evaluate": {"temperature"},
}


def main() -> None:
    parser = argument_parser(__doc__)
    parser.add_argument("--init", choices=get_args(Init), required=True)
    parser.add_argument("--seed", type=int, required=True, help=f"0 to {SEEDS - 1}")
    arguments = parser.parse_args()
    init, seed = arguments.init, arguments.seed
    if not 0 <= seed < SEEDS:
        parser.error(f"--seed must be 0 to {SEEDS - 1}, got {seed}")

    params = load_params(PARAMS)
    name = f"{init}-seed{seed}"
    origin = describe_origin("train_rl", params.train_rl, seed) | {"init": init}
    facts = [params.model_dump(mode="json", include=USED), origin]
    inputs = [Path(__file__), *([CLONE] if init == "bc" else [])]
    start = load_policy(CLONE, params.game) if init == "bc" else None
    with checkpointed(CHECKPOINTS, f"train_rl-{name}", facts, inputs) as checkpoint:
        train_one(name, seed, start, params, origin, checkpoint)


def train_one(
    name: str,
    seed: int,
    start: Policy | None,
    params: Params,
    origin: dict[str, Any],
    checkpoint: Checkpoint,
) -> None:
    """Train an agent and write it with its figures."""
    game, noise, rl = params.game, params.noise, params.train_rl
    if checkpoint.has("state"):
        print(f"train_rl {name}: goes on where it was ended", file=sys.stderr)
    make_deterministic(seed)
    selection = [
        episode_seed(Purpose.SELECTION, seed, index)
        for index in range(rl.selection_episodes)
    ]

    def score(policy: Policy) -> Score:
        agent = PolicyAgent(policy, params.evaluate.temperature)
        table, _ = play_episodes(agent, game, noise, selection, rl.envs)
        cleared, x_pos_max = table[["cleared", "x_pos_max"]].mean()
        return Score(float(cleared), float(x_pos_max))

    with (
        closing(ThreadedVecEnv([partial(MarioEnv, game, noise)] * rl.envs)) as envs,
        progress_bar(rl.agent_steps, f"training {name}", "agent step") as bar,
    ):
        training = train(
            envs,
            start,
            rl,
            episode_seed(Purpose.TRAINING, seed, 0),
            score,
            find_device(params.device),
            checkpoint,
            bar.update,
        )

    save_policy(training.policy, MODELS / name / "final", game, origin)
    set_weights(training.policy, training.best_weights)
    save_policy(training.policy, MODELS / name, game, origin)
    note(MODELS / name, Path())
    curve = training.curve
    write_csv(CURVES / f"{name}.csv", curve)
    at_start, best, last = (curve.iloc[i] for i in (0, training.best_update, -1))
    write_json(
        METRICS / f"{name}.json",
        {
            "agent_steps": int(last["agent_steps"]),
            "emulator_frames": int(last["emulator_frames"]),
            "updates": int(last["update"]),
            "best_update": training.best_update,
            "ended_by": training.ended_by,
            "selection_episodes": rl.selection_episodes,
            "selection_clear_rate_start": round(at_start["selection_clear_rate"], 4),
            "selection_clear_rate_best": round(best["selection_clear_rate"], 4),
            "selection_clear_rate_final": round(last["selection_clear_rate"], 4),
            "selection_x_pos_max_start": round(at_start["selection_x_pos_max"], 1),
            "selection_x_pos_max_best": round(best["selection_x_pos_max"], 1),
            "selection_x_pos_max_final": round(last["selection_x_pos_max"], 1),
        },
    )


if __name__ == "__main__":
    run_stage(main)
