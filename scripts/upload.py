"""Show what of an experiment's results would be uploaded to the Hub, or upload it.

Params:
    settings: `upload` of the configuration: repo, model, private, send.
    root: results folder of the experiment.
    experiment: its name.
    report: folder of its report.
    model: of the model to upload: `key`, `manifest` and `base` (paths of manifests), `data` (kind
        of its training rows), `init` (key of the model that it started from, or None) and `node`
        (its facts in metrics.csv, or None). None for the result tables.
    gold: tables with gold answers of train_2, which are never uploaded.
    stale: a line for each job that other parameters or other code have made.
"""

from pathlib import Path
from typing import Any

from weak_to_strong.jobs.logs import logger
from weak_to_strong.jobs.script import run_script
from weak_to_strong.report.hub_upload import (
    README,
    UploadFile,
    check_uploads,
    collect_model,
    collect_tables,
    find_manifest,
    find_table,
    list_uploads,
    send,
)
from weak_to_strong.report.model_card import ModelFacts, describe_model, describe_tables
from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS


def main(snakemake: Any) -> None:
    """Collect, check and show the files; send them where that is asked for."""
    params, settings = snakemake.params, snakemake.params.settings
    repo, model = settings["repo"], params.model
    if model:
        # The card rests on both.
        sources = [find_manifest(model["manifest"]), find_table(params.report, "metrics.csv")]
        check_uploads(sources, params.root, params.gold, params.stale)
        base = read_json(model["base"])
        files = collect_model(model["manifest"], base)
        card = describe_model(
            read_json(model["manifest"]),
            base,
            read_csv(sources[1].source, METRICS),
            ModelFacts(
                model["key"], params.experiment, model["data"], model["init"], model["node"]
            ),
        )
    else:
        files = collect_tables(params.report)
        text = Path(params.report, "table.txt").read_text(encoding="utf-8")
        card = describe_tables([file.name for file in files], text, params.experiment)
    files = [UploadFile(README, card.encode(), "the card"), *files]
    check_uploads(files, params.root, params.gold, params.stale)
    kind = "model" if model else "dataset"
    privacy = "private" if settings["private"] else "public"
    logger.info("%s: %s repository, %s", repo or "no repository named", kind, privacy)
    for line in (*list_uploads(files), "", *card.splitlines(), ""):
        logger.info("%s", line)
    if not settings["send"]:
        logger.info("nothing was sent; add `send: true` to `upload` to send it")
        return
    if repo is None:
        raise ValueError("config key `upload.repo`: is not set; name the repository, owner/name")
    what = model["key"] if model else "results"
    message = f"Upload {what} of the experiment {params.experiment}"
    logger.info("sent: %s", send(files, repo, kind, settings["private"], message))


if "snakemake" in globals():
    run_script(main, snakemake)  # noqa: F821
