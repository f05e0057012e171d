from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from warpzone.episodes.recording import Recording
from warpzone.report.figures import (
    actions_figure,
    agents_figure,
    conditions_figure,
    confusion_figure,
    deaths_figure,
    has_terms,
    learning_figure,
    noise_figure,
    survival_figure,
    training_figure,
)

LIGHT_GREY, DARK_GREY, ORANGE, BLUE, GREEN = (
    (163, 163, 163),
    (110, 110, 110),
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
)
SKY_BLUE, VERMILLION = (86, 180, 233), (213, 94, 0)
LABEL = "distance (pixels)"
FAILURES = ("pit", "enemy", "clock")

type Key = tuple[str, str]


def keys(*agents: str) -> list[Key]:
    return [("1-1", agent) for agent in agents]


def table(cause: str, progress: list[int]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "cause": cause,
            "success": cause == "clear",
            "progress": progress,
            "place": pd.Series(progress if cause in FAILURES else None, dtype="Int64"),
        },
        index=range(len(progress)),
    )


def metrics(rate: float, low: float, high: float) -> dict[str, float]:
    return {
        "episodes": 50,
        "distinct_episodes": 50,
        "success_rate": rate,
        "success_rate_low": low,
        "success_rate_high": high,
        "progress_mean": 900,
        "progress_mean_low": 800,
        "progress_mean_high": 1000,
    }


def curve(progress: Sequence[float], success_rate: Sequence[float]) -> pd.DataFrame:
    """Evaluated in every second row, from the first one on."""
    steps = np.arange(2 * len(progress) - 1) * 4096.0
    rows = pd.DataFrame({"agent_steps": steps, "eval_progress": np.nan})
    rows["eval_success_rate"] = np.nan
    rows.loc[::2, "eval_progress"] = progress
    rows.loc[::2, "eval_success_rate"] = success_rate
    return rows


def pixels(png: bytes, colour: tuple[int, ...]) -> np.ndarray:
    """Where a picture has exactly this colour, shape ``(height, width)``, bool."""
    picture = matplotlib.image.imread(BytesIO(png))
    return np.all(np.round(255 * picture[..., :3]) == colour, axis=-1)


def height(png: bytes) -> int:
    return len(matplotlib.image.imread(BytesIO(png)))


def shows(png: bytes, colour: tuple[int, ...]) -> bool:
    """Whether a picture has a line of this colour, not only the edge of a letter."""
    return bool(pixels(png, colour).sum() > 300)


@cache
def survival(*agents: str) -> bytes:
    # All different, or one would hide another.
    tables = {
        key: table("pit", [100 + 90 * place, 900 - 50 * place])
        for place, key in enumerate(keys(*agents))
    }
    return survival_figure(tables, LABEL)


CONDITIONS = {
    "default": {"no_op_max": 30, "sticky_probability": 0.25, "sticky_unit": "frame"},
    "sticky-0": {"no_op_max": 30, "sticky_probability": 0.0, "sticky_unit": "frame"},
    "no-op-0": {"no_op_max": 0, "sticky_probability": 0.25, "sticky_unit": "frame"},
    "none": {"no_op_max": 0, "sticky_probability": 0.0, "sticky_unit": "frame"},
}


def noise(rates: Mapping[Key, float]) -> bytes:
    of_agents = {key: metrics(r, r - 0.05, r + 0.05) for key, r in rates.items()}
    return noise_figure(dict.fromkeys(CONDITIONS, of_agents), CONDITIONS)


def recording(decisions: Sequence[tuple[int, int]]) -> Recording:
    """An episode of CartPole, which nobody replays here."""
    return Recording.model_construct(
        env="cartpole", decisions=list(decisions), frame_skip=1, no_ops=0
    )


RANDOM, CLONE = keys("random", "bc")
TABLES = {RANDOM: table("pit", [10, 20]), CLONE: table("clear", [90])}
RATES = {RANDOM: metrics(0, 0, 0.1), CLONE: metrics(0.5, 0.4, 0.6)}
PICTURES: list[tuple[Callable[..., bytes], Mapping[Key, Any]]] = [
    (lambda content, **theme: agents_figure(content, LABEL, **theme), RATES),
    (lambda content, **theme: survival_figure(content, LABEL, **theme), TABLES),
    (
        lambda content, **theme: deaths_figure(content, FAILURES, LABEL, **theme),
        TABLES,
    ),
    (
        lambda content, **theme: learning_figure(
            content, list(content), LABEL, frame_skip=4, **theme
        ),
        {RANDOM: curve([10, 20], [0, 0]), CLONE: curve([300, 900], [0.2, 0.5])},
    ),
    (
        lambda content, **theme: noise_figure(
            dict.fromkeys(CONDITIONS, content), CONDITIONS, **theme
        ),
        RATES,
    ),
    (
        lambda content, **theme: conditions_figure(
            dict.fromkeys(CONDITIONS, content), **theme
        ),
        RATES,
    ),
    (
        actions_figure,
        {RANDOM: [recording([(0, 5), (1, 5)])], CLONE: [recording([(1, 9)])]},
    ),
]


@cache
def drawn(picture: int) -> bytes:
    draw, content = PICTURES[picture]
    return draw(content)


@pytest.mark.parametrize("picture", range(len(PICTURES)))
def test_a_picture_is_light_or_dark(picture: int) -> None:
    draw, content = PICTURES[picture]
    corners = [
        np.round(255 * matplotlib.image.imread(BytesIO(png))[0, 0, :3]).tolist()
        for png in (drawn(picture), draw(content, theme="dark"))
    ]
    assert corners == [[255, 255, 255], [13, 17, 23]]
    with pytest.raises(ValueError, match="no theme 'blue': there are light, dark"):
        draw(content, theme="blue")


@pytest.mark.parametrize("picture", range(len(PICTURES)))
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_an_agent_has_the_same_colour_in_every_picture(
    picture: int, theme: str
) -> None:
    draw, content = PICTURES[picture]
    png = draw(content, theme=theme)
    assert shows(png, LIGHT_GREY)
    assert shows(png, ORANGE)
    assert not shows(png, DARK_GREY)
    assert not shows(png, GREEN)


@pytest.mark.parametrize("picture", range(len(PICTURES)))
def test_a_picture_depends_on_its_content_only(
    picture: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, (draw, content) = drawn(picture), PICTURES[picture]
    monkeypatch.setitem(mpl.rcParams, "font.size", 25)
    monkeypatch.setitem(mpl.rcParams, "savefig.dpi", 30)
    assert draw(content) == first
    assert b"Software" not in first
    assert b"Date" not in first
    assert draw(dict(reversed(list(content.items())))) != first


def test_a_wider_interval_is_drawn_wider() -> None:
    first = {RANDOM: metrics(0.5, 0.5, 0.5)}
    narrow = agents_figure(first | {CLONE: metrics(0.5, 0.4, 0.6)}, LABEL)
    wide = agents_figure(first | {CLONE: metrics(0.5, 0.1, 0.9)}, LABEL)
    # The line is the marker's orange at 60 % over white.
    line = tuple(round(0.6 * channel + 0.4 * 255) for channel in ORANGE)

    def length(png: bytes) -> int:
        marked = pixels(png, line).any(axis=0)
        columns = np.flatnonzero(marked[: len(marked) * 55 // 100])
        return int(columns.max() - columns.min())

    assert length(wide) == pytest.approx(4 * length(narrow), rel=0.05)


def test_who_learned_nothing_is_grey_and_others_have_colours_by_their_order() -> None:
    png = survival("random", "script", "bc", "bc-ppo-1")
    assert all(shows(png, c) for c in (LIGHT_GREY, DARK_GREY, ORANGE, BLUE))
    assert not shows(png, GREEN)
    png = survival("a", "random", "c-9")
    assert all(shows(png, colour) for colour in (LIGHT_GREY, ORANGE, BLUE))
    assert not shows(png, DARK_GREY)


def test_agents_of_a_recipe_share_a_colour_and_differ_by_style() -> None:
    seeds, one = survival("random", "p-1", "p-5"), survival("random", "p-1")
    solid = survival("random", "bc", "p-5")
    assert not shows(seeds, BLUE)
    # The same curve in all: dashed as the second of its recipe, whatever its number.
    dashes = pixels(seeds, ORANGE).sum() - pixels(one, ORANGE).sum()
    assert 0.2 < dashes / pixels(solid, BLUE).sum() < 0.9


def test_the_curves_of_trained_agents_have_their_colours_of_all_figures() -> None:
    agents = keys("random", "bc", "bc-ppo-1", "ppo-1")
    curves = {agents[2]: curve([300, 900], [0.2, 0.5])}
    png = learning_figure(curves, agents, LABEL)
    assert shows(png, BLUE)
    assert not any(shows(png, colour) for colour in (LIGHT_GREY, ORANGE, GREEN))


def test_a_learning_curve_begins_at_what_the_policy_starts_from() -> None:
    """Rows without an evaluation draw nothing, above all no zero."""
    curves = {CLONE: curve([3000, 3000], [0.9, 0.9])}
    png = learning_figure(curves, [RANDOM, CLONE], LABEL)
    # Above the legend, which has the colour, too.
    rows = np.flatnonzero(pixels(png, ORANGE)[:-100].any(axis=1))
    assert 0 < rows.min() < rows.max() < 0.25 * height(png)


def test_an_agent_that_never_got_anywhere_can_be_drawn() -> None:
    curves = {CLONE: curve([0, 0], [0, 0])}
    assert shows(learning_figure(curves, [RANDOM, CLONE], LABEL), ORANGE)


def paid(**columns: Sequence[float]) -> pd.DataFrame:
    return pd.DataFrame({"agent_steps": [0.0, 4096.0, 8192.0], **columns})


SHADE = (228, 228, 228)


def test_what_each_term_paid_has_a_line() -> None:
    curves = {
        RANDOM: paid(reward_progress=[np.nan, 10, 12]),
        CLONE: paid(reward_progress=[np.nan, 5, 6], reward_death=[np.nan, -1, -2]),
    }
    png = training_figure(curves)
    # Progress and death; no line of a third term.
    assert shows(png, ORANGE)
    assert shows(png, BLUE)
    assert not shows(png, GREEN)
    assert training_figure(curves) == png
    assert training_figure(curves, theme="dark") != png


def test_stages_of_a_curriculum_are_a_shade_behind_the_lines() -> None:
    without = {RANDOM: paid(reward_progress=[np.nan, 10, 12])}
    stages = {RANDOM: without[RANDOM].assign(curriculum_stage=[0, 1, 3])}
    grey = [pixels(training_figure(one), SHADE).sum() for one in (without, stages)]
    # The grid is grey, too.
    assert grey[1] > 3 * grey[0]
    assert shows(training_figure(stages), ORANGE)


def test_a_world_without_terms_and_stages_has_nothing_to_draw() -> None:
    assert not has_terms(paid())
    assert has_terms(paid(reward_progress=[1, 2, 3]))
    assert has_terms(paid(**{"curriculum_stage_1-1": [0, 0, 1]}))


def test_equal_agents_do_not_hide_each_other_under_noise() -> None:
    png = noise(dict.fromkeys(keys("random", "bc", "bc-ppo-1"), 0.5))
    # Above the legend.
    left = [
        pixels(png, colour)[:-100].any(axis=0).nonzero()[0].min()
        for colour in (ORANGE, BLUE)
    ]
    assert left[1] - left[0] >= 5


def test_noise_is_drawn_beside_what_sticks_for_as_long() -> None:
    rates = {RANDOM: metrics(0, 0, 0.1), CLONE: metrics(0.5, 0.4, 0.6)}
    other = CONDITIONS["no-op-0"] | {"sticky_unit": "decision", "no_op_max": 10}
    conditions = CONDITIONS | {"other": other}
    png = noise_figure(dict.fromkeys(conditions, rates), conditions)
    assert png == noise_figure(dict.fromkeys(CONDITIONS, rates), CONDITIONS)


def test_noise_that_varies_nothing_is_a_point() -> None:
    conditions = {"default": CONDITIONS["default"], "none": CONDITIONS["none"]}
    rates = {RANDOM: metrics(0, 0, 0.1), CLONE: metrics(0.5, 0.4, 0.6)}
    summaries = {"default": rates, "none": rates}
    assert shows(noise_figure(summaries, conditions), ORANGE)


@pytest.mark.parametrize("picture", range(len(PICTURES)))
def test_each_task_has_room_of_its_own(picture: int) -> None:
    draw, content = PICTURES[picture]
    other = {("1-2", agent): value for (_, agent), value in content.items()}
    assert height(draw({**content, **other})) > 1.3 * height(drawn(picture))


def test_tasks_do_not_change_the_colours() -> None:
    tables = {
        (task, agent): TABLES["1-1", agent] for task in "ab" for _, agent in TABLES
    }
    png = survival_figure(tables, LABEL)
    assert shows(png, ORANGE)
    assert not shows(png, BLUE)


def test_failures_stand_where_they_happened_in_the_colour_of_their_cause() -> None:
    early = table("enemy", [100] * 9)
    late = table("pit", [3000] * 9)
    tables = {RANDOM: pd.concat([early, late], ignore_index=True)}
    png = deaths_figure(tables, FAILURES, LABEL)
    # Above the legend, which has both colours too.
    enemy = pixels(png, VERMILLION)[:-100].any(axis=0).nonzero()[0]
    pit = pixels(png, SKY_BLUE)[:-100].any(axis=0).nonzero()[0]
    width = pixels(png, SKY_BLUE).shape[1]
    assert enemy.max() < 0.2 * width
    assert pit.min() > 0.8 * width


def test_failures_without_a_place_stand_where_the_progress_ended() -> None:
    poles = table("fell", [400] * 9)
    poles["place"] = pd.Series([None] * 9, dtype="Int64")
    poles.loc[9] = ["balanced", True, 500, None]
    png = deaths_figure({RANDOM: poles}, ("fell", "left"), "time (agent steps)")
    fell = pixels(png, SKY_BLUE)[:-100].any(axis=0).nonzero()[0]
    width = pixels(png, SKY_BLUE).shape[1]
    assert 0.7 * width < fell.min() < fell.max() < 0.85 * width


def test_an_agent_that_never_fails_has_no_bar() -> None:
    png = deaths_figure({CLONE: table("clear", [3161] * 9)}, FAILURES, LABEL)
    assert not pixels(png, VERMILLION)[:-100].any()


def test_equal_agents_do_not_hide_each_other_under_any_condition() -> None:
    rates = dict.fromkeys(keys("random", "bc", "bc-ppo-1"), metrics(0.5, 0.4, 0.6))
    png = conditions_figure(dict.fromkeys(CONDITIONS, rates))
    counts = [pixels(png, colour)[:-100].sum() for colour in (ORANGE, BLUE)]
    assert counts[0] == pytest.approx(counts[1], rel=0.05)


def test_equal_profiles_show_beside_each_other() -> None:
    tables = dict.fromkeys(keys("a", "b"), table("pit", [100, 900]))
    png = survival_figure(tables, LABEL)
    assert shows(png, ORANGE)
    assert shows(png, BLUE)


def test_a_condition_that_changes_something_else_is_not_a_point_of_the_curves() -> None:
    rates = dict.fromkeys(CONDITIONS, RATES)
    held = noise_figure(rates, CONDITIONS)
    drawn_from = CONDITIONS["default"] | {"temperature": 1.0}
    other = {RANDOM: metrics(1, 1, 1), CLONE: metrics(1, 1, 1)}
    conditions = {name: c | {"temperature": None} for name, c in CONDITIONS.items()}
    more = {**conditions, "sampled": drawn_from}
    assert noise_figure({**rates, "sampled": other}, more) == held


def test_seeds_of_a_recipe_have_a_mean_only_where_all_were_evaluated() -> None:
    seeds = keys("p-1", "p-2")
    curves = {
        seeds[0]: curve([0, 1000, 3000], [0, 0.2, 0.9]),
        seeds[1]: curve([0, 2000], [0, 0.4]),
    }
    png = learning_figure(curves, seeds, LABEL)
    # Thin lines are translucent; the mean is not, and ends at two thirds.
    solid = pixels(png, ORANGE)[:-100, : pixels(png, ORANGE).shape[1] // 2]
    columns = solid.any(axis=0).nonzero()[0]
    assert 0.25 < columns.max() / solid.shape[1] < 0.75
    one = learning_figure({seeds[0]: curves[seeds[0]]}, seeds, LABEL)
    reach = pixels(one, ORANGE)[:-100, : solid.shape[1]].any(axis=0).nonzero()[0]
    assert reach.max() > 1.3 * columns.max()


def test_an_agent_without_recordings_is_named() -> None:
    with pytest.raises(ValueError, match="bc has no recording of 1-1"):
        actions_figure({CLONE: []})


def test_bars_are_as_long_as_the_share_of_the_decisions() -> None:
    content = {RANDOM: [recording([(0, 3), (1, 1)])], CLONE: [recording([(0, 4)])]}
    png = actions_figure(content)

    def length(colour: tuple[int, ...]) -> int:
        return int(pixels(png, colour)[:-100].sum(axis=1).max())

    assert length(LIGHT_GREY) == pytest.approx(0.75 * length(ORANGE), rel=0.03)


def test_confusion_is_darkest_where_the_clone_always_agrees() -> None:
    pairs = [("A", "A")] * 9 + [("B", "A")] * 2 + [("B", "B")] * 2
    table = pd.DataFrame(pairs, columns=["actual", "predicted"])
    assert pixels(confusion_figure({"1-1": table}), BLUE).sum() > 10_000
    light, dark = (confusion_figure({"1-1": table}, theme=t) for t in ("light", "dark"))
    assert light != dark
    with pytest.raises(ValueError, match="the confusion of 1-1 has no rows"):
        confusion_figure({"1-1": table.head(0)})
