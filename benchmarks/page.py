"""benchmarks/README.md, from what was measured."""

from collections.abc import Iterable, Mapping, Sequence
from textwrap import fill
from typing import Any

from benchmarks.measuring import Line, Metric, Result, Row

_ROW_HEADS = (
    "contestant",
    "baseline",
    "ratio",
    "target",
    "contestant's rate",
    "baseline's rate",
    "unit",
    "in words",
)
_WIDTH = 88

FIGURE = "stepping.png"
"""Beside the page."""
FIGURE_WORDS = (
    "Agent steps a second over threads and over environments: ThreadedVecEnv, the "
    "emulator alone, and stable-retro in SubprocVecEnv"
)
_METRIC_HEADS = ("what", "value", "unit", "target", "in words")


def page(
    results: Sequence[Result],
    setting: Mapping[str, Any],
    left_out: str,
    profile: str,
) -> str:
    """Return the page.

    Args:
        results: What was measured.
        setting: Where, with what and how much.
        left_out: Why something was not measured, a sentence; empty if nothing was.
        profile: Where the time goes, in Markdown.
    """
    versions = "; ".join(setting["versions"])
    made = f"""\
`make bench` writes this page and results.json. It took {setting["minutes"]:.1f} minutes
on {setting["threads"]} threads ({setting["machine"]}), with {versions}."""
    how_to_read = f"""\
Every contestant is measured beside its baseline: they take turns of about
{setting["turn_seconds"]:g} s, so that a busy machine slows both alike. The two rates
are medians of {setting["rounds"]} rounds, the ratio is the median of the ratios within
each round; in brackets are the lowest and the highest of the rounds. Compare by the
ratio: rates are this machine's. Higher is better, 1.00 is as fast as the baseline;
where that is a limit (an emulator alone, a bound), there is no faster. An agent step
lasts {setting["frame_skip"]} emulator frames, and agents see
{setting["frame_side"]}x{setting["frame_side"]} pixels; under Memory and Start-up
they see what params.yaml says."""
    lines = [_growth(result) for result in results if isinstance(result, Line)]
    how_costs_grow = f"""\
The slope is that of the straight line through the logarithms: a linear cost doubles
when the number doubles, a flat one stays as it is.

![{FIGURE_WORDS}]({FIGURE})

{"".join(lines)}"""
    sections = {
        "Stepping": [*_tables(results, "Stepping"), left_out and f"{left_out}\n"],
        **{
            topic: _tables(results, topic)
            for topic in ("Training", "Memory", "Start-up")
        },
        "How costs grow": [how_costs_grow if lines else ""],
        "Where the time goes": [f"{profile.strip()}\n"],
    }
    return "\n".join(
        [
            "# Benchmarks\n",
            f"{fill(made, _WIDTH)}\n",
            f"{fill(how_to_read, _WIDTH)}\n",
            *(
                "\n".join([f"## {heading}\n", *filter(None, parts)])
                for heading, parts in sections.items()
                if any(parts)
            ),
        ]
    )


def _tables(results: Sequence[Result], topic: str) -> list[str]:
    return [_rows(results, topic), _metrics(results, topic)]


def _rows(results: Sequence[Result], topic: str) -> str:
    return _table(
        _ROW_HEADS,
        (
            (
                row.contestant,
                row.baseline,
                f"**{row.ratio:.2f}** ({row.low:.2f} to {row.high:.2f})",
                "" if row.target is None else f"≥ {row.target:g}",
                _number(row.value),
                _number(row.baseline_value),
                row.unit,
                row.words,
            )
            for row in results
            if isinstance(row, Row) and row.topic == topic
        ),
    )


def _metrics(results: Sequence[Result], topic: str) -> str:
    return _table(
        _METRIC_HEADS,
        (
            (
                metric.name,
                _number(metric.value) + _spread(metric.values),
                metric.unit,
                "" if metric.target is None else f"≤ {metric.target:g}",
                metric.words,
            )
            for metric in results
            if isinstance(metric, Metric) and metric.topic == topic
        ),
    )


def _spread(values: Sequence[float]) -> str:
    if len(values) == 1:
        return ""
    return f" ({_number(min(values))} to {_number(max(values))})"


def _growth(line: Line) -> str:
    pairs = zip(line.sizes, line.values, strict=True)
    points = ", ".join(f"{size:,}: {_number(value)}" for size, value in pairs)
    return (
        f"- **{line.name}**, {line.unit} ({line.words}): {points}. Slope: "
        f"**{line.slope}**.\n"
    )


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; nothing if it has no rows."""
    body = list(rows)
    lines = [heads, ["---"] * len(heads), *body] if body else []
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _number(value: float) -> str:
    """Write three significant digits, or all that come before the point."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
