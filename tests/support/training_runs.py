"""A resolved training without files, for tests of what starts and ends its processes."""

from weak_to_strong.training.settings import complete_settings
from weak_to_strong.training.training_run import TrainingRun


def bare_run(work: str) -> TrainingRun:
    """A supervised training by two processes.

    Args:
        work: its work folder.
    """
    settings = {
        "adapter": "full",
        "dtype": "float32",
        "epochs": 1,
        "global_batch_size": 2,
        "learning_rate": 1.0,
        "max_length": 8,
        "per_device_batch_size": 1,
        "scheduler": "cosine",
        "seed": 0,
        "processes": 2,
    }
    return TrainingRun(
        trainer="sft",
        settings=complete_settings("sft", settings),
        rows="rows.parquet",
        rows_sha256="",
        base={"name": "base", "files": {}},
        base_manifest="base.json",
        base_view="base",
        init=None,
        init_manifest=None,
        init_view=None,
        versions={},
        work=work,
        model="model",
        manifest="model.json",
        history="history.json",
    )
