"""Built-in components: export."""
