"""Episodes: who plays them, the loop that does, recordings, tables, intervals."""
