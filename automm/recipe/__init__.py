"""The recipe: from YAML text to a checked normal form."""
