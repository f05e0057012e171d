"""Progress bars: with an ETA on a terminal, plain lines elsewhere."""

import sys

from tqdm import tqdm

_SECONDS_BETWEEN_LINES = 10.0


def progress_bar(total: int, description: str, unit: str) -> tqdm:
    """Return a bar, to be used in a ``with`` statement and moved by its ``update``.

    Args:
        total: Units of work in all.
        description: What is being done.
        unit: Name of one unit of work, for example ``episode``.
    """
    if sys.stderr.isatty():
        return tqdm(total=total, desc=description, unit=f" {unit}", dynamic_ncols=True)
    return tqdm(
        total=total,
        desc=description,
        unit=f" {unit}",
        mininterval=_SECONDS_BETWEEN_LINES,
        maxinterval=_SECONDS_BETWEEN_LINES,
        miniters=0,
        file=_Lines(),
        bar_format="{desc}: {n_fmt} of {total_fmt}{unit}s, {remaining} left",
    )


class _Lines:
    """Standard error, with each state of the bar on a line of its own."""

    def write(self, text: str) -> None:
        if state := text.strip("\r\n "):
            sys.stderr.write(f"{state}\n")

    def flush(self) -> None:
        sys.stderr.flush()
