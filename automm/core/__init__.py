"""The contracts: configurations, features and the kinds of components. Imports no torch."""
