"""Costs: sums over Snakemake's benchmark files, tokens from cost records and manifests."""

from __future__ import annotations

import json

import pytest

from weak_to_strong.costs import COSTS, collect_costs, total_costs

HEADER = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def benchmark(path, seconds, memory="NA", cpu="NA"):
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [seconds, "0:00:01", memory, *["NA"] * 6, cpu]
    path.write_text(HEADER + "\t".join(map(str, cells)) + "\n")


@pytest.fixture
def run(tmp_path):
    """Folders of a run: benchmarks of three rules, a cost record and two manifests."""
    folder = tmp_path / "benchmarks" / "benchmarks"
    benchmark(folder / "train/a/x-1.tsv", 10, 500.5, 9.5)
    benchmark(folder / "train/b.tsv", 30, 700, 28)
    benchmark(folder / "generate/round/icl-1.tsv", 100, 2000, 90)
    benchmark(folder / "plots.tsv", 0.25)
    record = {"engine_loads": 1, "prompt_tokens": 1000, "response_tokens": 400, "seconds": 80}
    for name in ("icl-1", "weak-1"):
        (folder / f"generate/round/{name}.cost.json").write_text(json.dumps(record))
    for name, facts in (("a", {"tokens": 3000}), ("b", {"tokens": 1000}), ("base", None)):
        manifest = tmp_path / "models" / name / "manifest.json"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(json.dumps({"facts": facts}))
    return folder, tmp_path / "models"


def test_costs_are_summed_by_rule(run):
    costs = collect_costs(*run)
    assert costs.schema == COSTS
    assert costs.rows() == [
        ("generate", 1, 100.0, 90.0, 2000.0, 2000, 800, None, 5.0),
        ("train", 2, 40.0, 37.5, 700.0, None, None, 4000, 100.0),
        ("plots", 1, 0.25, None, None, None, None, None, None),
    ]


def test_the_total_sums_times_and_takes_the_largest_memory(run):
    total = total_costs(collect_costs(*run))
    assert (total["jobs"], total["wall_seconds"], total["cpu_seconds"]) == (4, 140.25, 127.5)
    assert (total["peak_memory_mb"], total["trained_tokens"]) == (2000.0, 4000)


def test_reused_generations_have_no_rate(run):
    folder, models = run
    nothing = {"prompt_tokens": 0, "response_tokens": 0, "seconds": 0}
    for path in folder.rglob("*.cost.json"):
        path.write_text(json.dumps(nothing))
    assert collect_costs(folder, models)["tokens_per_second"].to_list()[0] is None


def test_no_benchmarks_give_an_empty_table(tmp_path):
    costs = collect_costs(tmp_path)
    assert costs.is_empty()
    assert total_costs(costs)["jobs"] == 0


@pytest.mark.parametrize(
    "text", ["s\tcpu_time\n1\t1\n", "s,max_rss,cpu_time\n1,2,3\n", HEADER + "soon\n"]
)
def test_a_broken_benchmark_is_named(text, tmp_path):
    (tmp_path / "plots.tsv").write_text(text)
    with pytest.raises(ValueError, match=r"plots\.tsv: not a Snakemake benchmark file"):
        collect_costs(tmp_path)
