"""The paper's own steps, as pure functions from tables to tables.

Prompts, answers, labels, demonstrations, the agreement filter, training sets, the majority vote and
contrastive pairs. Snakemake, vLLM, training libraries and paths of an experiment never belong here.
"""
