"""Worlds: Gymnasium environments, many at once, with curricula and exact replay.

Importing this registers them: ``gymnasium.make("warpzone/Mario-v0", level="1-2")``. So
does an id with the module in it, ``gymnasium.make("warpzone.envs:warpzone/Mario-v0")``.
"""

from warpzone.envs.registry import register

register()
