"""The NES: emulators behind one seam, which know no game."""
