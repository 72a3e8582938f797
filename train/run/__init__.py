"""One run: its folder, what it says and draws, and that no other process trains it."""
