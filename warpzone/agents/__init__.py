"""Agents: the network that plays, and the ways to train it."""
