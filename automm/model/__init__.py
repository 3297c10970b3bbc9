"""From a resolved configuration to a torch module."""
