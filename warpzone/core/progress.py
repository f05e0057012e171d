"""Progress bars: a bar on a terminal, plain lines elsewhere."""

import sys
from typing import Any

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0
_SHARE_BEFORE_ESTIMATE = 0.1
"""Of the work. Before, an estimate of the time left says nothing."""
_BAR = "{l_bar}{bar}| {n_fmt} of {total_fmt}{unit}s, {elapsed} so far"
_LINE = "{desc}: {n_fmt} of {total_fmt}{unit}s"


def progress_bar(total: int, description: str, unit: str, before: int = 0) -> tqdm:
    """Return a bar, to be used in a ``with`` statement and moved by its ``update``.

    Args:
        total: Units of work in all.
        description: What is being done.
        unit: Name of one unit of work, for example ``episode``.
        before: Units that were done before and say nothing of the rate.
    """
    how: dict[str, Any] = {"dynamic_ncols": True, "bar_format": _BAR}
    if not sys.stderr.isatty():
        seconds = _SECONDS_BETWEEN_LINES
        how = {"mininterval": seconds, "maxinterval": seconds, "miniters": 0}
        how |= {"file": _Lines(), "bar_format": _LINE}
    # Episodes end in clumps: the mean over all of them is the best rate.
    how |= {"total": total, "initial": before, "smoothing": 0}
    return _Bar(desc=description, unit=f" {unit}", **how)


class _Bar(tqdm):
    """Estimates how long it takes once it can."""

    @property
    def format_dict(self) -> dict[str, Any]:
        found = dict(super().format_dict)
        done, all_ = (found[name] - self.initial for name in ("n", "total"))
        if all_ > done >= all_ * _SHARE_BEFORE_ESTIMATE:
            found["bar_format"] += ", {remaining} left"
        return found


class _Lines:
    """Standard error, with each state of the bar on a line of its own."""

    def write(self, text: str) -> None:
        if state := text.strip("\r\n "):
            sys.stderr.write(f"{state}\n")

    def flush(self) -> None:
        sys.stderr.flush()
