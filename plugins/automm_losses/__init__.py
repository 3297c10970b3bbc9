"""Built-in components: losses."""
