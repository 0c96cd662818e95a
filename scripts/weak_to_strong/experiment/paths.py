"""Where each file of an experiment lies: the one place that knows paths.

A path is a pattern with Snakemake's wildcards. Rules declare patterns as outputs and logs; the
graph fills them with `str.format`, so that both name the same file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

#: Folders of unfinished work, which all experiments share.
TRAINING_STORE = "results/store/training"
REQUEST_STORE = "results/store/requests"

#: Longest name of a comparison that is made of the experiments' names.
_MAX_JOINED = 100


class Paths:
    """Path patterns of one experiment.

    Wildcards: `task`, `split` and `base` are names; `chain` is `Chain.key`, `round` the key of a
    generation round, `evaluated` is `EvaluatedSet.key`; `side` is weak or icl; `method` and
    `iteration` name a node of a chain; `answers`, `selection` and `preferences` are names of
    entries.

    Args:
        experiment: its name.
        prefix: text before every path, "" or a folder with its slash.
    """

    def __init__(self, experiment: str, prefix: str = "") -> None:
        self.root = root = f"{prefix}results/{experiment}"
        self.logs = f"{root}/logs"
        self.trackers = f"{root}/trackers"

        self.source = f"{root}/data/{{task}}/sources/{{name}}"
        self.split = f"{root}/data/{{task}}/{{split}}.parquet"
        self.questions = f"{root}/data/{{task}}/train_2.parquet"
        self.gold = f"{root}/data/{{task}}/train_2_gold.parquet"
        self.contamination = f"{root}/data/{{task}}/contamination.csv"

        self.base_folder = f"{root}/bases/{{base}}"
        self.base = f"{self.base_folder}.json"
        node = f"{root}/models/{{chain}}/{{method}}-{{iteration}}"
        self.rows = f"{node}/rows.parquet"
        self.rows_export = f"{node}/rows.json"
        self.model = f"{node}/model"
        self.manifest = f"{node}/manifest.json"
        self.history = f"{node}/history.json"

        self.generations = f"{root}/generations/{{round}}.parquet"
        self.generation_stats = f"{root}/generations/{{round}}.json"
        self.samples = f"{root}/generations/{{chain}}/samples.parquet"

        self.labels = f"{root}/labels/{{chain}}/{{side}}-{{iteration}}.parquet"
        self.demonstrations = f"{root}/labels/{{chain}}/demonstrations.parquet"
        self.kept = f"{root}/filter/{{chain}}/kept-{{iteration}}.parquet"
        self.kept_summary = f"{root}/filter/{{chain}}/kept-{{iteration}}.json"
        self.votes = f"{root}/votes/{{chain}}/votes.parquet"
        self.voted_samples = f"{root}/votes/{{chain}}/samples.parquet"

        self.answers = f"{root}/answers/{{chain}}/{{answers}}.parquet"
        self.selected = f"{root}/selections/{{chain}}/{{selection}}.parquet"
        self.selected_summary = f"{root}/selections/{{chain}}/{{selection}}.json"
        self.preferred = f"{root}/preferences/{{chain}}/{{preferences}}.parquet"
        self.preferred_export = f"{root}/preferences/{{chain}}/{{preferences}}.json"

        self.scores = f"{root}/scores/{{evaluated}}.parquet"
        self.agreement = f"{root}/scores/{{evaluated}}.json"
        self.report = f"{root}/report"
        self.page = f"{self.report}/index.html"
        self.metrics = f"{self.report}/metrics.csv"
        self.models_table = f"{self.report}/models.csv"
        self.figure = f"{self.report}/plots/{{figure}}.{{format}}"
        self.paper_table = f"{root}/paper/{{table}}.{{format}}"

    def log(self, rule: str, job: str = "") -> str:
        """The log of a rule's jobs.

        Args:
            rule: its name.
            job: pattern that tells its jobs apart; "" for a rule of one job.
        """
        return f"{self.logs}/{rule}/{job}.log" if job else f"{self.logs}/{rule}.log"


class ComparisonPaths:
    """Paths of the comparison of some experiments.

    Args:
        experiments: their names, in the order of the page. No name has a `+`.
        prefix: as for `Paths`.
    """

    def __init__(self, experiments: Sequence[str], prefix: str = "") -> None:
        name = "+".join(experiments) or "+"
        if len(name) > _MAX_JOINED:
            digest = hashlib.sha256(name.encode()).hexdigest()[:16]
            name = f"{experiments[0][:40]}+{len(experiments) - 1}-others-{digest}"
        self.root = f"{prefix}results/compare/{name}"
        self.page = f"{self.root}/index.html"
        self.models_table = f"{self.root}/models.csv"
        self.log = f"{self.root}/logs/compare.log"
