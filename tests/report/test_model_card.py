"""The cards of what is uploaded: metadata as the Hub's library reads it, and what they say."""

import polars as pl
import pytest
import upload_examples as examples
from huggingface_hub import DatasetCard, ModelCard

from weak_to_strong.report.model_card import ModelFacts, describe_model, describe_tables
from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS


@pytest.fixture(autouse=True)
def experiment(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples.write_experiment()


def card(**changes) -> str:
    metrics = changes.pop("metrics", None)
    facts = {name: examples.PARAMETER[name] for name in ("key", "data", "init", "node")}
    return describe_model(
        read_json(examples.MANIFEST),
        read_json(examples.BASE),
        read_csv(f"{examples.ROOT}/report/metrics.csv", METRICS) if metrics is None else metrics,
        ModelFacts(**{**facts, "experiment": "study", **changes}),
    )


def test_the_metadata_names_base_library_and_accuracy():
    data = ModelCard(card()).data
    assert data.base_model == "owner/large"
    assert data.to_dict()["base_model_relation"] == "adapter"
    assert data.library_name == "peft"
    assert data.pipeline_tag == "text-generation"
    assert "arxiv:2407.13647" in data.tags
    assert data.license is None
    shown = {(result.metric_name, result.metric_value) for result in data.eval_results}
    assert shown == {("accuracy, scorer math", 0.75), ("accuracy, scorer paper", 0.7)}
    assert {result.dataset_split for result in data.eval_results} == {"test"}


def test_the_text_has_method_data_settings_and_intervals():
    text = card()
    assert "Hub, commit `0123456789012345678901234567890123456789`" in text
    assert "DPO on rows of the kind `pairs`, from the model `sums/small/large/" in text
    assert f"sha256 of the table of rows is `{'ab' * 32}`" in text
    assert "| learning_rate | 5e-06 |" in text
    assert "| lora.target_modules | q_proj, v_proj |" in text
    assert "| test | accuracy | math | 0.7500 | 0.7000 to 0.8000 | 400 |" in text
    assert "| test | pass@k@4 |" in text
    assert "| trl | 1.16.0 |" in text
    # Figures of other models and seeds, and what holds on one machine only.
    for absent in ("0.1000", "0.2000", "/home/someone", "quantization", "processes"):
        assert absent not in text
    assert "| deepspeed | zero3.json |" in text
    assert "No licence is stated here." in text


def test_a_base_that_is_not_on_the_hub_is_named_in_the_text_only():
    examples.write_base({"path": "/home/someone/models/large"})
    text = card()
    assert ModelCard(text).data.base_model is None
    assert "`large`, a local model" in text
    assert "The adapter needs exactly these weights." in text
    assert "/home/someone" not in text


def test_full_weights_are_a_fine_tuned_model():
    examples.write_manifest(kind="full")
    data = ModelCard(card()).data
    assert data.library_name == "transformers"
    assert data.to_dict()["base_model_relation"] == "finetune"


def test_a_model_that_was_not_evaluated_says_so():
    for text in (card(node=None), card(metrics=pl.DataFrame(schema=METRICS))):
        assert "The model was not evaluated." in text
        assert ModelCard(text).data.eval_results is None
    assert "from the base model" in card(init=None)


def test_tables_are_a_data_set_with_a_part_for_each():
    files = ["metrics.csv", "table.txt", "costs.csv"]
    text = describe_tables(files, "method  %\nweak    33\n", "study")
    data = DatasetCard(text).data.to_dict()
    assert data["configs"] == [
        {"config_name": name, "data_files": f"{name}.csv"} for name in ("metrics", "costs")
    ]
    assert "license" not in data
    assert "weak    33" in text
