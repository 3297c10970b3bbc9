"""Built-in components: tasks."""
