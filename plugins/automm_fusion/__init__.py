"""Built-in components: fusion."""
