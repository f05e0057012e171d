"""Memory of a process that does nothing else."""

import resource
import subprocess
import sys


def peak_megabytes() -> float:
    """Return the most memory that this process has had so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Kibibytes, but bytes on macOS.
    return peak / (1e6 if sys.platform == "darwin" else 1e6 / 1024)


def measured_by(module: str, *arguments: str) -> float:
    """Run a module in a process of its own and return the number that it prints."""
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(process.stdout)
