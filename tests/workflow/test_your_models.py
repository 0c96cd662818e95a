"""The configurations of docs/your_models.md resolve, with tiny models in the place of the Hub's."""

import json
import re

import pytest
import yaml
from chat_tokenizers import chat_tokenizer
from project import ROOT, jobs
from tiny_models import make_model

from weak_to_strong.experiment.configuration import load_configuration
from weak_to_strong.experiment.graph import Graph

pytestmark = pytest.mark.slow

SPLITS = ("train_1", "train_2", "test")
PAGE = ROOT / "docs/your_models.md"
#: By the experiments of the page: the kinds of the weak and of the strong model, and the family of
#: their chat templates.
KINDS = {
    "qwen3": ("qwen3", "qwen3", "qwen3"),
    "llama3": ("llama", "llama", "llama3"),
    "gemma3": ("gemma3_text", "gemma3", "gemma3"),
}


def configurations() -> dict[str, dict]:
    """The configurations of the page by the names of their experiments."""
    blocks = re.findall(r"^```yaml\n(.*?)^```", PAGE.read_text("utf-8"), flags=re.M | re.S)
    return {config["experiment"]: config for config in map(yaml.safe_load, blocks)}


def test_the_page_has_a_configuration_of_each_family():
    assert set(configurations()) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_a_configuration_of_the_page_resolves_as_it_stands(name):
    """Without a network: models of the Hub are only named."""
    config = configurations()[name]
    splits = config["tasks"]["sums"]["splits"]
    splits |= {name: {"url": "https://example.org/x.jsonl", "sha256": None} for name in SPLITS}
    graph = Graph(load_configuration(config))
    assert graph.rounds()


@pytest.mark.parametrize("name", KINDS)
def test_a_configuration_of_the_page_resolves_with_models_of_its_classes(
    fresh_project, monkeypatch, name
):
    monkeypatch.chdir(fresh_project.folder)
    config = configurations()[name]
    *kinds, family = KINDS[name]
    for model, kind in zip(config["models"], kinds, strict=True):
        folder = make_model(kind, fresh_project.path(f"models/{model}"))
        chat_tokenizer(family).save_pretrained(folder)
        config["models"][model] = {"path": f"models/{model}"}
    data = fresh_project.path("data")
    data.mkdir(exist_ok=True)
    row = {"question": "1 + 1?", "solution": "1 + 1 = 2.", "answer": "2"}
    for split in SPLITS:
        lines = (json.dumps({**row, "question": f"{n} + 1?"}) for n in range(200))
        (data / f"{split}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    fresh_project.path(f"config/{name}.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    completed = fresh_project.snakemake("--dry-run", config=f"config/{name}.yaml")
    assert completed.returncode == 0, completed.stderr[-3000:]
    messages = jobs(completed.stdout + completed.stderr)
    graph = Graph(load_configuration(config))
    for words, expected in (
        ("Train ", graph.trained_nodes()),
        ("Generation round ", graph.rounds()),
    ):
        assert sum(message.startswith(words) for message in messages) == len(expected)
