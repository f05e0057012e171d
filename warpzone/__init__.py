"""Warpzone: agents that play Super Mario Bros from pixels, reproducibly."""
