"""Texts -> verdicts -> metrics with intervals and tests; diagnostics against the withheld gold.

Here belongs what judges or measures answers. How figures are shown never does.
"""
