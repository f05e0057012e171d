"""From the episodes to the findings of the report, with values to change.

Reads params.yaml, data/episodes/, metrics/ and plots/ from the root of the repository,
and DVC's experiments. Writes nothing.
"""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Analysis")

with app.setup:
    import json
    import sys
    from collections.abc import Iterator
    from contextlib import contextmanager
    from io import StringIO
    from pathlib import Path

    import dvc.api
    import marimo as mo
    import numpy as np
    import pandas as pd
    from dvc.exceptions import DvcException
    from matplotlib.figure import Figure
    from matplotlib.ticker import EngFormatter, PercentFormatter

    from warpzone.core.errors import InputError
    from warpzone.core.files import one_line, read_text
    from warpzone.core.names import BASELINES, NOISE, PARAMS, cell
    from warpzone.core.params import Params, load_params
    from warpzone.envs.registry import env_class
    from warpzone.episodes.statistics import wilson
    from warpzone.episodes.table import (
        causes_of,
        check_comparable,
        distinct,
        read_episodes,
    )
    from warpzone.report.comparison import bracketed
    from warpzone.report.figures import agents_figure
    from warpzone.report.findings import contrast, profile, summarise
    from warpzone.report.look import WHOLE, WIDTH, Styles, dodge, png, recipe_of, styled


@app.cell(hide_code=True)
def _():
    mo.md("""
    # Analysis

    From the episodes to the findings of `report.md`, a step a cell. Change a value or a
    line, and every cell that depends on it runs again.

    1. How well do the agents play? The numbers of the report, computed again.
    2. Is a trained agent better than random play, and by how much?
    3. How stable is the training?
    4. Which parameters change the success rate? All experiments side by side.

    `docs/evaluation.md` says what the numbers mean.
    """)
    return


@app.function(hide_code=True)
@contextmanager
def bad_input_in_one_line() -> Iterator[None]:
    """End a script in one line where a file is missing or damaged."""
    try:
        yield
    except InputError as error:
        if mo.running_in_notebook():
            raise
        sys.exit(f"error: {error}")


@app.function(hide_code=True)
def show(*parts: str | bytes | pd.DataFrame) -> mo.Html:
    """Show text, pictures and tables; a script prints the text and the tables."""
    shown = []
    for part in parts:
        if isinstance(part, bytes):
            shown.append(mo.image(part, width=830))
            continue
        table = isinstance(part, pd.DataFrame)
        html = part.to_html(index=False, border=0) if table else part
        shown.append(mo.Html(html) if table else mo.md(html))
        if not mo.running_in_notebook():
            print(part.to_string(index=False) if table else part, end="\n\n")
    return mo.vstack(shown)


@app.function(hide_code=True)
def read_table(path: Path) -> pd.DataFrame:
    """Read a small table of metrics/ or plots/."""
    text = read_text(path)
    try:
        return pd.read_csv(StringIO(text))
    except ValueError as error:
        raise InputError(f"{path}: is not a table: {one_line(error)}") from error


@app.cell
def _():
    with bad_input_in_one_line():
        params: Params = load_params(PARAMS)
    world = env_class(params.env)
    trained = [agent for agent in params.agents if agent not in BASELINES]
    return params, trained, world


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## What to change

    The menus do so while the notebook is open. A script and an exported page take the
    defaults: change those in the code.
    """)
    return


@app.cell
def _(params, trained):
    task = mo.ui.dropdown(params.run.tasks, params.run.tasks[0], label="task")
    condition = mo.ui.dropdown(list(params.evaluate.noises), NOISE, label="condition")
    one = mo.ui.dropdown(params.agents, trained[0], label="agent")
    other = mo.ui.dropdown(params.agents, "random", label="against")
    mo.hstack([task, condition, one, other], justify="start", gap=2)
    return condition, one, other, task


@app.cell
def _(params):
    # Of the bootstrap. 1,000 samples are quicker, and enough for steady intervals.
    samples = params.compare.bootstrap_samples
    seed = params.seed
    return samples, seed


@app.cell
def _(condition, params, task, world):
    with bad_input_in_one_line():
        _folder = cell("data/episodes", params.env, task.value)
        _paths = {a: _folder / a / f"{condition.value}.csv" for a in params.agents}
        for _path in _paths.values():
            if not _path.exists():
                raise InputError(
                    f"{_path}: there are no episodes: `make repro` plays them, `make "
                    "pull` fetches them where a remote has them"
                )
        tables = {
            agent: read_episodes(
                path, world, agent=agent, task=task.value, noise=condition.value
            )
            for agent, path in _paths.items()
        }
        check_comparable(tables)
    # An agent has one colour in all pictures.
    styles = Styles((task.value, agent) for agent in tables)
    return styles, tables


@app.cell(hide_code=True)
def _(condition, task):
    mo.md(f"""
    ## 1. How well the agents play

    Task **{task.value}**, condition **{condition.value}**: every agent plays the same
    episodes. In brackets and as lines: 95 % intervals, Wilson's for success rates, a
    bootstrap's for progress. IQM is the mean of the middle half.
    """)
    return


@app.cell
def _(samples, seed, tables, task, world):
    summaries = {
        agent: summarise(
            {task.value: [table]},
            causes_of(world),
            world.FRAMES_PER_SECOND,
            samples,
            np.random.default_rng(seed),
        )
        for agent, table in tables.items()
    }
    return (summaries,)


@app.cell
def _(summaries, task, world):
    show(
        pd.DataFrame(
            {
                "agent": agent,
                "episodes": of["episodes"],
                "success rate": bracketed(of, "success_rate", ".0%"),
                f"mean {world.PROGRESS}": bracketed(of, "progress_mean", ",.0f"),
                "IQM": bracketed(of, "progress_iqm", ",.0f"),
            }
            for agent, of in summaries.items()
        ),
        agents_figure(
            {(task.value, agent): of for agent, of in summaries.items()},
            world.PROGRESS,
        ),
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    **Are these the numbers of the report?** The next cell fails if not. Then episodes
    and report are of different runs, and `make repro` makes both again. Bounds of a
    bootstrap are left out where its samples or its seed are not those of the report.
    """)
    return


@app.cell
def _(condition, params, samples, seed, summaries, task):
    _ours = pd.DataFrame(summaries, dtype=float)
    if (samples, seed) != (params.compare.bootstrap_samples, params.seed):
        _ours = _ours[~_ours.index.str.fullmatch(r"progress_.*_(low|high)")]
    _name = "agents" if condition.value == NOISE else "noise"
    _csv = Path("plots/compare", params.env, f"{_name}.csv")
    _json = Path("metrics/compare", f"{params.env}.json")
    with bad_input_in_one_line():
        _all = read_table(_csv)
        _of = (_all["task"] == task.value) & (_all["noise"] == condition.value)
        reported = {_csv: _all[_of].set_index("agent").T.reindex(columns=list(_ours))}
        if condition.value == NOISE:
            reported[_json] = pd.DataFrame(json.loads(read_text(_json))[task.value])
        _equal = 0
        for _file, _numbers in reported.items():
            _theirs = _numbers.loc[_numbers.index.intersection(_ours.index)]
            _mine = _ours.reindex_like(_theirs)
            # The files have six digits.
            _same = np.isclose(_mine, _theirs.astype(float), rtol=1e-5, equal_nan=True)
            for _row, _column in np.argwhere(~_same):
                _what = f"{_theirs.index[_row]} of {_theirs.columns[_column]}"
                raise InputError(
                    f"{_file}: {_what} is {_theirs.iloc[_row, _column]}, but "
                    f"{_mine.iloc[_row, _column]} in the episodes: `make repro` makes "
                    "both again"
                )
            _equal += _same.size
    show(
        f"They are: {_equal} numbers equal those of {' and '.join(map(str, reported))}."
    )
    return


@app.cell(hide_code=True)
def _(one, other):
    mo.md(f"""
    ## 2. {one.value} against {other.value}

    On the left how far episodes got, on the right the share of the episodes that got at
    least so far, with a band of 95 % at each point. The better agent is higher there.
    Choose other agents above.
    """)
    return


@app.cell
def _(one, other, styles, tables, task, world):
    @styled
    def _draw() -> bytes:
        figure = Figure(figsize=(WIDTH, 3.6))
        left, right = figure.subplots(1, 2)
        agents = list(dict.fromkeys([one.value, other.value]))
        progress = [distinct(tables[agent])["progress"] for agent in agents]
        bins = np.linspace(0, max(map(max, progress)), 26)
        for agent, values in zip(agents, progress, strict=True):
            colour = styles.colour(agent)
            left.hist(values, bins, color=colour, alpha=0.6, label=agent)
            band = profile([tables[agent]], max(1, int(bins[1] / 4)))
            right.plot(band["progress"], band["share"], color=colour)
            right.fill_between(
                band["progress"],
                band["share_low"],
                band["share_high"],
                color=colour,
                alpha=0.2,
                linewidth=0,
            )
        left.set(title="How far episodes got", xlabel=world.PROGRESS, ylabel="episodes")
        right.set(title="Share that got at least so far", xlabel=world.PROGRESS)
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1))
        for axes in (left, right):
            axes.xaxis.set_major_formatter(WHOLE)
        return png(figure, left)

    show(_draw())
    return


@app.cell
def _(one, other, samples, seed, tables, task):
    difference = contrast(
        {task.value: [tables[one.value]]},
        {task.value: [tables[other.value]]},
        samples,
        np.random.default_rng(seed),
    )
    return (difference,)


@app.cell
def _(difference, one, other, world):
    _shown = (
        ("success rate", "success_rate", "+.0%", "success_p"),
        (f"mean {world.PROGRESS}", "progress_mean", "+,.0f", "progress_p"),
        (f"IQM of {world.PROGRESS}", "progress_iqm", "+,.0f", None),
        ("gets further", "improvement", ".0%", None),
    )
    show(
        pd.DataFrame(
            {
                "": name,
                f"{one.value} minus {other.value}": bracketed(difference, column, form),
                "p": f"{difference[p]:.3g}" if p else "",
            }
            for name, column, form, p in _shown
        ),
        "An interval without 0 is more than chance. Gets further: the probability that "
        f"an episode of {one.value} gets further than one of {other.value}; 50 % where "
        "they are alike. p: Fisher's exact test and Mann and Whitney's, of these two "
        "agents alone. The report corrects its p values for all of its comparisons.",
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    ## 3. Stability of training

    In training an agent is evaluated now and then, on seeds of their own. Bands are
    Wilson's 95 % intervals: evaluations are short, so most ups and downs are chance.
    A ring marks the weights that were kept: the last evaluation whose success rate is
    not below the lower end of the interval of the best one so far. What has learned
    longer is preferred as long as it is not significantly worse.
    """)
    return


@app.cell
def _(params, task, trained):
    with bad_input_in_one_line():
        _plots = cell("plots/train_rl", params.env, task.value)
        _metrics = cell("metrics/train_rl", params.env, task.value)
        evaluations = {a: read_table(_plots / f"{a}.csv") for a in trained}
        updates = {a: read_table(_metrics / f"{a}.csv") for a in trained}
        endings = {a: json.loads(read_text(_metrics / f"{a}.json")) for a in trained}
    return endings, evaluations, updates


@app.cell
def _(endings, evaluations, styles, task):
    @styled
    def _draw() -> bytes:
        figure = Figure(figsize=(WIDTH, 4))
        axes = figure.subplots()
        for agent, rows in evaluations.items():
            steps, rates = rows["agent_steps"], rows["eval_success_rate"]
            counts = rows["eval_episodes"].astype(int)
            won = (rates * counts).round().astype(int)
            low, high = zip(*map(wilson, won, counts), strict=True)
            style = styles.of((task.value, agent))
            axes.plot(steps, rates, **style, clip_on=False, zorder=3)
            colour = style["color"]
            axes.fill_between(steps, low, high, color=colour, alpha=0.15, linewidth=0)
            kept = rows[steps == endings[agent]["best_agent_steps"]]
            ring = {"markerfacecolor": "none", "markeredgecolor": colour}
            axes.plot(
                kept["agent_steps"],
                kept["eval_success_rate"],
                "o",
                markersize=14,
                clip_on=False,
                **ring,
            )
        axes.set(title="Success rate in evaluation", xlabel="agent steps of training")
        axes.set_ylim(0, 1.02)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        return png(figure, axes)

    show(_draw())
    return


@app.cell
def _(endings, evaluations):
    show(
        pd.DataFrame(
            {
                "agent": agent,
                "evaluations": len(evaluations[agent]),
                "at the start": f"{of['eval_success_rate_start']:.0%}",
                "highest": f"{evaluations[agent]['eval_success_rate'].max():.0%}",
                "at the end": f"{of['eval_success_rate_final']:.0%}",
                "kept": f"{of['eval_success_rate_best']:.0%}",
                "kept at step": f"{of['best_agent_steps']:,}",
                "steps in all": f"{of['agent_steps']:,}",
                "ended by": of["ended_by"],
            }
            for agent, of in endings.items()
        )
    )
    return


@app.cell(hide_code=True)
def _():
    mo.md("""
    **Inside an update.** `approx_kl` is how far an update moves the policy; PPO ends an
    update early at 1.5 times `target_kl`. `clip_fraction` is the share of the decisions
    that PPO's clipping holds back. `entropy_loss` is minus the entropy: at 0 the policy
    is sure of itself. `value_loss` is the critic's error. Where a success rate
    collapses, look here for what happened just before. Name other columns of
    `metrics/train_rl/` in the cell.
    """)
    return


@app.cell
def _(styles, task, updates):
    _columns = ["approx_kl", "clip_fraction", "entropy_loss", "value_loss"]

    @styled
    def _draw() -> bytes:
        # Not every algorithm has them all.
        known = [c for c in _columns if any(c in rows for rows in updates.values())]
        figure = Figure(figsize=(WIDTH, 0.8 + 2.2 * -(-len(known) // 2)))
        grid = figure.subplots(-(-len(known) // 2), 2, squeeze=False)
        for axes, column in zip(grid.flat, known, strict=False):
            for agent, rows in updates.items():
                if column in rows:
                    drawn = rows.dropna(subset=[column])
                    style = styles.of((task.value, agent)) | {"marker": None}
                    axes.plot(drawn["agent_steps"], drawn[column], **style)
            axes.set(title=column)
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        for axes in grid[-1]:
            axes.set_xlabel("agent steps of training")
        return png(figure, grid[0, 0])

    show(_draw())
    return


@app.cell
def _(params, samples, seed, tables, task, trained, world):
    _seeds = {r: [a for a in trained if recipe_of(a) == r] for r in params.run.recipes}
    _rows = []
    for _recipe, _agents in _seeds.items():
        _rates = [tables[agent]["success"].mean() for agent in _agents]
        _of = summarise(
            {task.value: [tables[agent] for agent in _agents]},
            causes_of(world),
            world.FRAMES_PER_SECOND,
            samples,
            np.random.default_rng(seed),
        )
        _rows.append(
            {
                "recipe": _recipe,
                "seeds": len(_agents),
                "success rate of each": ", ".join(f"{rate:.0%}" for rate in _rates),
                "of the recipe": bracketed(_of, "success_rate", ".0%"),
                f"mean {world.PROGRESS}": bracketed(_of, "progress_mean", ",.0f"),
            }
        )
    _words = (
        "With one training seed the interval is about that agent, and says next to "
        "nothing about others of its recipe. `dvc exp run -S 'run.seeds=[1,2,3]'` "
        "trains more."
        if len(params.run.seeds) == 1
        else "The training seed is the unit of replication: these intervals are about "
        "agents of new seeds, and are wide with few of them."
    )
    show("**Over training seeds**", pd.DataFrame(_rows), _words)
    return


@app.cell(hide_code=True)
def _(one):
    mo.md(f"""
    ## 4. Parameters against success

    Every experiment of DVC that began from this commit, the commit itself and the
    workspace, with the parameters that differ between them and the success rate of
    **{one.value}** under the default noise.
    """)
    return


@app.cell
def _():
    # How many commits to go back from HEAD; -1: all of them.
    commits = 1
    return (commits,)


@app.cell
def _(commits, one, task):
    _rate = f"{task.value}.{one.value}.success_rate"
    _more = "`dvc exp run -S recipes.bc-ppo.learning_rate=1e-4` makes an experiment."
    try:
        _rows = dvc.api.exp_show(num=commits)
    except DvcException as _error:
        # DVC wraps the reason.
        _why: BaseException = _error
        while _why.__cause__:
            _why = _why.__cause__
        _rows, _more = [], f"DVC says: {' '.join(str(_why).split())}"
    _rows = [row for row in _rows if row.get(_rate) is not None]
    # What begins with a section of params.yaml is a parameter.
    _sections = tuple(f"{section}." for section in Params.model_fields)
    _names = dict.fromkeys(name for row in _rows for name in row)
    _names = [name for name in _names if f"{name}.".startswith(_sections)]
    _measured = [f"{_rate}{end}" for end in ("", "_low", "_high")]
    # The workspace comes first, and is mostly the same as the commit or an experiment.
    experiments = pd.DataFrame(
        _rows, columns=["Experiment", "rev", *_names, *_measured]
    ).drop_duplicates([*_names, *_measured], keep="last")
    differing = [n for n in _names if len(set(map(str, experiments[n]))) > 1]
    experiments = experiments.assign(
        name=experiments["Experiment"].fillna(experiments["rev"])
    ).rename(columns=lambda name: name.removeprefix(f"{task.value}.{one.value}."))
    if not differing:
        _count = len(experiments) or "no"
        _words = f"There is {_count} result of {one.value}: nothing to compare. {_more}"
        mo.stop(True, show(_words))
    return differing, experiments


@app.cell
def _(differing):
    parameter = mo.ui.dropdown(differing, differing[0], label="parameter")
    parameter  # noqa: B018  # pyright: ignore[reportUnusedExpression]
    return (parameter,)


@app.cell
def _(differing, experiments, parameter):
    # Numbers by size, then words.
    _values = experiments[parameter.value].tolist()
    _order = sorted(
        range(len(_values)),
        key=lambda i: (isinstance(_values[i], str), _values[i] or 0),
    )
    ordered = experiments.iloc[_order]
    _rates = [bracketed(row, "success_rate", ".0%") for _, row in ordered.iterrows()]
    show(ordered[["name", *differing]].assign(**{"success rate": _rates}))
    return (ordered,)


@app.cell
def _(one, ordered, parameter, styles):
    _columns = ["success_rate", "success_rate_low", "success_rate_high"]

    @styled
    def _draw() -> bytes:
        values = ordered[parameter.value].tolist()
        labels = [f"{v:g}" if isinstance(v, float) else str(v) for v in values]
        levels = list(dict.fromkeys(labels))
        # What has the same value stands side by side.
        x = np.concatenate(
            [i + dodge(labels.count(level), 0.2) for i, level in enumerate(levels)]
        )
        rate, low, high = ordered[_columns].to_numpy(float).T
        figure = Figure(figsize=(WIDTH, 3.6))
        axes = figure.subplots()
        colour = styles.colour(one.value)
        axes.errorbar(x, rate, (rate - low, high - rate), fmt="o", color=colour)
        for place, height, name in zip(x, rate, ordered["name"], strict=True):
            axes.annotate(name, (place, height), (7, 4), textcoords="offset points")
        axes.set_xticks(range(len(levels)), levels)
        axes.set(title=f"Success rate of {one.value}", xlabel=parameter.value)
        axes.set_ylim(0, 1.02)
        axes.margins(x=0.15)
        axes.yaxis.set_major_formatter(PercentFormatter(1))
        return png(figure, note="Lines: 95 % intervals (Wilson)")

    show(
        _draw(),
        "Experiments may differ in more than this parameter: the table has all. Each "
        "interval is about one trained agent. Whether two experiments differ by more "
        "than chance says `python stages/compare.py --rev NAME --rev OTHER`.",
    )
    return


if __name__ == "__main__":
    app.run()
