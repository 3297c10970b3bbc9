"""Finding, loading and naming plugins."""
