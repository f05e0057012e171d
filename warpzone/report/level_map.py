"""A level as one picture, and where agents went, died and tried again on it.

`explore` replays recordings, which takes a while; `level_map` draws what it found, in
any theme.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from matplotlib.textpath import TextPath

from warpzone.core.errors import InputError
from warpzone.core.params import NoiseParams
from warpzone.envs.curriculum import STRETCH
from warpzone.envs.registry import env_class, make_env
from warpzone.envs.replayable import ReplayableEnv, View
from warpzone.envs.threads import Threads
from warpzone.episodes.recording import Recording, replay, replay_steps
from warpzone.episodes.table import places_of
from warpzone.report.look import (
    SMALL,
    WHOLE,
    WIDTH,
    Styles,
    colour_of_cause,
    colours_of,
    png,
    styled,
)

HUD = 32
"""Rows at the top of the screen that show score and clock and do not scroll."""
SAMPLE = 20
"""Episodes of an agent whose ways are drawn."""

_QUIET = NoiseParams(no_op_max=0, sticky_probability=0.0, sticky_unit="frame")
_STITCHED = 3
"""Recordings that the picture of the level is made of."""
_AREA = 8192
"""Columns of an area, at most."""
_CLEAR_OF_PLAYER = 24
"""How far a column must be from the middle of the player to show none of him."""
_STRIDE = 4
"""How far the screen scrolls between two pictures that count, in pixels."""
_LEAP = 48
"""No agent step moves the player more pixels than this: he has been put elsewhere."""
_GAP, _STRETCH = 24, 96
"""Failures by one cause that lie so near to the next, and not further from the first,
are one mark, in pixels."""

_VEILS = {"light": 0.45, "dark": 0.6}
_FADES = {"light": 0.0, "dark": 0.4}
"""How much of the level's picture, and of its colour, is taken away, so that what is
drawn on it is seen."""
_MARKERS = "vXsD"
_STOPPED = "o"
# In inches.
_MARGIN, _TITLE, _SCALE, _LEGEND = 0.08, 0.2, 0.42, 0.36
_BAND, _LINE = 0.24, 0.2
"""What shows second tries below a strip; a further line of the legend."""
_ENTRY, _COLUMNS = 0.74, 4
"""What an entry of the legend takes beside its text; how many are in each of its lines
if they do not fit into one."""


class Strip(NamedTuple):
    """The episodes of an agent."""

    table: pd.DataFrame
    """An episode table."""
    recordings: Sequence[Recording]
    """One a row of the table, in its order."""


class Mark(NamedTuple):
    """Episodes that ended by one cause and in one place."""

    cause: str
    x: float
    """In the first area, in pixels: the mean of what the table says."""
    y: float
    """On the screen, in pixels from the top: that of one of the episodes."""
    episodes: int


class Ways(NamedTuple):
    """What an agent did on a level."""

    paths: list[np.ndarray]
    """Where it went in the first area, shape ``(T, 2)``, pixels; see `Mark`."""
    marks: list[Mark]
    causes: dict[str, int]
    """How often each cause ended an episode."""


class Explored(NamedTuple):
    """A level and what agents did on it."""

    picture: np.ndarray
    """See `stitch`."""
    ways: dict[str, Ways]
    """By the agent's name."""
    world: type[ReplayableEnv]


def explore(
    level: str, strips: Mapping[str, Strip], sample: int = SAMPLE
) -> Explored | None:
    """Replay episodes of agents on a level.

    Args:
        level: Whose episodes count.
        strips: By the agent's name, or by whatever the map shall call it.
        sample: Episodes of each agent whose ways are returned, evenly spread over the
            table. Marks are those of all its episodes.

    Returns:
        None where the screen shows the whole world.

    Raises:
        ValueError: If there is no episode, or recordings are not those of the table.
        InputError: If a recording does not replay.
    """
    if sample < 1 or not strips:
        raise ValueError(f"a map needs episodes, got {sample} of {len(strips)} agents")
    kept = {name: _on_level(level, name, strip) for name, strip in strips.items()}
    first = next(iter(kept.values())).recordings[0]
    with closing(first.make_env({})) as env:
        env.begin(0)
        if env.view is None:
            return None
    progress = [
        (progress, recording)
        for strip in kept.values()
        for progress, recording in zip(
            strip.table["progress"], strip.recordings, strict=True
        )
        # Another emulator has other colours.
        if recording.version == first.version
    ]
    furthest = sorted(progress, key=lambda pair: -pair[0])[:_STITCHED]
    world, names = env_class(first.env), list(kept)
    ways: dict[str, Ways] = {}

    def explore_one(index: int) -> None:
        ways[names[index]] = _ways(kept[names[index]], world, sample)

    with closing(Threads()) as threads:
        threads.run(explore_one, range(len(names)))
    picture = stitch([recording for _, recording in furthest])
    return Explored(picture, {name: ways[name] for name in names}, world)


def stitch(recordings: Sequence[Recording]) -> np.ndarray:
    """Return what a level's first area looks like without player and enemies.

    Each pixel has the colour that it has in most pictures that show its column away
    from the player. What moves is in no place for long.

    Args:
        recordings: Of one emulator.

    Returns:
        Shape ``(rows below the HUD, columns, 4)``, uint8, RGBA: transparent where no
        picture shows it.
    """
    votes: dict[int, np.ndarray] = {}
    for recording in recordings:
        _count_colours(recording, votes)
    colours = np.array(sorted(votes), np.uint32)
    width = 1 + max(int(v.any(axis=0).nonzero()[0].max()) for v in votes.values())
    counts = np.stack([votes[int(colour)][:, :width] for colour in colours])
    packed = colours[counts.argmax(axis=0)]
    channels = [packed >> 16, packed >> 8 & 255, packed & 255]
    return np.dstack([*channels, 255 * counts.any(axis=0)]).astype(np.uint8)


@styled
def level_map(
    explored: Explored,
    agents: Iterable[str] = (),
    second_tries: Mapping[str, pd.DataFrame] | None = None,
    *,
    rows: int = 2,
    theme: str = "light",
) -> bytes:
    """Draw the level, a strip an agent, with its ways and where it failed.

    Below a strip are bars where the agent's second tries in training began, all to one
    scale.

    Args:
        explored: See `explore`.
        agents: All that other figures show, so that colours agree with theirs.
        second_tries: By the agent's name, those on the level: ``progress``, where a
            `STRETCH` begins, and ``second_tries``, how many began in it. Who had none
            may be absent.
        rows: Parts that the level is cut into.
        theme: ``light`` or ``dark``.
    """
    names = list(explored.ways)
    styles = Styles(("", name) for name in (*agents, *names))
    picture = _veiled(explored.picture, theme)
    height, width, _ = picture.shape
    # Whole blocks.
    columns = -(-width // (16 * rows)) * 16
    strip = (WIDTH - 2 * _MARGIN) * height / columns
    tries = {n: t for n, t in (second_tries or {}).items() if n in names and len(t)}
    most = max((t["second_tries"].to_numpy().max() for t in tries.values()), default=0)
    handles = _legend(explored, bool(tries), colours_of(theme)["text"])
    wide = sum(_points(str(h.get_label())) / 72 + _ENTRY for h in handles)
    entries = len(handles) if wide <= WIDTH else _COLUMNS
    lines = -(-len(handles) // entries)
    total = rows * (len(names) * (_TITLE + strip) + len(tries) * _BAND + _SCALE)
    total += _LEGEND + (lines - 1) * _LINE
    figure = Figure(figsize=(WIDTH, total))
    figure.set_layout_engine("none")
    top = total

    def add_axes(row: int, high: float) -> Axes:
        across = (WIDTH - 2 * _MARGIN) / WIDTH
        axes = figure.add_axes((_MARGIN / WIDTH, top / total, across, high / total))
        axes.set_xlim(row * columns, (row + 1) * columns)
        axes.set_yticks([])
        axes.grid(visible=False)
        axes.tick_params(labelbottom=False, bottom=False)
        axes.spines["bottom"].set_visible(False)
        return axes

    for row in range(rows):
        for name in names:
            top -= _TITLE + strip
            axes = add_axes(row, strip)
            extent = (0, width, HUD + height, HUD)
            axes.imshow(picture, extent=extent, aspect="auto", interpolation="nearest")
            colour = styles.colour(name)
            _draw_ways(axes, explored, name, colour, colours_of(theme))
            # `imshow` shows all of it.
            axes.set_xlim(row * columns, (row + 1) * columns)
            axes.set_ylim(HUD + height, HUD)
            _entitle(axes, explored, name, colour, tries.get(name), is_first=row == 0)
            if name in tries:
                top -= _BAND
                axes = add_axes(row, _BAND)
                _draw_second_tries(axes, tries[name], most, colour)
            if name == names[-1]:
                axes.tick_params(labelbottom=True, bottom=True)
                axes.xaxis.set_major_formatter(WHOLE)
                axes.set_xlabel(explored.world.PROGRESS, labelpad=1)
        top -= _SCALE
    figure.legend(
        handles=handles,
        loc="lower center",
        bbox_to_anchor=(0.5, 0.04 / total),
        ncols=entries,
    )
    return png(figure)


def _on_level(level: str, name: str, strip: Strip) -> Strip:
    """Return the episodes of a level."""
    table, recordings = strip
    seeds = [recording.seed for recording in recordings]
    if seeds != table["seed"].tolist():
        raise ValueError(
            f"{name}: the table has {len(table)} episodes, and the {len(seeds)} "
            "recordings are not theirs: evaluate it again"
        )
    rows = [row for row, its in enumerate(table["level"]) if its == level]
    if not rows:
        raise ValueError(f"{name}: has no episode on {level}")
    chosen = table.iloc[rows].reset_index(drop=True)
    return Strip(chosen, [recordings[row] for row in rows])


def _ways(strip: Strip, world: type[ReplayableEnv], sample: int) -> Ways:
    table, recordings = strip
    ends = list(zip(table["progress"], table["emulator_frames"], strict=True))
    # Consoles are slow to start.
    envs: dict[str, ReplayableEnv] = {}
    with ExitStack() as stack:

        def env_of(recording: Recording, is_usual: bool) -> ReplayableEnv:
            name = "usual" if is_usual else recording.version
            if name not in envs:
                env = (
                    make_env(recording.env, {}, recording.level, _QUIET, "state")
                    if is_usual
                    else recording.make_env({})
                )
                envs[name] = stack.enter_context(closing(env))
            return envs[name]

        def play(row: int) -> tuple[list[np.ndarray], np.ndarray | None]:
            recording = recordings[row]
            # The world's usual emulator may be faster than the one that recorded it.
            # Where it gets to the same end, the way is the same.
            try:
                return _play(recording, env_of(recording, is_usual=True), ends[row])
            except InputError:
                return _play(recording, env_of(recording, is_usual=False))

        return _ways_of(table, play, world, sample)


def _ways_of(
    table: pd.DataFrame,
    play: Callable[[int], tuple[list[np.ndarray], np.ndarray | None]],
    world: type[ReplayableEnv],
    sample: int,
) -> Ways:
    causes = table["cause"].tolist()
    places = places_of(table).tolist()
    count = min(sample, len(table))
    sampled = np.linspace(0, len(table) - 1, count).round().astype(int).tolist()
    played = {row: play(row) for row in sampled}
    ways = [path for row in sampled for path in played[row][0]]
    marks = []
    for cause in (*world.FAILURES, *_stopped_by(world, causes)):
        ended_so = [row for row, its in enumerate(causes) if its == cause]
        for rows in _groups(places, ended_so):
            row = next((row for row in rows if row in played), rows[0])
            if row not in played:
                played[row] = play(row)
            paths, end = played[row]
            if cause not in world.FAILURES:
                points = np.concatenate(paths)
                end = points[points[:, 0].argmax()]
            # Elsewhere than in the first area.
            if end is not None:
                x = float(np.mean([places[row] for row in rows]))
                marks.append(Mark(cause, x, float(end[1]), len(rows)))
    return Ways(ways, marks, dict(Counter(causes)))


def _stopped_by(world: type[ReplayableEnv], causes: Iterable[str]) -> list[str]:
    """Return what ended episodes, be they neither successes nor failures."""
    return sorted(set(causes) - {*world.SUCCESSES, *world.FAILURES})


def _groups(places: Sequence[float], rows: Iterable[int]) -> Iterator[list[int]]:
    """Yield those of some rows whose places are near to each other."""
    group: list[int] = []
    for row in sorted(rows, key=lambda row: (places[row], row)):
        if group and (
            places[row] - places[group[-1]] > _GAP
            or places[row] - places[group[0]] > _STRETCH
        ):
            yield group
            group = []
        group.append(row)
    if group:
        yield group


def _play(
    recording: Recording, env: ReplayableEnv, end: tuple[float, int] | None = None
) -> tuple[list[np.ndarray], np.ndarray | None]:
    """Replay an episode; return its paths in the first area, and its end if there.

    Another emulator than the one that recorded it has to get to the progress ``end``,
    in as many frames.
    """
    views: list[View | None] = []
    try:
        for _ in replay_steps(recording, env, _name(recording)):
            views.append(env.view)
    except InputError:
        if (env.progress, len(env.frame_actions)) != end:
            raise
    views.append(env.view)
    paths: list[list[tuple[int, int]]] = [[]]
    area = views[0].area if views[0] else None
    for view in views:
        if view is None or view.area != area:
            paths.append([])
            continue
        x, y = view.left + view.x, view.y
        if paths[-1] and abs(x - paths[-1][-1][0]) > _LEAP:
            paths.append([])
        paths[-1].append((x, y))
    last = paths[-1]
    # A byte counts the rows: who is above or below the screen comes in again.
    arrays = [np.array(path, float) for path in paths if path]
    for array in arrays:
        array[:, 1] = np.unwrap(array[:, 1], period=256)
    return arrays, arrays[-1][-1] if last else None


def _count_colours(recording: Recording, votes: dict[int, np.ndarray]) -> None:
    """Add a replay's pictures to the votes for each colour, ``(rows, columns)``."""
    with closing(recording.make_env({}, render_mode="rgb_array")) as env:
        area = last = None
        view: View | None = None
        for frame in replay(recording, env, _name(recording)):
            # A console draws the view of the frame before.
            drawn, view = view, env.view
            if frame == 0:
                area = view.area if view else None
            if drawn is None or view is None or not drawn.area == view.area == area:
                continue
            if last is not None and abs(drawn.left - last) < _STRIDE:
                continue
            last, screen = drawn.left, np.asarray(env.render(), np.uint32)
            packed = screen[HUD:] @ np.array([65536, 256, 1], np.uint32)
            starts = max(0, min(drawn.x, view.x) - _CLEAR_OF_PLAYER)
            ends = max(drawn.x, view.x) + _CLEAR_OF_PLAYER
            for shown in (slice(starts), slice(ends, None)):
                part = packed[:, shown]
                left = drawn.left + (shown.start or 0)
                for colour in np.unique(part):
                    shape = (len(packed), _AREA)
                    total = votes.setdefault(int(colour), np.zeros(shape, np.uint16))
                    total[:, left : left + part.shape[1]] += part == colour


def _name(recording: Recording) -> str:
    return f"{recording.env} {recording.level}, seed {recording.seed}"


def _veiled(picture: np.ndarray, theme: str) -> np.ndarray:
    """Return a picture with less contrast, shape ``(height, width, 3)``, in [0, 1]."""
    colours = picture[..., :3] / 255
    grey = colours.mean(axis=-1, keepdims=True)
    colours += _FADES[theme] * (grey - colours)
    shown = picture[..., 3:] / 255 * (1 - _VEILS[theme])
    return shown * colours + (1 - shown) * np.array(to_rgb(colours_of(theme)["back"]))


def _draw_ways(
    axes: Axes, explored: Explored, name: str, colour: str, theme: Mapping[str, str]
) -> None:
    ways = explored.ways[name]
    for path in ways.paths:
        axes.plot(*path.T, color=colour, linewidth=1.2, alpha=0.5)
    top, bottom = HUD + 8, HUD + len(explored.picture) - 8
    halo = [withStroke(linewidth=2.5, foreground=theme["back"])]
    for mark in ways.marks:
        place = mark.x, float(np.clip(mark.y, top, bottom))
        axes.plot(*place, **_mark_style(mark.cause, explored.world, theme["text"]))
        if mark.episodes > 1:
            # Who is stopped and who fails in one place have a number each; below a pit
            # there is no room.
            is_below = mark.cause in explored.world.FAILURES and place[1] < bottom
            axes.annotate(
                str(mark.episodes),
                place,
                (0, -6 if is_below else 6),
                textcoords="offset points",
                ha="center",
                va="top" if is_below else "bottom",
                fontsize=SMALL,
                weight="bold",
                path_effects=halo,
                clip_on=True,
                annotation_clip=True,
            )


def _draw_second_tries(axes: Axes, table: pd.DataFrame, most: int, colour: str) -> None:
    """Let bars hang from a strip; a lone second try is to be seen, too."""
    counts = table["second_tries"].clip(lower=most / 16)
    axes.bar(table["progress"], counts, STRETCH, align="edge", color=colour)
    axes.set_ylim(1.2 * most, 0)


def _mark_style(cause: str, world: type[ReplayableEnv], text: str) -> dict[str, Any]:
    style: dict[str, Any] = {"linestyle": "", "markersize": 8, "zorder": 3}
    style |= {"markeredgecolor": text, "markeredgewidth": 1}
    if cause not in world.FAILURES:
        return style | {"marker": _STOPPED, "markerfacecolor": "none"}
    place = world.FAILURES.index(cause)
    marker = _MARKERS[place % len(_MARKERS)]
    return style | {"marker": marker, "markerfacecolor": colour_of_cause(place)}


def _entitle(
    axes: Axes,
    explored: Explored,
    name: str,
    colour: str,
    tries: pd.DataFrame | None,
    is_first: bool,
) -> None:
    at: dict[str, Any] = {
        "textcoords": "offset points",
        "va": "bottom",
        "xycoords": "axes fraction",
    }
    axes.annotate(name, (0, 1), (0, 2), weight="bold", color=colour, **at)
    if not is_first:
        return
    causes = explored.ways[name].causes
    count, successes = sum(causes.values()), explored.world.SUCCESSES
    succeeded = sum(causes.get(cause, 0) for cause in successes)
    others = [
        f"{cause.replace('_', ' ')} {number}"
        for cause, number in sorted(causes.items(), key=lambda item: -item[1])
        if cause not in successes
    ]
    text = ", ".join([f"{succeeded} of {count} succeed", *others])
    if tries is not None:
        longer = f"{text}; {tries['second_tries'].sum():,} second tries"
        room = 72 * (WIDTH - 2 * _MARGIN) - _points(name, "bold") - _TITLE * 72
        text = longer if _points(longer) < room else text
    axes.annotate(text, (1, 1), (0, 2), ha="right", **at)


def _points(text: str, weight: str = "normal") -> float:
    """Return how wide a text is."""
    font = FontProperties(size=10, weight=weight)
    return TextPath((0, 0), text, prop=font).get_extents().width


def _legend(explored: Explored, has_tries: bool, text: str) -> list[Artist]:
    """Return what stands for what in the legend."""
    seen = {mark.cause for ways in explored.ways.values() for mark in ways.marks}
    failures = [cause for cause in explored.world.FAILURES if cause in seen]
    stopped = sorted(seen - set(failures))
    handles: list[Artist] = [
        Line2D(
            [],
            [],
            label=cause.replace("_", " "),
            **_mark_style(cause, explored.world, text),
        )  # pyright: ignore[reportArgumentType]
        for cause in (*failures, *stopped[:1])
    ]
    if stopped:
        handles[-1].set_label(" or ".join(stopped).replace("_", " "))
    handles.append(
        Line2D([], [], color=text, linewidth=1.2, label="the way of an episode")
    )
    if has_tries:
        handles.append(Patch(color=text, label="second tries in training"))
    return handles
