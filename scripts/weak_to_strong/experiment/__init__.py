"""A configuration, checked and completed, and the graph of models and files that it means.

Here belongs what an experiment consists of and where each file lies. Running it never does.
"""
