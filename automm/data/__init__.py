"""From files to batches: tables, profiles, inference, splits, stored arrays. Imports no torch."""
