"""Memory of a process that does nothing else."""

import re
import resource
import subprocess
import sys
from pathlib import Path

STATUS = Path("/proc/self/status")


def peak_megabytes() -> float:
    """Return the most memory that this process has had so far."""
    # On Linux the usual figure begins with that of the process that started this one.
    if STATUS.is_file():
        (line,) = re.findall(r"^VmHWM:\s*(\d+) kB$", STATUS.read_text(), re.MULTILINE)
        return int(line) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def measured_by(module: str, *arguments: str) -> float:
    """Run a module in a process of its own and return the number that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(process.stdout)
