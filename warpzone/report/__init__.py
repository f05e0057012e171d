"""Episode tables and recordings to pictures."""
