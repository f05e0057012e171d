"""Measurements with a baseline beside each."""

# Before torch is: it says how torch's threads wait.
import warpzone  # noqa: F401
