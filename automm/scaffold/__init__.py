"""New plugins: complete distributions with one working component."""

from automm.scaffold.make import KINDS, LICENCES, Scaffold, scaffold

__all__ = ["KINDS", "LICENCES", "Scaffold", "scaffold"]
