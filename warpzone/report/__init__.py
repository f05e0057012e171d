"""Episode tables and recordings to figures and films."""
