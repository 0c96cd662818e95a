"""Train the tokenizer of the embedded models.

Params:
    task: the embedded task: templates, data_seed, problems.
    settings: `tokenizer` of config/embedded_models.yaml: vocab_size, context, documents,
        drill_share, seed and, optionally, authors.
Output:
    folder: a tokenizer as a Hugging Face folder.
"""

from itertools import islice
from typing import Any

from weak_to_strong.jobs.script import run_script
from weak_to_strong.training.pretraining import (
    experiment_questions,
    generate_documents,
    train_tokenizer,
)


def main(snakemake: Any) -> None:
    """Train and publish the tokenizer."""
    task, settings = snakemake.params.task, snakemake.params.settings
    documents = generate_documents(
        task["templates"],
        settings["seed"],
        settings["drill_share"],
        experiment_questions(**task),
        authors=settings.get("authors"),
    )
    texts = list(islice(documents, settings["documents"]))
    tokenizer = train_tokenizer(texts, settings["vocab_size"], settings["context"])
    tokenizer.save_pretrained(snakemake.output.folder)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
