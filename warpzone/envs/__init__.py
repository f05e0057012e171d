"""Worlds: Gymnasium environments, many at once, with curricula and exact replay."""
