"""What jobs need on a SLURM cluster, what the paper's experiments would take, what runs cost.

Here belongs what a machine must offer. What changes a result never does.
"""
