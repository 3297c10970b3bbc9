"""What was computed from cells, kept for later runs: content-addressed, size-capped, safe to remove at any time."""
