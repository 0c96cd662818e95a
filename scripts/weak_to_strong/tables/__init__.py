"""Columns of every table, and files that appear whole or not at all.

Here belongs what several steps of the workflow need to exchange data. What a column is computed
from never does.
"""
