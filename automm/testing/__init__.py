"""The conformance kit: named checks that every component passes, automm's own and those of other plugins.

In a plugin's tests::

    from automm.testing import parametrize

    @parametrize(MyFusion)
    def test_conformance(check):
        check()
"""

from automm.testing.checks import Check, checks_for, parametrize

__all__ = ["Check", "checks_for", "parametrize"]
