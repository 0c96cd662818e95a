"""The pages for readers show what their files say, and name only what exists."""

import importlib.util
import json
import re
import shutil
import textwrap
from pathlib import Path

import polars as pl
import pytest
import yaml

from weak_to_strong.evaluation.evaluated_models import EVALUATED_MODELS
from weak_to_strong.experiment.configuration import load_configuration
from weak_to_strong.report.compared_models import COMPARED_MODELS
from weak_to_strong.tables.frames import read_csv
from weak_to_strong.tables.schemas import METRICS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
ARCHITECTURE = ROOT / "docs/architecture.md"
PAGES = sorted(
    [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
    + [file for name in ("docs", "config", "benchmarks") for file in (ROOT / name).glob("*.md")]
    + [file for name in ("resources", "tests/bad_inputs") for file in (ROOT / name).rglob("*.md")]
)
PACKAGE = ROOT / "scripts/weak_to_strong"


def load_script(name):
    """A script of docs/ as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"docs/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


update, picture = load_script("update"), load_script("picture")


def name_of(page):
    return str(page.relative_to(ROOT))


def prose(page):
    """The text of a page without its blocks of code."""
    return re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


def anchors(page):
    """The anchors that GitHub gives to the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", prose(page), flags=re.M)
    titles = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title).lower() for title in titles]
    return {re.sub(r"[^\w\- ]", "", title).strip().replace(" ", "-") for title in titles}


def links(page):
    """Relative links of a page as (path or "", anchor or "")."""
    targets = re.findall(r"\]\((?!https?:)([^)\s]+)\)", prose(page))
    return sorted({target.partition("#")[::2] for target in targets})


def modules_named(text):
    """Modules in a text: `package/module.py`, with or without the folders before it."""
    return set(re.findall(r"`(?:scripts/weak_to_strong/)?([a-z]\w+/\w+\.py)`", text))


def rules():
    """Name of each rule -> the text of its body."""
    bodies = {}
    for file in [ROOT / "Snakefile", *(ROOT / "rules").glob("*.smk")]:
        for body in re.split(r"^rule ", file.read_text(encoding="utf-8"), flags=re.M)[1:]:
            bodies[body.split(":")[0]] = body
    return bodies


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_quoted_results_are_those_of_their_files(page):
    text = page.read_text(encoding="utf-8")
    assert update.insert_files(text, ROOT) == text


def test_a_block_is_filled_from_its_file(tmp_path):
    (tmp_path / "a.txt").write_text("1\n")
    text = update.insert_files("x\n<!-- begin a.txt -->\nold\n<!-- end -->\ny", tmp_path)
    assert text == "x\n<!-- begin a.txt -->\n\n```text\n1\n```\n\n<!-- end -->\ny"


def test_the_recorded_table_of_methods_is_that_of_its_csv():
    models = read_csv(ROOT / "docs/results/methods_models.csv", COMPARED_MODELS)
    table = (ROOT / "docs/results/methods_models.md").read_text(encoding="utf-8")
    assert table == update.models_table(models)
    accuracies = re.findall(r"^\| [^|]+ \| ([\d.]+)", table, flags=re.M)
    assert len(accuracies) == models.height > 20
    assert accuracies == sorted(accuracies, key=float, reverse=True)


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").splitlines()) <= 140


def test_the_picture_of_the_readme_is_small():
    assert (ROOT / "docs/images/report.png").stat().st_size < 150_000


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium")
def test_a_picture_is_taken_from_a_page(tmp_path):
    page = tmp_path / "index.html"
    page.write_text("<h1>Report</h1>")
    picture.take_picture(page, tmp_path / "new" / "report.png")
    assert (tmp_path / "new" / "report.png").read_bytes().startswith(b"\x89PNG")


def test_a_missing_report_ends_in_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(picture.shutil, "which", lambda name: name)
    with pytest.raises(SystemExit, match=r"^.*index.html is missing: make the report first .*$"):
        picture.main([str(tmp_path / "index.html")])


def section(title):
    return README.read_text(encoding="utf-8").partition(f"## {title}")[2].partition("\n## ")[0]


def recorded(experiment):
    """Each model of a recorded table of results -> the cells of its row; and the table after it."""
    text = (ROOT / f"docs/results/{experiment}.txt").read_text(encoding="utf-8")
    results, compared, *_ = text.split("\n\n")
    rows = (re.split(r" {2,}", row.strip()) for row in results.splitlines()[2:])
    return {row[0]: row for row in rows}, compared


def accuracy(row):
    return float(row[3].split()[0])


def quoted_row(start):
    (line,) = re.findall(rf"^\| {start} .*$", section("The result"), flags=re.M)
    return [float(cell) for cell in re.findall(r"\| (\d+\.\d) ", line)]


def test_the_readme_says_what_the_demo_prints():
    results, _ = recorded("demo")
    methods = ["weak", "full_weak", "weak_icl", "hybrid_ft 1", "ceiling"]
    quoted = [float(figure) for figure in re.findall(r"(\d+\.\d)%", section("Quickstart"))]
    assert quoted == [accuracy(results[method]) for method in methods]


def test_the_accuracies_of_the_readme_are_those_of_the_study():
    results, _ = recorded("study")
    stages = ["weak", "full_weak", "weak_icl", "hybrid_ft 1", "hybrid_ft 2"]
    methods = [*stages, "dpo", "orpo", "ceiling"]
    assert quoted_row("%") == [accuracy(results[method]) for method in methods]
    percents = re.findall(r"recovers (\d+)%", " ".join(section("The result").split()))
    recovered = [results[method][-1].split()[0] for method in ("hybrid_ft 1", "full_weak")]
    assert percents == [f"{100 * float(value):.0f}" for value in recovered]


def test_the_detectable_gains_of_the_readme_are_those_of_the_study():
    results, compared = recorded("study")
    detectable = {
        tuple(re.split(r" {2,}", row.strip())[:3:2]): float(row.split()[-1])
        for row in compared.splitlines()[1:]
    }
    steps = [
        ("full_weak", "weak"),
        ("hybrid_ft 1", "weak_icl"),
        ("hybrid_ft 2", "hybrid_ft 1"),
        ("dpo", "hybrid_ft 2"),
        ("orpo", "hybrid_ft 2"),
    ]
    expected = [detectable[step] for step in steps]
    # In-context answers are compared with full weak fine-tuning in the first table.
    expected.insert(1, float(results["weak_icl"][-2]))
    assert quoted_row("least gain") == expected


def test_the_configuration_of_the_readme_passes_every_check(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.S)
    config = yaml.safe_load(textwrap.dedent(block))
    row = {"prompt": "1 + 1?", "rationale": "1 + 1 = 2.", "final": "2"}
    (tmp_path / "data").mkdir()
    for split in config["tasks"]["sums"]["splits"].values():
        (tmp_path / split["path"]).write_text(json.dumps(row) + "\n", encoding="utf-8")
    small = shutil.copytree(ROOT / "resources/embedded/study_weak", tmp_path / "models/small")
    facts = json.loads((small / "config.json").read_text())
    (small / "config.json").write_text(json.dumps({**facts, "max_position_embeddings": 2048}))
    assert load_configuration(config)["experiment"] == "mine"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_and_their_anchors_lead_somewhere(page):
    for path, anchor in links(page):
        target = (page.parent / path) if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_files_named_on_a_page_exist(page):
    folders = "benchmarks|config|docs|envs|profiles|requirements|resources|rules|scripts|tests"
    named = re.findall(rf"`((?:{folders})/[\w./+-]*)`", prose(page))
    invented = {"config/mine.yaml", "data/train_1.jsonl"}
    assert [path for path in named if path not in invented and not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_modules_named_on_a_page_exist(page):
    packages = {folder.name for folder in PACKAGE.iterdir() if folder.is_dir()}
    named = {name for name in modules_named(prose(page)) if name.split("/")[0] in packages}
    assert {name for name in named if not (PACKAGE / name).is_file()} == set()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_make_targets_named_on_a_page_exist(page):
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text("utf-8"), flags=re.M)
    named = re.findall(r"(?:`|^)make ([a-z][a-z0-9-]+)", page.read_text("utf-8"), flags=re.M)
    assert set(named) <= set(targets)


def test_the_table_of_steps_names_every_rule_and_module_right():
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("## Where each step")[2].partition("\n## ")[0]
    rows = [row.split("|") for row in table.splitlines() if row.startswith("| ")][1:]
    assert len(rows) > 10
    for row in rows:
        assert set(re.findall(r"`(\w+)`", row[2])) <= set(rules()), row[1]
        assert modules_named(row[3]), row[1]


def test_the_table_of_packages_names_all_in_their_order():
    import weak_to_strong

    order = [
        line.split()[0] for line in weak_to_strong.__doc__.split("\n\n")[2].splitlines() if line
    ]
    text = ARCHITECTURE.read_text(encoding="utf-8")
    table = text.partition("## The packages")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.M) == order


def names_in_tables(section):
    """For each table of a section, the names in code in its first column."""
    tables = re.split(r"^\|[- |]+\|$", section, flags=re.M)[1:]
    return [re.findall(r"`(\w+)`", " ".join(re.findall(r"^\|(.*?)\|", t, re.M))) for t in tables]


def test_the_tables_of_columns_name_all_in_their_order():
    text = (ROOT / "docs/reading_the_report.md").read_text(encoding="utf-8")
    section = text.partition("### Columns of metrics.csv")[2]
    metrics, _, models = section.partition("### Columns of models.csv")
    columns, figures = names_in_tables(metrics)
    assert columns == list(METRICS)
    # The demo has samples, and the comparison of methods has several seeds.
    recorded = [ROOT / f"docs/results/{name}.csv" for name in ("demo", "methods")]
    assert {*pl.concat(read_csv(file, METRICS) for file in recorded)["metric"]} == {*figures}
    assert names_in_tables(models.partition("\n## ")[0]) == [list(EVALUATED_MODELS)]


def test_every_rule_with_a_script_has_its_name():
    for rule, body in rules().items():
        script = re.search(r'"\.\./scripts/(\w+)\.py"', body)
        assert not script or script[1] == rule
