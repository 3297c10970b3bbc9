"""Built-in components: image."""
