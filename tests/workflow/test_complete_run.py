"""One complete run with models of random weights: every rule, real vLLM and TRL, no pretraining."""

import polars as pl
import pytest
from planted import MARK, files_with
from project import Project
from random_study import CHAIN, SIZES, WEAK_SIDE
from safetensors.numpy import load_file

from weak_to_strong.jobs.costs import COSTS, LEDGER
from weak_to_strong.jobs.records import read_job_records, read_records
from weak_to_strong.jobs.verify import artefacts
from weak_to_strong.method.answers import predict
from weak_to_strong.tables.files import hash_file, read_json
from weak_to_strong.tables.schemas import METRICS

pytestmark = pytest.mark.slow

INPUTS_OF_DPO = ("dpo-0/rows.parquet", "hybrid_ft-2/manifest.json")


def table(project: Project, name: str) -> pl.DataFrame:
    return pl.read_parquet(project.result(f"{name}.parquet"))


def accuracies(project: Project) -> pl.DataFrame:
    metrics = pl.read_csv(project.result("report/metrics.csv"), schema=METRICS)
    return metrics.filter(metric="accuracy", split="test")


def test_every_rule_ran(project):
    assert {path.stem for path in project.result("logs").iterdir()} >= {
        *("fetch_source", "problems", "withhold_gold", "contamination", "base_model"),
        *("generate", "extract_labels", "demonstrations", "agreement_filter", "sft_set", "train"),
        *("majority_vote", "pairs", "score", "metrics", "diagnostics", "plots", "report"),
    }


def test_every_method_is_evaluated_by_both_scorers(project):
    expected = {
        *((name, 0) for name in ("weak", "full_weak", "strong_zero_shot", "weak_icl")),
        *((name, 0) for name in ("ceiling", "dpo", "orpo")),
        *((f"{side}_ft", i) for side in ("weak", "icl", "hybrid") for i in (1, 2)),
    }
    for scorer in ("paper", "math"):
        rows = accuracies(project).filter(scorer=scorer)
        assert set(rows.select("method", "iteration").iter_rows()) == expected
        assert len(rows) == len(expected)
        assert rows["n"].unique().to_list() == [SIZES["test"]]
        assert rows["value"].is_between(rows["ci_low"], rows["ci_high"]).all()


def test_every_training_changed_its_model(project):
    adapters = sorted(project.result("models").rglob("adapter_model.safetensors"))
    assert len(adapters) == 11
    assert len({hash_file(file) for file in adapters}) == 11
    for file in adapters:
        # `lora_B` is zero in a new adapter, so that it does not change its base.
        moved = [part for name, part in load_file(file).items() if "lora_B" in name]
        assert len(moved) in (7, 14), file
        assert all(part.any() for part in moved), file


def test_models_that_know_nothing_agree_now_and_then(project):
    for iteration in (1, 2):
        chain = WEAK_SIDE if iteration == 1 else CHAIN
        weak = table(project, f"labels/{chain}/weak-{iteration}")
        icl = table(project, f"labels/{CHAIN}/icl-{iteration}")
        assert weak["id"].equals(icl["id"])
        agreeing = weak.filter(
            (weak["prediction"] == icl["prediction"]) & (icl["prediction"] != "")
        )
        kept = table(project, f"filter/{CHAIN}/kept-{iteration}")
        assert kept.select("id", "prediction").equals(agreeing.select("id", "prediction"))
        assert 0 < len(kept) < SIZES["train_2"]


def test_samples_differ_and_vote(project):
    samples, votes = (table(project, f"votes/{CHAIN}/{name}") for name in ("samples", "votes"))
    opinions = samples.group_by("id").agg(pl.col("prediction").n_unique())["prediction"]
    assert (opinions > 1).mean() > 0.5
    assert votes["samples"].unique().to_list() == [6]
    for name, majority, share, _ in votes.rows():
        answers = samples.filter(id=name)["prediction"].to_list()
        assert share == answers.count(majority) / 6
        assert share == max(answers.count(answer) for answer in answers) / 6


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_obey_the_rules(project, method):
    pairs = table(project, f"models/{CHAIN}/{method}-0/rows")
    weak = dict(table(project, f"labels/{WEAK_SIDE}/weak-1").select("id", "response").rows())
    votes = {name: vote for name, *vote in table(project, f"votes/{CHAIN}/votes").rows()}
    assert pairs["id"].is_unique().all()
    assert set(pairs["weak_side"]) == {"chosen", "rejected"}
    for name, _, chosen, rejected, side, confidence in pairs.rows():
        majority, share, _ = votes[name]
        assert predict(chosen, "####") == majority != ""
        assert predict(rejected, "####") != majority
        assert f" {weak[name]}" == {"chosen": chosen, "rejected": rejected}[side]
        assert confidence == share >= {"chosen": 0.3, "rejected": 0.5}[side]


def test_what_cannot_be_known_is_guessed(project):
    """Chance gives a third. The bounds are four standard deviations above it."""
    assert accuracies(project)["value"].max() < 0.58
    diagnostics = pl.read_csv(project.result("report/diagnostics.csv"))
    labels = diagnostics.filter(diagnostic="labels", name="accuracy")
    assert len(labels) == 4
    assert labels["n"].unique().to_list() == [SIZES["train_2"]]
    assert labels["value"].max() < 0.53


def test_code_that_a_model_brings_is_never_run(project):
    assert "theirs.py" in read_json(project.result("bases/random_strong.json"))["files"]
    assert not project.path("models/code was run").exists()


def test_metrics_have_the_documented_columns(project):
    metrics = pl.read_csv(project.result("report/metrics.csv"))
    assert metrics.columns == METRICS.names()
    assert {"accuracy", "pass_at_k", "maj_at_k", "pgr"} <= set(metrics["metric"])


def test_the_report_stands_alone(project):
    page = project.result("report/index.html").read_text()
    assert "hybrid" in page
    assert 'src="http' not in page
    assert "Content-Security-Policy" in page
    figures = sorted(file.name for file in project.result("report/plots").iterdir())
    assert len(figures) == 14  # seven, each as SVG and PNG


def test_every_training_starts_where_the_paper_says(project):
    for folder in project.result(f"models/{CHAIN}").iterdir():
        manifest = read_json(folder / "manifest.json")
        assert manifest["base"] == "random_strong"
        assert manifest["kind"] == "lora"
        for name, digest in manifest["files"].items():
            assert hash_file(folder / "model" / name) == digest


def test_dpo_starts_from_m_plus(project):
    history = read_json(project.result(f"models/{CHAIN}/dpo-0/history.json"))
    assert abs(history[0]["loss"] - 0.6931) < 1e-3


def test_engine_loads_do_not_grow_with_the_number_of_models(project):
    """With one engine process a round loads its base once."""
    records = read_job_records(project.result("logs")).values()
    loads = [record["cost"]["engine_loads"] for record in records if record["rule"] == "generate"]
    assert loads == [1] * 6
    assert project.cost("generate/evaluation/dice/random_strong")["requests"] == 24


def test_every_job_is_in_the_ledger(project):
    ledger = pl.read_csv(project.result("report/ledger.csv"), schema=LEDGER)
    logs = project.result("logs")
    logged = {file.relative_to(logs).with_suffix("").as_posix() for file in logs.rglob("*.log")}
    assert set(ledger["job"]) == logged - {"report"}
    assert ledger["job"].is_unique().all()
    # A process that imports polars takes some of each.
    assert ledger["wall_seconds"].min() > 0.05
    assert ledger["cpu_seconds"].min() > 0.05
    assert ledger["peak_memory_mb"].min() > 30
    heavy = ledger.filter(pl.col("rule").is_in(["train", "generate"]))
    assert heavy["peak_memory_mb"].min() > 300


def test_tokens_of_the_ledger_are_those_of_the_results(project):
    ledger = pl.read_csv(project.result("report/ledger.csv"), schema=LEDGER)
    tables = {
        file.relative_to(project.result("generations")).with_suffix("").as_posix(): file
        for file in project.result("generations").rglob("*.parquet")
    }
    generated = ledger.filter(rule="generate")
    assert set(generated["job"]) == {f"generate/{name}" for name in tables}
    for job, prompts, responses, seconds, rate in generated.select(
        "job", "prompt_tokens", "response_tokens", "engine_seconds", "tokens_per_second"
    ).rows():
        table = pl.read_parquet(tables[job.removeprefix("generate/")])
        assert (prompts, responses) == (
            table["prompt_tokens"].sum(),
            table["response_tokens"].sum(),
        )
        assert rate == pytest.approx(responses / seconds)
    assert generated["engine_loads"].min() > 0
    assert (generated["cached_prompt_tokens"] <= generated["prompt_tokens"]).all()
    for job, tokens in ledger.filter(rule="train").select("job", "trained_tokens").rows():
        manifest = project.result(f"models/{job.removeprefix('train/')}/manifest.json")
        assert tokens == read_json(manifest)["facts"]["tokens"]
    costs = pl.read_csv(project.result("report/costs.csv"), schema=COSTS)
    assert costs["jobs"].sum() == len(ledger)
    for name in ("response_tokens", "trained_tokens"):
        assert costs[name].sum() == ledger[name].sum() > 1000


def test_artefacts_hold_no_path_of_this_machine(project):
    for file in project.result("models").rglob("*.json"):
        assert str(project.folder) not in file.read_text(), file
    page = project.result("report/index.html").read_text()
    assert str(project.folder) not in page
    assert project.config["experiment"] in page


def test_every_result_has_the_record_of_its_job(project):
    root = project.folder / "results/test"
    results = {file.relative_to(project.folder).as_posix() for file in artefacts(root)}
    records = read_records(root / "logs")
    assert results
    assert results <= records.keys()
    for path in results:
        assert records[path]["outputs"][path] == hash_file(project.folder / path)
        assert records[path]["command"].startswith("snakemake --cores 2")
    seeds = {record["rule"] for record in records.values() if record["seeds"]}
    assert {"train", "generate", "demonstrations"} <= seeds


def test_every_job_has_the_record_of_its_inputs(project):
    records = read_job_records(project.result("logs"))
    for job, record in records.items():
        for path, used in record["inputs"].items():
            assert used == hash_file(project.path(path)), job
    base = records["base_model/random_weak"]["inputs"]
    assert {"models/weak/config.json", "models/weak/model.safetensors"} <= base.keys()
    training = records[f"train/{CHAIN}/dpo-0"]["inputs"]
    assert training.keys() == {
        "results/test/bases/random_strong.json",
        *(f"results/test/models/{CHAIN}/{file}" for file in INPUTS_OF_DPO),
    }
    project.verify()


def test_no_file_holds_a_secret_of_the_environment(project):
    """Results, logs, Snakemake's records: all that the complete run left in the folder."""
    # The search does reach logs and Snakemake's own files.
    reached = {name.split("/")[0] for name in files_with("random_strong", project.folder)}
    assert {"results", ".snakemake"} <= reached
    assert files_with(MARK, project.folder) == []


def test_snakemake_builds_its_own_report_too(project):
    project.run("--report", "snakemake-report.html")
    assert project.path("snakemake-report.html").stat().st_size > 100_000
