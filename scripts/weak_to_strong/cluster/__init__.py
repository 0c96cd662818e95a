"""SLURM: what jobs ask for, what the paper's experiments would take, and what runs cost.

Code about machines belongs here. Code that changes a result never does.
"""
