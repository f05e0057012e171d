"""Worlds: Gymnasium environments, many at once, with curricula and exact replay.

Importing this registers them: ``gymnasium.make("warpzone/Mario-v0", level="1-2")``.
"""

from warpzone.envs.registry import register

register()
