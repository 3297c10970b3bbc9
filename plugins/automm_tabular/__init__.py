"""Built-in components: tabular."""
