from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import Any

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from warpzone.report.figures import (
    agents_figure,
    deaths_figure,
    learning_figure,
    noise_figure,
    survival_figure,
)

GREY, ORANGE, BLUE, GREEN, VERMILLION = (
    (140, 140, 140),
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (213, 94, 0),
)
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
    "default": {"no_op_max": 30, "sticky_probability": 0.25, "sticky_per": "frame"},
    "sticky-0": {"no_op_max": 30, "sticky_probability": 0.0, "sticky_per": "frame"},
    "no-op-0": {"no_op_max": 0, "sticky_probability": 0.25, "sticky_per": "frame"},
    "none": {"no_op_max": 0, "sticky_probability": 0.0, "sticky_per": "frame"},
}


def noise(rates: Mapping[Key, float]) -> bytes:
    of_agents = {key: metrics(r, r - 0.05, r + 0.05) for key, r in rates.items()}
    return noise_figure(dict.fromkeys(CONDITIONS, of_agents), CONDITIONS)


RANDOM, CLONE = keys("random", "bc")
TABLES = {RANDOM: table("pit", [10, 20]), CLONE: table("clear", [90])}
PICTURES: list[tuple[Callable[[Any], bytes], Mapping[Key, Any]]] = [
    (
        lambda content: agents_figure(content, LABEL),
        {RANDOM: metrics(0, 0, 0.1), CLONE: metrics(0.5, 0.4, 0.6)},
    ),
    (lambda content: survival_figure(content, LABEL), TABLES),
    (lambda content: deaths_figure(content, FAILURES, LABEL), TABLES),
    (
        lambda content: learning_figure(content, list(content), LABEL),
        {RANDOM: curve([10, 20], [0, 0]), CLONE: curve([300, 900], [0.2, 0.5])},
    ),
    (noise, {RANDOM: 0.1, CLONE: 0.5}),
]


@cache
def drawn(picture: int) -> bytes:
    draw, content = PICTURES[picture]
    return draw(content)


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


def test_colours_come_in_the_order_of_the_agents_whatever_they_are_called() -> None:
    for png in (survival("random", "bc", "bc-ppo-1"), survival("a", "random", "c-9")):
        assert all(shows(png, colour) for colour in (GREY, ORANGE, BLUE))
        assert not shows(png, GREEN)


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
    assert not any(shows(png, colour) for colour in (GREY, ORANGE, GREEN))


def test_a_learning_curve_begins_at_what_the_policy_starts_from() -> None:
    """Rows without an evaluation draw nothing, above all no zero."""
    curves = {CLONE: curve([3000, 3000], [0.9, 0.9])}
    png = learning_figure(curves, [RANDOM, CLONE], LABEL)
    # Above the legend, which has the colour, too.
    rows = np.flatnonzero(pixels(png, ORANGE)[:-80].any(axis=1))
    assert 0 < rows.min() < rows.max() < 0.25 * height(png)


def test_an_agent_that_never_got_anywhere_can_be_drawn() -> None:
    curves = {CLONE: curve([0, 0], [0, 0])}
    assert shows(learning_figure(curves, [RANDOM, CLONE], LABEL), ORANGE)


def test_equal_agents_do_not_hide_each_other_under_noise() -> None:
    png = noise(dict.fromkeys(keys("random", "bc", "bc-ppo-1"), 0.5))
    # Above the legend.
    left = [
        pixels(png, colour)[:-80].any(axis=0).nonzero()[0].min()
        for colour in (ORANGE, BLUE)
    ]
    assert left[1] - left[0] >= 5


def test_noise_is_drawn_beside_what_sticks_for_as_long() -> None:
    rates = {RANDOM: metrics(0, 0, 0.1), CLONE: metrics(0.5, 0.4, 0.6)}
    other = CONDITIONS["no-op-0"] | {"sticky_per": "decision", "no_op_max": 10}
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
    enemy = pixels(png, VERMILLION)[:-80].any(axis=0).nonzero()[0]
    pit = pixels(png, BLUE)[:-80].any(axis=0).nonzero()[0]
    width = pixels(png, BLUE).shape[1]
    assert enemy.max() < 0.2 * width
    assert pit.min() > 0.8 * width


def test_failures_without_a_place_stand_where_the_progress_ended() -> None:
    poles = table("fell", [400] * 9)
    poles["place"] = pd.Series([None] * 9, dtype="Int64")
    poles.loc[9] = ["balanced", True, 500, None]
    png = deaths_figure({RANDOM: poles}, ("fell", "left"), "time (agent steps)")
    fell = pixels(png, BLUE)[:-80].any(axis=0).nonzero()[0]
    width = pixels(png, BLUE).shape[1]
    assert 0.7 * width < fell.min() < fell.max() < 0.85 * width


def test_an_agent_that_never_fails_has_no_bar() -> None:
    png = deaths_figure({CLONE: table("clear", [3161] * 9)}, FAILURES, LABEL)
    assert not pixels(png, VERMILLION)[:-80].any()
