"""Weak-to-strong reasoning (Yang, Ma, Liu; arXiv 2407.13647), as a Snakemake workflow.

A package imports only those above it in this list (see `tests/repository/test_layers.py`):

tables       columns of all tables; files that appear whole or not at all
jobs         what every job does around its work: log, record, locks, cost, code digest, trackers
method       the paper's own steps, and selections, preferences and rewards, as pure functions
data         raw files, generated and embedded problems -> canonical tables and splits
models       base models, chat templates, endpoints and manifests
generation   requests -> texts, with vLLM or from an endpoint
evaluation   texts -> verdicts -> metrics; diagnostics with gold
training     rows -> models, with TRL; the embedded models' pretraining
paper        what the authors published: figures, released data and checks against them
experiment   configuration -> graph of models, files and rounds
cluster      what a job needs on a SLURM cluster, what it cost, and whether a machine is ready
report       metrics -> page, plots, the paper's tables; comparisons; uploads
"""
