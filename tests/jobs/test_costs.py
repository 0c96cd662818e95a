"""Costs: a ledger of jobs from their records, and its sums by rule."""

from __future__ import annotations

import polars as pl
import pytest

from weak_to_strong.jobs.costs import COSTS, LEDGER, read_ledger, sum_costs, total_costs
from weak_to_strong.tables.files import read_json, write_json

GENERATED = {
    "prompt_tokens": 1000,
    "cached_prompt_tokens": 640,
    "response_tokens": 400,
    "engine_loads": 3,
    "engine_start_seconds": 21.5,
    "engine_seconds": 80.0,
}


def leave(logs, job, rule, wall, cpu, memory, **cost):
    """The record of a job, with counts that no table has."""
    measured = {"wall_seconds": wall, "cpu_seconds": cpu, "peak_memory_mb": memory}
    gpus = dict.fromkeys(("gpu_seconds", "gpu_utilisation", "peak_gpu_memory_mb"))
    record = {"rule": rule, "outputs": {}, "cost": {**gpus, **measured, "samples": 4, **cost}}
    write_json(record, logs / f"{job}.json")


@pytest.fixture
def logs(tmp_path):
    """Records of three rules: trainings with and without a GPU, two rounds and the plots."""
    gpu = {"gpu_seconds": 38.5, "gpu_utilisation": 0.75, "peak_gpu_memory_mb": 7000.0}
    leave(tmp_path, "train/a/x-1", "train", 10.0, 9.5, 500.5, trained_tokens=3000)
    leave(tmp_path, "train/b", "train", 30.0, 28.0, 700.0, trained_tokens=1000, **gpu)
    for name in ("icl-1", "weak-1"):
        leave(tmp_path, f"generate/round/{name}", "generate", 100.0, 90.0, 2000.0, **GENERATED)
    leave(tmp_path, "plots", "plots", 0.25, 0.2, 80.0)
    (tmp_path / "train/b.log").write_text("said\n")
    return tmp_path


def test_each_job_has_a_row(logs):
    ledger = read_ledger(logs)
    assert ledger.schema == LEDGER
    gpu = (38.5, 0.75, 700.0, 7000.0)

    def trained(tokens):
        return (*[None] * 3, tokens, *[None] * 4)

    tokens = (1000, 640, 400, None, None)
    generated = (100.0, 90.0, None, None, 2000.0, None, *tokens, 3, 21.5, 80.0, 5.0)
    assert ledger.rows() == [
        ("generate/round/icl-1", "generate", *generated),
        ("generate/round/weak-1", "generate", *generated),
        ("plots", "plots", 0.25, 0.2, None, None, 80.0, *[None] * 10),
        (
            "train/a/x-1",
            "train",
            10.0,
            9.5,
            None,
            None,
            500.5,
            *[None] * 4,
            3000,
            *[None] * 4,
            300.0,
        ),
        ("train/b", "train", 30.0, 28.0, *gpu, *[None] * 3, 1000, *[None] * 4, 1000 / 30),
    ]


def test_the_ledger_is_the_same_as_a_file(logs, tmp_path):
    ledger = read_ledger(logs)
    ledger.write_csv(tmp_path / "ledger.csv")
    assert pl.read_csv(tmp_path / "ledger.csv", schema=LEDGER).equals(ledger)


def test_costs_are_summed_by_rule(logs):
    costs = sum_costs(read_ledger(logs))
    assert costs.schema == COSTS
    assert costs.rows() == [
        (
            "generate",
            2,
            200.0,
            180.0,
            None,
            2000.0,
            None,
            2000,
            1280,
            800,
            *[None] * 2,
            6,
            43.0,
            5.0,
        ),
        ("train", 2, 40.0, 37.5, 38.5, 700.0, 7000.0, *[None] * 3, 4000, *[None] * 3, 100.0),
        ("plots", 1, 0.25, 0.2, None, 80.0, *[None] * 9),
    ]


def test_the_total_sums_times_and_takes_the_largest_memory(logs):
    total = total_costs(sum_costs(read_ledger(logs)))
    assert (total["jobs"], total["wall_seconds"]) == (5, 240.25)
    assert total["cpu_seconds"] == pytest.approx(217.7)
    assert (total["gpu_seconds"], total["peak_gpu_memory_mb"]) == (38.5, 7000.0)
    assert (total["engine_loads"], total["cached_prompt_tokens"]) == (6, 1280)
    assert (total["peak_memory_mb"], total["trained_tokens"]) == (2000.0, 4000)
    assert total["tokens_per_second"] is None


def test_reused_generations_have_no_rate(logs):
    nothing = {"prompt_tokens": 0, "response_tokens": 0, "engine_seconds": 0.1}
    for name in ("icl-1", "weak-1"):
        leave(logs, f"generate/round/{name}", "generate", 2.0, 1.0, 90.0, **nothing)
    ledger = read_ledger(logs)
    for table in (ledger, sum_costs(ledger)):
        assert table.filter(rule="generate")["tokens_per_second"].is_null().all()


def test_tokens_of_an_endpoint_have_a_price(logs):
    """A million tokens of prompts for 3, of responses for 10: a record has 1000 and 400."""
    job = "ask_endpoint/evaluation/t/teacher"
    asked = {"prompt_tokens": 1000, "response_tokens": 400, "engine_seconds": 80.0}
    leave(logs, job, "ask_endpoint", 100.0, 1.0, 90.0, **asked)
    ledger = read_ledger(logs, {job: {"input": 3.0, "output": 10.0}})
    (row,) = ledger.filter(job=job).to_dicts()
    assert row["price"] == pytest.approx(0.003 + 0.004)
    assert row["tokens_per_second"] == 5.0
    assert ledger.filter(pl.col("job") != job)["price"].is_null().all()
    costs = sum_costs(ledger)
    assert costs.filter(rule="ask_endpoint")["price"].item() == pytest.approx(0.007)
    assert total_costs(costs)["price"] == pytest.approx(0.007)
    assert total_costs(sum_costs(read_ledger(logs)))["price"] is None


def test_no_records_give_empty_tables(tmp_path):
    ledger = read_ledger(tmp_path / "logs")
    assert ledger.is_empty()
    costs = sum_costs(ledger)
    assert costs.schema == COSTS
    assert total_costs(costs)["jobs"] == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("wall_seconds", None),
        ("cpu_seconds", "soon"),
        ("cpu_seconds", -1.0),
        ("peak_memory_mb", float("nan")),
        ("gpu_seconds", True),
        ("trained_tokens", 10.5),
    ],
)
def test_a_damaged_record_is_named(logs, name, value):
    file = logs / "train/b.json"
    record = read_json(file)
    record["cost"][name] = value
    write_json(record, file)
    with pytest.raises(ValueError, match=r"train/b\.json: its `cost` is not what a job measures"):
        read_ledger(logs)


def test_a_file_that_is_no_record_is_named(logs):
    write_json({"engine_loads": 1}, logs / "train/b.json")
    with pytest.raises(ValueError, match=r"train/b\.json: is not the record of a job"):
        read_ledger(logs)
