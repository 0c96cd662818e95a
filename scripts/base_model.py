"""Download or convert a base model, and write its manifest.

Input:
    model: files of a local model's folder, for its record (`records.MODEL`).
Params:
    name: name of the model in the config.
    entry: its entry (`path`, `hub` or `gguf_package`; see weak_to_strong/models/base_models.py).
    folder: where to put a model that is not a local folder.
Output:
    manifest: JSON {"name", "path", "files": {file name: sha256}, "source"}.
    folder: the folder of `params.folder` (only for `hub` and `gguf_package`).
"""

from typing import Any

from weak_to_strong.jobs.script import run_script
from weak_to_strong.models.base_models import describe_base_model, prepare_base_model
from weak_to_strong.tables.files import write_json


def main(snakemake: Any) -> None:
    """Prepare the model and write its manifest."""
    name, entry = snakemake.params.name, snakemake.params.entry
    folder = snakemake.params.get("folder")
    prepare_base_model(name, entry, folder)
    write_json(describe_base_model(name, entry, folder), snakemake.output.manifest)


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
