"""Searching the plan's space with Optuna. Never imports `train`."""
