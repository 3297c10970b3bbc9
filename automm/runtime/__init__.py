"""What serves a package: torch-free, and nothing here imports from the rest of automm but `core` and `errors`."""
