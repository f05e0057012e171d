"""Check all of params.yaml, before any other stage deletes or runs anything.

Reads params.yaml. Writes data/params_checked.txt, which never changes, so that the
stages behind this one run again for their own parameters only.
"""

from pathlib import Path

from warpzone.core.files import write_text
from warpzone.core.params import load_params
from warpzone.core.stage import argument_parser, run_stage

PARAMS = Path("params.yaml")
CHECKED = Path("data/params_checked.txt")


def main() -> None:
    """Fail on the first look at a bad value."""
    argument_parser(__doc__).parse_args()
    load_params(PARAMS)
    write_text(CHECKED, "params.yaml was checked.\n")


if __name__ == "__main__":
    run_stage(main)
