"""Built-in components: text."""
