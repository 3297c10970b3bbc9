"""Updating a package with new rows: what is kept for it, and challenger against champion."""
