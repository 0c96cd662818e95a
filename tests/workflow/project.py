"""A copy of the project with a small task of its own, on which the real workflow is run."""

import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import yaml

from weak_to_strong.embedded_task import generate_problems

ROOT = Path(__file__).parents[2]
SOURCES = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "resources")
SIZES = {"train_1": 96, "train_2": 64, "test": 24}

CONFIG = {
    "experiment": "test",
    "tasks": {
        "words": {
            "loader": "table",
            "columns": {"question": "question", "solution": "solution", "answer": "answer"},
            "splits": {name: {"path": f"data/{name}.jsonl"} for name in SIZES},
            "stop": ["Question", "Answer", "\n\n"],
            "max_tokens": 96,
        }
    },
    "models": {
        "tiny_weak": {"path": "resources/embedded/weak"},
        "tiny_strong": {"path": "resources/embedded/strong"},
    },
    "chains": [{"task": "words", "weak": "tiny_weak", "strong": "tiny_strong"}],
    "sampling": {"n": 4},
    "demonstrations": {"ids": ["0", "1", "2", "3"]},
    "training": {
        # Enough small steps for the answer key, which untuned models do not write.
        "sft": {
            "learning_rate": 2e-3,
            "epochs": 6,
            "global_batch_size": 4,
            "per_device_batch_size": 4,
            "lora": {"r": 8, "alpha": 16},
            "max_length": 256,
        },
        "dpo": {"learning_rate": 1e-4, "max_length": 256},
        "orpo": {"learning_rate": 1e-4, "max_length": 256},
    },
    "evaluation": {"samples": 2, "ks": [1, 2], "bootstrap_draws": 200},
    "engine": {"max_model_len": 1024},
}


class Project:
    """A project folder; its methods run Snakemake there as a user would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def create(cls, folder: Path) -> "Project":
        """A project before any run."""
        for name in SOURCES:
            source = ROOT / name
            copy = shutil.copytree if source.is_dir() else shutil.copy
            copy(source, folder / name)
        templates = yaml.safe_load((ROOT / "config/config.yaml").read_text())["tasks"]
        stream = generate_problems(templates["gsm_embedded"]["templates"], seed=7)
        (folder / "data").mkdir()
        for name, size in SIZES.items():
            lines = [json.dumps(problem) for problem in islice(stream, size)]
            (folder / f"data/{name}.jsonl").write_text("\n".join(lines) + "\n")
        project = cls(folder)
        project.write_config(CONFIG)
        return project

    def write_config(self, config: dict) -> None:
        (self.folder / "config/test.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    def snakemake(self, *arguments: str, config: str = "config/test.yaml"):
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        return subprocess.run(
            [sys.executable, "-m", "snakemake", "--cores", "2", *arguments, "--configfile", config],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=900,
        )

    def run(self, *arguments: str) -> str:
        """Run to success; return what Snakemake said."""
        done = self.snakemake(*arguments)
        assert done.returncode == 0, done.stderr[-6000:]
        return done.stdout + done.stderr

    def planned(self, *arguments: str) -> set[str]:
        """Messages of the jobs that a run would start."""
        return jobs(self.run("--dry-run", *arguments))

    def path(self, name: str) -> Path:
        return self.folder / name

    def result(self, name: str) -> Path:
        return self.folder / "results/test" / name


def jobs(output: str) -> set[str]:
    """Messages of the jobs in Snakemake's output."""
    return set(re.findall(r"^Job \d+: (.*)$", output, flags=re.M))
