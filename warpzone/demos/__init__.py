"""Demonstrations: logs of buttons, their replay check, and the planner."""
