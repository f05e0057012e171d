from io import BytesIO

import matplotlib as mpl
import matplotlib.image
import numpy as np
import pandas as pd
import pytest

from warpzone.report.figures import agents_figure, deaths_figure, distance_figure

GREY, ORANGE, BLUE, GREEN, VERMILLION = (
    (140, 140, 140),
    (230, 159, 0),
    (0, 114, 178),
    (0, 158, 115),
    (213, 94, 0),
)


def table(cause: str, x_pos_max: list[int]) -> pd.DataFrame:
    dies = cause in ("pit", "enemy", "clock")
    return pd.DataFrame(
        {
            "cause": cause,
            "cleared": cause == "clear",
            "x_pos_max": x_pos_max,
            "death_x": pd.Series(x_pos_max if dies else None, dtype="Int64"),
        },
        index=range(len(x_pos_max)),
    )


def metrics(clear_rate: float, low: float, high: float) -> dict[str, float]:
    distance = {"x_pos_max_mean": 900, "x_pos_max_mean_low": 800}
    return {
        "episodes": 50,
        "clear_rate": clear_rate,
        "clear_rate_low": low,
        "clear_rate_high": high,
        "x_pos_max_mean_high": 1000,
        **distance,
    }


def pixels(png: bytes, colour: tuple[int, ...]) -> np.ndarray:
    """Where a picture has exactly this colour, shape ``(height, width)``, bool."""
    picture = matplotlib.image.imread(BytesIO(png))
    return np.all(np.round(255 * picture[..., :3]) == colour, axis=-1)


PICTURES = [
    (agents_figure, {"random": metrics(0, 0, 0.1), "bc-seed1": metrics(0.5, 0.4, 0.6)}),
    (distance_figure, {"random": table("pit", [10, 20]), "bc": table("clear", [90])}),
    (deaths_figure, {"random": table("pit", [10, 20]), "bc": table("clear", [90])}),
]


@pytest.mark.parametrize(("draw", "content"), PICTURES)
def test_a_picture_depends_on_its_content_only(
    draw, content, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = draw(content)
    monkeypatch.setitem(mpl.rcParams, "font.size", 25)
    monkeypatch.setitem(mpl.rcParams, "savefig.dpi", 30)
    assert draw(content) == first
    assert b"Software" not in first
    assert b"Date" not in first
    assert draw(dict(reversed(content.items()))) != first


def test_a_wider_interval_is_drawn_wider() -> None:
    narrow = agents_figure({"bc": metrics(0.5, 0.4, 0.6)})
    wide = agents_figure({"bc": metrics(0.5, 0.1, 0.9)})
    # The line is the marker's orange at 60 % over white.
    line = tuple(round(0.6 * channel + 0.4 * 255) for channel in ORANGE)

    def length(png: bytes) -> int:
        marked = pixels(png, line).any(axis=0)
        columns = np.flatnonzero(marked[: len(marked) * 55 // 100])
        return int(columns.max() - columns.min())

    assert length(wide) == pytest.approx(4 * length(narrow), rel=0.05)


def test_trained_agents_have_the_colour_of_their_start() -> None:
    both = distance_figure(
        {"bc-seed1": table("pit", [10, 90]), "bc-seed2": table("pit", [40, 70])}
    )
    assert pixels(both, BLUE).any()
    assert not pixels(both, GREEN).any()
    scratch = distance_figure({"scratch-seed1": table("pit", [10, 90])})
    assert pixels(scratch, GREEN).any()
    assert not pixels(scratch, BLUE).any()


def test_deaths_stand_where_they_happened_in_the_colour_of_their_cause() -> None:
    early = table("enemy", [100] * 9)
    late = table("pit", [3000] * 9)
    png = deaths_figure({"random": pd.concat([early, late])})
    # Below the legend, which has both colours too.
    enemy = pixels(png, VERMILLION)[120:].any(axis=0).nonzero()[0]
    pit = pixels(png, BLUE)[120:].any(axis=0).nonzero()[0]
    width = pixels(png, BLUE).shape[1]
    assert enemy.max() < 0.2 * width
    assert pit.min() > 0.8 * width


def test_an_agent_that_never_dies_has_no_bar() -> None:
    png = deaths_figure({"bc": table("clear", [3161] * 9)})
    assert not pixels(png, VERMILLION)[120:].any()
