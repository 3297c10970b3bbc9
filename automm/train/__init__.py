"""Training one resolved configuration."""
