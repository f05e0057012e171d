"""Measure how the clear rate falls when the noise grows.

Reads models/bc/ and, in models/rl/, record_video.agent. Writes metrics/robustness.json
and plots/robustness/noise.{csv,png}.
"""

from pathlib import Path

import pandas as pd

from warpzone.agents.policy import load_agent, make_deterministic
from warpzone.core.files import write_bytes, write_csv, write_json
from warpzone.core.params import NoiseParams, Params, load_params
from warpzone.core.progress import progress_bar
from warpzone.core.seeds import Purpose, episode_seed
from warpzone.core.stage import argument_parser, run_stage
from warpzone.episodes.evaluation import play_episodes
from warpzone.episodes.statistics import wilson
from warpzone.report.figures import robustness_figure

PARAMS = Path("params.yaml")
CLONE = Path("models/bc")
TRAINED = Path("models/rl")
PLOTS = Path("plots/robustness")
METRICS = Path("metrics/robustness.json")


def main() -> None:
    argument_parser(__doc__).parse_args()
    params = load_params(PARAMS)
    make_deterministic(params.seed)
    episodes = params.robustness.episodes
    # Not those of the other measurements, which come first.
    first = params.evaluate.episodes
    seeds = [
        episode_seed(Purpose.EVALUATION, params.seed, first + index)
        for index in range(episodes)
    ]
    shown = params.record_video.agent
    folders = {"random": None, "bc": CLONE, shown: TRAINED / shown}
    agents = {name: load_agent(folder, params) for name, folder in folders.items()}
    noises = noises_around(params)
    rows = []
    total = len(agents) * len(noises) * episodes
    with progress_bar(total, "playing under other noise", "episode") as bar:
        for name, agent in agents.items():
            for noise in noises:
                table, _ = play_episodes(
                    agent, params.game, noise, seeds, params.evaluate.envs, bar.update
                )
                clears = table["cleared"].tolist().count(True)
                interval = wilson(clears, episodes)
                rows.append(
                    {
                        "agent": name,
                        "no_op_max": noise.no_op_max,
                        "sticky_probability": noise.sticky_probability,
                        "episodes": episodes,
                        "clear_rate": clears / episodes,
                        "clear_rate_low": round(interval.low, 4),
                        "clear_rate_high": round(interval.high, 4),
                        "x_pos_max_mean": round(table["x_pos_max"].mean(), 1),
                    }
                )
    table = pd.DataFrame(rows)
    write_csv(PLOTS / "noise.csv", table)
    write_bytes(
        PLOTS / "noise.png", robustness_figure(table, params.noise.model_dump())
    )
    write_json(
        METRICS,
        {
            f"{row['agent']}_clear_rate_without_noise": row["clear_rate"]
            for row in rows
            if row["no_op_max"] == 0 and row["sticky_probability"] == 0
        }
        | {"episodes": episodes},
    )


def noises_around(params: Params) -> list[NoiseParams]:
    """Return no noise at all, and ``params.noise`` with one of its values changed."""
    usual = params.noise
    noises = [
        NoiseParams(no_op_max=0, sticky_probability=0.0),
        usual,
        *(
            usual.model_copy(update={"no_op_max": no_ops})
            for no_ops in params.robustness.no_op_max
        ),
        *(
            usual.model_copy(update={"sticky_probability": probability})
            for probability in params.robustness.sticky_probability
        ),
    ]
    unique = {(noise.no_op_max, noise.sticky_probability): noise for noise in noises}
    return [unique[key] for key in sorted(unique)]


if __name__ == "__main__":
    run_stage(main)
