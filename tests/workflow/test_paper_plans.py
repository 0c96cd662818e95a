"""Plans of the paper's experiments: a dry run needs no GPU, network or model file."""

import re

import pytest
import yaml
from project import ROOT, jobs

from weak_to_strong.experiment.configuration import complete
from weak_to_strong.experiment.graph import Graph

pytestmark = pytest.mark.slow


@pytest.fixture
def plan(monkeypatch):
    """The command docs/plan.py."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import plan

    return plan


def dry_run(project, config):
    """Jobs by rule, and keys of the generation rounds, of a configuration that was never run."""
    completed = project.snakemake("--dry-run", config=config)
    assert completed.returncode == 0, completed.stderr[-3000:]
    assert not project.path("results").exists()
    output = completed.stdout + completed.stderr
    matches = (re.fullmatch(r"Generation round (\S+)", message) for message in jobs(output))
    return output, {match[1] for match in matches if match}


@pytest.mark.parametrize("name", ["gsm8k", "math", "olympicarena", "all"])
def test_a_paper_experiment_resolves_to_the_jobs_of_its_plan(fresh_project, plan, name):
    output, rounds = dry_run(fresh_project, f"config/paper/{name}.yaml")
    recorded = {
        row["rule"]: int(row["jobs"])
        for row in plan.read_csv(plan.JOBS_FILE)
        if row["experiment"] == name
    }
    assert plan.read_jobs(output) == recorded, "docs/plan.csv is out of date: `make plan`"
    (row,) = [row for row in plan.read_csv(plan.PLAN_FILE) if row["experiment"] == name]
    assert int(row["jobs"]) == recorded["total"]
    config = yaml.safe_load((ROOT / f"config/paper/{name}.yaml").read_text(encoding="utf-8"))
    assert rounds == {round_.key for round_ in Graph(complete(config)).rounds()}


def test_the_study_with_smollm2s_chat_template_resolves(fresh_project):
    _, rounds = dry_run(fresh_project, "config/smollm2_chat.yaml")
    config = yaml.safe_load((ROOT / "config/smollm2_chat.yaml").read_text(encoding="utf-8"))
    graph = Graph(complete(config))
    assert rounds == {round_.key for round_ in graph.rounds()}
    requests = [part for round_ in graph.rounds() for part in graph.round_requests(round_)]
    assert all(request["chat"]["system"] and request["stop"] == [] for request in requests)
    # It differs from the plain study in what concerns the prompt alone.
    plain = yaml.safe_load((ROOT / "config/smollm2.yaml").read_text(encoding="utf-8"))
    assert config["models"]["smollm2"] == plain["models"]["smollm2"]
    assert config["tasks"]["gsm_embedded"]["splits"] == plain["tasks"]["gsm_embedded"]["splits"]
    assert config["methods"] == plain["methods"]


def test_rounds_of_the_demo_are_those_of_its_graph(fresh_project):
    _, rounds = dry_run(fresh_project, "config/config.yaml")
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text(encoding="utf-8"))
    graph = Graph(complete(config))
    assert rounds == {round_.key for round_ in graph.rounds()}
    assert len(rounds) == len(graph.rounds())
