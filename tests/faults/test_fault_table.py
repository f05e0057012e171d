"""The table of faults is true: every test that it names exists."""

import re
from pathlib import Path

HERE = Path(__file__).parent
ROWS = re.findall(
    r"^\| (\d+) \| .* \| `([^`]+)::([^`]+)` \|$",
    (HERE / "README.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


def test_there_are_48_faults_at_least_and_they_are_numbered() -> None:
    assert len(ROWS) >= 48
    assert [int(number) for number, _, _ in ROWS] == list(range(1, len(ROWS) + 1))


def test_every_fault_has_its_test() -> None:
    for _, file, name in ROWS:
        text = (HERE / file).read_text(encoding="utf-8")
        assert f"def {name}(" in text, f"{file}::{name}"
