"""SLURM and GPUs: what jobs ask for, what the paper's experiments would take, what runs cost, and
whether a machine is ready for them (`doctor`, `gpu_test`).

Code about machines belongs here. Code that changes a result never does.
"""
