"""Policies, the agents that play by them, and the folder that holds one."""
