"""Costs from SLURM's accounting, on records of the test cluster and on single cells."""

from pathlib import Path

import polars as pl
import pytest

from weak_to_strong.cluster import slurm_costs as module
from weak_to_strong.cluster.slurm_costs import (
    ALLOCATIONS,
    SLURM_COSTS,
    cpu_seconds,
    find_runs,
    main,
    memory_mb,
    parse_sacct,
    render_costs,
    resources,
    rule_of,
    sacct_command,
    slurm_costs,
)
from weak_to_strong.jobs.costs import COSTS

#: What sacct of SLURM 22.05 printed in FIELDS for some jobs on the test cluster. The submit lines
#: are cut short.
RECORDS = Path(__file__).with_name("sacct_records.txt")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", None),
        ("0", 0.0),
        ("1048576", 1.0),
        ("1239376K", 1239376 / 1024),
        ("1000M", 1000.0),
        ("2G", 2048.0),
        ("1.50T", 1.5 * 2**20),
        ("4Gc", 4096.0),
    ],
)
def test_memory(text, expected):
    assert memory_mb(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("00:00.015", 0.015),
        ("01:02.500", 62.5),
        ("10:00:00", 36_000),
        ("2-01:00:01", 2 * 86_400 + 3601),
    ],
)
def test_durations(text, expected):
    assert cpu_seconds(text) == expected


def test_what_is_no_cell_of_sacct_is_refused():
    with pytest.raises(ValueError, match="'much' is not an amount of memory"):
        memory_mb("much")
    with pytest.raises(ValueError, match="'long' is not a duration"):
        cpu_seconds("long")


def test_resources():
    text = "billing=2,cpu=2,gres/gpu=1,mem=5600M,node=1"
    assert resources(text)["gres/gpu"] == "1"
    assert resources("") == {}


@pytest.mark.parametrize(
    ("comment", "line", "expected"),
    [
        ("rule_train_wildcards_a_b_seed-0_dpo_0", "", "train"),
        ("rule_sft_set_wildcards_a", "", "sft_set"),
        ("rule_metrics", "", "metrics"),
        ("", "sbatch --comment rule_generate_wildcards_a -p gpu", "generate"),
        ("", "sbatch --comment 'rule_generate_wildcards_a b' -p gpu", "generate"),
        ("", "sbatch --comment rule_metrics -p cpu", "metrics"),
        ("my own", "sbatch --comment my_own -p cpu", None),
        ("", "sbatch job.sh", None),
    ],
)
def test_the_rule_of_a_job(comment, line, expected):
    assert rule_of(comment, line) == expected


def line(**cells: str) -> str:
    """A line of sacct: a finished job of `train`, with these cells in place of its own."""
    usual = {
        "JobIDRaw": "7",
        "State": "COMPLETED",
        "Partition": "gpu",
        "NodeList": "gpu01",
        "Submit": "2026-11-24T06:20:00",
        "Start": "2026-11-24T06:20:30",
        "End": "2026-11-24T06:50:30",
        "ElapsedRaw": "1800",
        "CPUTimeRAW": "3600",
        "TotalCPU": "15:00.000",
        "AllocTRES": "billing=2,cpu=2,gres/gpu=4,mem=8G,node=1",
        "ReqMem": "8G",
        "MaxRSS": "",
        "Comment": "rule_train_wildcards_a",
        "SubmitLine": "sbatch",
    }
    return "\x1f".join({**usual, **cells}.values()) + "\n"


def step(**cells: str) -> str:
    return line(**{"JobIDRaw": "7.0", "Comment": "", **cells})


def test_a_job_has_the_largest_memory_of_its_steps():
    text = line() + step(JobIDRaw="7.batch", MaxRSS="10K") + step(MaxRSS="2G") + step(MaxRSS="1G")
    table = parse_sacct(text)
    assert table.schema == ALLOCATIONS
    (row,) = table.rows(named=True)
    assert (row["job"], row["rule"], row["gpus"]) == ("7", "train", 4)
    assert (row["peak_memory_mb"], row["requested_memory_mb"]) == (2048.0, 8192.0)


def test_a_job_that_has_not_started_has_no_times():
    table = parse_sacct(line(State="PENDING", Start="Unknown", End="Unknown", AllocTRES=""))
    (row,) = table.rows(named=True)
    assert (row["started"], row["ended"], row["gpus"]) == (None, None, 0)


def test_other_jobs_and_other_columns_are_refused():
    with pytest.raises(ValueError, match="job 7 names no rule"):
        parse_sacct(line(Comment="", SubmitLine="sbatch job.sh"))
    with pytest.raises(ValueError, match="3 columns, not 15"):
        parse_sacct("a\x1fb\x1fc\n")


NO_TOKENS = pl.DataFrame(schema=COSTS)


def test_costs_are_summed_by_rule_failures_included():
    text = line() + line(JobIDRaw="8", State="CANCELLED by 0", ElapsedRaw="900")
    text += line(
        JobIDRaw="9",
        Comment="rule_metrics",
        Partition="cpu",
        AllocTRES="billing=1,cpu=1,mem=2G,node=1",
        CPUTimeRAW="1800",
    )
    tokens = pl.DataFrame({"rule": ["train"], "trained_tokens": [3000]}).select(
        pl.lit(None).cast(kind).alias(name) if name not in ("rule", "trained_tokens") else name
        for name, kind in COSTS.items()
    )
    costs = slurm_costs(parse_sacct(text), tokens)
    assert costs.schema == SLURM_COSTS
    train, metrics, every = costs.rows(named=True)
    assert (train["rule"], train["jobs"], train["failed"]) == ("train", 2, 1)
    assert (train["wait_seconds"], train["wall_seconds"]) == (60, 2700)
    assert (train["gpu_hours"], train["cpu_hours"], train["cpu_used"]) == (3.0, 2.0, 0.25)
    assert (train["trained_tokens"], train["tokens_per_gpu_hour"]) == (3000, 1000.0)
    assert (metrics["rule"], metrics["gpu_hours"], metrics["trained_tokens"]) == (
        *("metrics", 0.0),
        None,
    )
    assert (every["rule"], every["jobs"], every["failed"]) == ("all rules", 3, 1)
    assert (every["gpu_hours"], every["trained_tokens"]) == (3.0, 3000)
    assert every["tokens_per_gpu_hour"] is None


def test_records_of_the_test_cluster():
    """Jobs that were cancelled, cut by the time limit, short of memory, lost with their node."""
    table = parse_sacct(RECORDS.read_text(encoding="utf-8"))
    ends = table.select("job", "rule", "state", "wall_seconds", "gpus").rows()
    assert ends == [
        ("1", "train", "CANCELLED", 4, 1),
        ("2", "train", "TIMEOUT", 28, 1),
        # Lost with their node, and queued again under the same numbers.
        ("3", "generate", "NODE_FAIL", 3, 1),
        ("4", "train", "NODE_FAIL", 3, 1),
        ("3", "generate", "FAILED", 6, 1),
        ("4", "train", "COMPLETED", 5, 1),
        ("5", "generate", "COMPLETED", 10, 1),
        ("6", "score", "COMPLETED", 2, 0),
    ]
    short, enough = table.filter(rule="generate", nodes="gpu01"), table.filter(job="5")
    assert short["peak_memory_mb"][0] > short["requested_memory_mb"][0] == 1000
    assert enough["peak_memory_mb"][0] < enough["requested_memory_mb"][0] == 2500
    train, generate, score, every = slurm_costs(table, NO_TOKENS).rows(named=True)
    assert (train["rule"], train["jobs"], train["failed"]) == ("train", 4, 3)
    assert (generate["rule"], generate["jobs"], generate["failed"]) == ("generate", 3, 2)
    assert (score["rule"], score["jobs"], score["gpu_hours"]) == ("score", 1, 0.0)
    assert train["gpu_hours"] == pytest.approx((4 + 28 + 3 + 5) / 3600)
    assert every["gpu_hours"] == pytest.approx((4 + 28 + 3 + 3 + 6 + 5 + 10) / 3600)
    assert every["failed"] == 5


def log(folder: Path, day: str, run: str | None, experiment: str) -> None:
    lines = ["Building DAG of jobs..."]
    if run:
        lines.append(f"SLURM run ID: {run}")
    lines.append(f"Experiment: {experiment}")
    (folder / f"{day}T062254.022620.snakemake.log").write_text("\n".join(lines) + "\n")


def test_runs_are_found_in_the_logs(tmp_path):
    log(tmp_path, "2026-11-23", "first", "mine")
    log(tmp_path, "2026-11-24", "second", "mine")
    log(tmp_path, "2026-11-22", "other", "mine_too")
    log(tmp_path, "2026-11-21", None, "mine")
    assert find_runs("mine", tmp_path) == (["first", "second"], "2026-11-23")
    with pytest.raises(ValueError, match="no run on SLURM of experiment 'yours'"):
        find_runs("yours", tmp_path)


def test_the_command_asks_for_all_records_of_the_runs():
    command = sacct_command(["first", "second"], "2026-11-23")
    assert command[0] == "sacct"
    assert {"--name=first,second", "--starttime=2026-11-23", "--duplicates"} <= set(command)


def test_the_table_as_text():
    text = render_costs(slurm_costs(parse_sacct(line()), NO_TOKENS)).splitlines()
    assert text[0].split()[:3] == ["rule", "jobs", "failed"]
    assert text[1].split()[:7] == ["train", "1", "0", "30", "1,800", "2.000", "1.000"]
    assert text[-1].startswith("all rules")


def test_bad_input_ends_with_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["mine"]) == 1
    assert main(["mine", "--runs", "first"]) == 1
    monkeypatch.setattr(module, "sacct_command", lambda *_: ["no-such-command"])
    assert main(["mine", "--runs", "first", "--since", "2026-11-23"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert [text.partition(":")[0] for text in lines] == [".snakemake/log", "--since", "sacct"]
