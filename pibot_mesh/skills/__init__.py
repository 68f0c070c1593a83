"""The tools that every node has: its devices (`devices`) and its own condition (`system`)."""
