"""Warpzone: agents that play Super Mario Bros from pixels, reproducibly."""

import os

# Torch's threads spin while they wait for each other. On a machine that is busy with
# anything else that made a forward pass 30 times slower. It is read when torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
