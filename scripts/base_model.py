"""Download or convert a base model where needed, and write its manifest.

Input:
    model: files of a local model's folder. The script does not read them. They are named for the
        job's record (`records.MODEL`).
Params:
    name: name of the model in the configuration.
    entry: its entry, with `path`, `hub` or `gguf_package` (see models/base_models.py).
    folder: where to put a model that is no local folder.
    local: digests of small local files. A changed file so makes the job run again.
Output:
    manifest: JSON {"name", "path", "files": {file name: sha256}, "source"}.
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
