"""The paper's tables: published figures as they are, reproduced ones only where they were run."""

from __future__ import annotations

import math
import re
import runpy
from itertools import product
from pathlib import Path

import polars as pl
import pytest
import report_examples as examples
import yaml
from hypothesis import given
from hypothesis import strategies as st
from rule_scripts import rule_job, script_main

from weak_to_strong.data.contamination import CONTAMINATION
from weak_to_strong.evaluation.diagnostics import DIAGNOSTICS
from weak_to_strong.experiment.configuration import ConfigError, check_references, complete
from weak_to_strong.paper.published_results import (
    ENUMERATIONS,
    NOT_STATED,
    PUBLISHED,
    PUBLISHED_KEY,
    check_names,
    check_published,
    known_names,
    read_published,
)
from weak_to_strong.report.display_text import fixed_decimals
from weak_to_strong.report.names import MetricValue
from weak_to_strong.report.paper_cells import (
    NOT_MEASURED,
    NOT_RUN,
    PAPER_TABLE,
    STATISTICS,
    Cell,
    Key,
    table_frame,
)
from weak_to_strong.report.paper_plots import PAPER_FIGURES, comparison_figure
from weak_to_strong.report.paper_reproduced import reproduced_figures
from weak_to_strong.report.paper_tables import TABLES, paper_tables
from weak_to_strong.report.text_tables import escape_latex, escape_markdown, latex, markdown
from weak_to_strong.tables.schemas import METRICS

ROOT = Path(__file__).parents[2]
PUBLISHED_FIGURES = read_published()
NOTHING = paper_tables(PUBLISHED_FIGURES)
#: The made-up run of report_examples, as a run of one of the paper's chains.
NAMES = {"tasks": {"sums": "GSM8K"}, "models": {"tiny": "Gemma-2b", "small": "Llama-2-70b"}}
GEMMA = Key("GSM8K", "Gemma-2b", "Llama-2-70b", "hybrid_ft", 2)


def figures(names=NAMES, metrics=None, diagnostics=None, contamination=None):
    return reproduced_figures(
        PUBLISHED_FIGURES,
        names,
        examples.metrics() if metrics is None else metrics,
        pl.DataFrame(schema=DIAGNOSTICS) if diagnostics is None else diagnostics,
        contamination or {},
    )


def rows(table, **where):
    """Rows of a table's CSV."""
    return table_frame(table).filter(**where).to_dicts()


class TestPublishedFigures:
    def test_columns_and_enumerations(self):
        header = (ROOT / "resources/published_results.csv").read_text().splitlines()[0]
        assert header.split(",") == list(PUBLISHED)
        for column, values in ENUMERATIONS.items():
            assert set(PUBLISHED_FIGURES[column]) == set(values)
        data = PUBLISHED_FIGURES.filter(table="data")
        assert set(data["metric"]) <= set(STATISTICS)
        others = PUBLISHED_FIGURES.filter(pl.col("table") != "data")
        assert set(others["metric"]) == {"accuracy", "pass_at_k", "accuracy_difference"}

    def test_each_figure_stands_there_once(self):
        assert PUBLISHED_FIGURES.select(PUBLISHED_KEY).is_unique().all()

    def test_percentages_are_whole_numbers_of_right_answers(self):
        """So that a digit misread by eye would show; there is no exception."""
        shares = PUBLISHED_FIGURES.filter(unit="percent")
        assert set(shares.select("task", "n").unique().rows()) == {
            ("GSM8K", 1319),
            ("MATH", 500),
            ("OlympicArena", 313),
        }
        for row in shares.iter_rows(named=True):
            right = round(row["value"] * row["n"] / 100)
            assert round(100 * right / row["n"], 2) == row["value"], row

    def test_counts_by_level_add_up_to_the_accuracy(self):
        """No exception."""
        levels = PUBLISHED_FIGURES.filter(pl.col("level").is_not_null(), metric="accuracy")
        sums = levels.group_by("weak", "method").agg(pl.col("value", "n").sum())
        assert sums.height == 10
        for weak, method, right, n in sums.rows():
            (accuracy,) = PUBLISHED_FIGURES.filter(
                pl.col("level").is_null(), task="MATH", weak=weak, method=method, metric="accuracy"
            )["value"]
            assert (right, n) == (accuracy * 500 / 100, 500)

    def test_counts_of_the_data_fit_each_other(self):
        counts = {
            tuple(row[:-1]): row[-1]
            for row in PUBLISHED_FIGURES.filter(table="data")
            .select("task", "weak", "metric", "iteration", "level", "value")
            .rows()
        }
        for split in ("train_1", "train_2"):
            parts = [counts["GSM8K", "none", f"{split}_{part}", 0, None]
                     for part in ("original", "augmented")]  # fmt: skip
            assert sum(parts) == counts["GSM8K", "none", split, 0, None]
        levels = [counts["MATH", "none", "test", 0, level] for level in "12345"]
        assert sum(levels) == counts["MATH", "none", "test", 0, None]
        for key, value in counts.items():
            if key[2] == "hybrid_rows":
                kept = (*key[:2], "kept", *key[3:])
                released = (*key[:2], "kept_released", *key[3:])  # of padded sets
                assert value == 2 * counts.get(released, counts[kept])

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"unit": pl.lit("euro")}, "line 2: unit"),
            ({"confidence": pl.lit(None, pl.String)}, "line 2: confidence"),
            ({"value": pl.col("value") + 200}, "line 2: value"),
            ({"value": pl.lit(float("nan"))}, "line 2: value"),
            ({"n": pl.lit(0, pl.Int32)}, "line 2: "),
            ({"source": pl.lit(None, pl.String)}, "line 2: empty cell"),
            ({"weak": pl.lit("x")}, "line 2: repeated figure"),
        ],
    )
    def test_a_wrong_line_is_named(self, change, expected):
        two = PUBLISHED_FIGURES.filter(method="weak", metric="accuracy", task="GSM8K").head(2)
        check_published(two)
        with pytest.raises(ValueError, match=expected) as caught:
            check_published(two.with_columns(**change), "file.csv")
        assert str(caught.value).startswith("file.csv: line 2: ")


class TestNames:
    @pytest.fixture
    def demo(self, monkeypatch):
        monkeypatch.chdir(ROOT)
        return yaml.safe_load((ROOT / "config/config.yaml").read_text())

    def test_the_key_is_part_of_the_configuration(self, demo):
        demo["tasks"]["gsm_embedded"]["paper"] = "GSM8K"
        demo["models"]["tiny_weak"]["paper"] = "Llama-2-7b"
        check_references(complete(demo))

    @pytest.mark.parametrize(
        ("section", "own", "paper"),
        [("tasks", "gsm_embedded", "GSM9K"), ("models", "tiny_weak", "none")],
    )
    def test_an_unknown_name_ends_with_one_line_that_names_the_key(self, demo, section, own, paper):
        demo[section][own]["paper"] = paper
        with pytest.raises(ConfigError) as caught:
            check_references(complete(demo))
        message = str(caught.value)
        assert message.startswith(f"config key `{section}.{own}.paper`: ")
        assert f"`{paper}`" in message
        assert known_names(PUBLISHED_FIGURES)[section][0] in message
        assert "\n" not in message

    def test_two_models_cannot_be_the_same_one(self):
        names = {"tasks": {}, "models": {"a": "Gemma-2b", "b": "Gemma-2b"}}
        with pytest.raises(ValueError, match=r"`models\.b\.paper`: `models\.a` is `Gemma-2b`"):
            check_names(names, PUBLISHED_FIGURES)

    def test_known_names_leave_out_what_is_no_model(self):
        known = known_names(PUBLISHED_FIGURES)
        assert known["tasks"] == ["GSM8K", "MATH", "OlympicArena"]
        assert not {"none", NOT_STATED} & set(known["models"])

    @pytest.mark.parametrize("file", sorted((ROOT / "config").rglob("*.yaml")), ids=str)
    def test_shipped_configurations_name_what_there_is(self, file):
        config = yaml.safe_load(file.read_text())
        if not {"tasks", "models"} <= config.keys():
            pytest.skip("not an experiment")
        known = known_names(PUBLISHED_FIGURES)
        for section in ("tasks", "models"):
            given = {entry["paper"] for entry in config[section].values() if "paper" in entry}
            assert given <= set(known[section])


class TestNothingRun:
    @pytest.mark.parametrize("name", TABLES)
    def test_no_cell_is_filled_in(self, name):
        frame = table_frame(NOTHING[name])
        assert frame.schema == PAPER_TABLE
        assert frame.height > 0
        assert set(frame["reproduced"]) <= {NOT_RUN, NOT_MEASURED}
        numbers = [column for column in PAPER_TABLE if column.startswith(("difference", "two_"))]
        numbers += ["reproduced_low", "reproduced_high", "reproduced_n"]
        assert frame.select(pl.all_horizontal(pl.col(numbers).is_null())).to_series().all()
        assert "difference |" not in markdown(NOTHING[name])

    def test_every_published_figure_is_in_a_table(self):
        shown = {cell.key for table in NOTHING.values() for cell in table.cells if cell.published}
        keys = {Key(*row) for row in PUBLISHED_FIGURES.select(PUBLISHED_KEY).iter_rows()}
        assert keys == shown

    def test_only_counts_of_the_data_are_not_measured(self):
        for name, table in NOTHING.items():
            states = {cell.state for cell in table.cells}
            assert states == ({NOT_RUN, NOT_MEASURED} if name == "data" else {NOT_RUN})

    def test_what_was_not_published_is_a_dash(self):
        second = rows(NOTHING["stage1"], task="MATH", iteration=2)
        assert [row["published"] for row in second] == [None] * 9
        assert {row["reproduced"] for row in second} == {NOT_RUN}


class TestReproduced:
    def test_the_configured_chain_and_no_other(self):
        """The ceiling, which has no weak model, belongs to all chains of its task."""
        frame = table_frame(paper_tables(PUBLISHED_FIGURES, figures())["main"])
        run = frame.filter(pl.col("reproduced") != NOT_RUN)
        assert set(run["task"]) == {"GSM8K"}
        assert set(run["weak"]) == {"Gemma-2b", "none"}
        assert run.height == 7

    def test_difference_with_the_shifted_interval(self):
        """0.48 with (0.44, 0.52) against 56.03."""
        table = paper_tables(PUBLISHED_FIGURES, figures())["main"]
        (row,) = rows(table, task="GSM8K", weak="Gemma-2b", method="hybrid_ft")
        assert (row["published"], row["reproduced"], row["iteration"]) == (56.03, "48", 2)
        ends = [row[f"difference{end}"] for end in ("", "_low", "_high")]
        assert ends == pytest.approx([-8.03, -12.03, -4.03])
        assert row["reproduced_n"] == 200

    def test_two_sample_interval(self):
        """Newcombe (1998), example of table II: 56/70 - 48/80, 0.0524 to 0.3339."""
        published = {"value": 60.0, "unit": "percent", "n": 80}
        z = 1.959964
        ends = [
            100 * (0.8 + z**2 / 140 + sign * z * math.sqrt(0.16 / 70 + z**2 / 19600))
            / (1 + z**2 / 70)
            for sign in (-1, 1)
        ]  # fmt: skip
        cell = Cell(GEMMA, published, MetricValue(80.0, *ends, 70))
        assert cell.two_sample == pytest.approx((5.24, 33.39), abs=0.01)

    def test_a_count_is_compared_as_a_share(self):
        published = {"value": 30.0, "unit": "count", "n": 40}
        cell = Cell(GEMMA._replace(level="1"), published, MetricValue(50.0, 40.0, 60.0, 10))
        assert cell.difference == (-25.0, -35.0, -15.0, 10)

    def test_without_an_interval_there_is_only_the_difference(self):
        cell = Cell(
            GEMMA, {"value": 40.0, "unit": "percent", "n": 50}, MetricValue(41.5, None, None, 9)
        )
        assert cell.difference == (1.5, None, None, 9)
        assert cell.two_sample is None

    def test_only_the_papers_scorer_and_the_test_split(self):
        left_out = [
            examples.metric(0.9, scorer="math", method="hybrid_ft", iteration=2),
            examples.metric(0.9, split="validation", method="hybrid_ft", iteration=2),
            examples.metric(0.9, split="validation/level=1", method="hybrid_ft", iteration=2),
            examples.metric(0.9, "maj_at_k", method="hybrid_ft", iteration=2),
        ]
        assert figures(metrics=pl.DataFrame(left_out, schema=METRICS)) == {}

    def test_several_seeds_count_as_their_summary(self):
        seeds = [examples.metric(0.2 + seed / 10, seed=seed) for seed in (0, 1)]
        assert figures(metrics=pl.DataFrame(seeds, schema=METRICS)) == {}
        seeds.append(examples.metric(0.25, seed=-1, n=400))
        (value,) = figures(metrics=pl.DataFrame(seeds, schema=METRICS)).values()
        assert (value.value, value.n) == (25, 400)

    def test_another_iteration_does_not_stand_in_for_the_published_one(self):
        metrics = examples.metrics([m for m in examples.MODELS if m[2] != 2])
        table = paper_tables(PUBLISHED_FIGURES, figures(metrics=metrics))["main"]
        for method in ("weak_ft", "icl_ft", "hybrid_ft"):
            (row,) = rows(table, task="GSM8K", weak="Gemma-2b", method=method)
            assert (row["iteration"], row["reproduced"]) == (2, NOT_RUN)

    def test_a_published_ablation_finds_the_variant_of_its_name(self):
        metrics = examples.metrics([("weak_icl@careful", "baseline", 0, 0.6)])
        table = paper_tables(PUBLISHED_FIGURES, figures(metrics=metrics))["ablations"]
        (row,) = rows(table, method="weak_icl@careful")
        assert (row["published"], row["reproduced"]) == (64.06, "60")

    def test_counts_of_the_data(self):
        def row(kind, method, name, value, n, iteration=1, seed=0):
            columns = {"method": method, "iteration": iteration, "seed": seed}
            return examples.diagnostic(kind, name, value, n, ci_low=0.1, ci_high=0.9, **columns)

        diagnostics = pl.DataFrame(
            [
                row("labels", "weak", "accuracy", 0.35, 1000),
                row("labels", "weak", "accuracy", 0.50, 1000, iteration=2),
                row("filter", "agreement", "kept", 0.4, 1000),
                row("filter", "agreement", "kept", 0.6, 1000, seed=1),
                row("filter", "agreement@padded", "kept", 0.9, 1000),
                row("filter", "agreement", "precision", 0.75, 400),
                row("pairs", "dpo", "questions", 140, 150, iteration=0),
                row("pairs", "dpo", "questions", 150, 171, iteration=0, seed=1),
                row("pairs", "dpo@own_samples", "questions", 1, 2, iteration=0),
                row("pairs", "orpo", "questions", 3, 4, iteration=0),
            ],
            schema=DIAGNOSTICS,
        )
        contamination = pl.DataFrame(
            [
                ("exact", "train_2", "train_1", 5, 1000, ""),
                ("exact", "train_1", "train_2", 5, 900, ""),
                ("removed", "train_1", "", 10, 900, ""),
                ("removed", "train_2", "", 0, 1000, ""),
                ("removed", "validation", "", 0, 7, ""),
            ],
            schema=CONTAMINATION,
            orient="row",
        )
        figure_of = figures({}, pl.DataFrame(schema=METRICS), diagnostics, {"sums": contamination})
        values = {(key.metric, key.iteration, key.strong): tuple(value) for key, value in
                  figure_of.items()}  # fmt: skip
        assert values == {
            ("train_1", 0, "none"): (890, None, None, 0),
            ("train_2", 0, "none"): (1000, None, None, 0),
            ("train_2_in_train_1", 0, "none"): (0.5, None, None, 1000),
            ("weak_right", 1, "none"): pytest.approx((35, 10, 90, 1000)),
            ("kept", 1, "small"): (50, None, None, 2000),
            ("kept_right", 1, "small"): pytest.approx((75, 10, 90, 400)),
            ("pairs", 0, "small"): (160.5, None, None, 0),
            ("pair_questions", 0, "small"): (145, None, None, 0),
        }


class TestStudyOfItsOwn:
    TABLES = paper_tables(PUBLISHED_FIGURES, figures({}))

    def test_it_has_the_papers_tables_with_its_own_rows(self):
        for name in ("main", "stage1", "stage2", "levels", "pass_at_k"):
            own = rows(self.TABLES[name], task="sums")
            assert own, name
            assert {row["published"] for row in own} == {None}
            assert NOT_RUN not in {row["reproduced"] for row in own if not row["level"]}
            assert not rows(NOTHING[name], task="sums")

    def test_own_rows_have_no_published_line(self):
        lines = markdown(self.TABLES["main"]).splitlines()
        place = next(at for at, line in enumerate(lines) if "| sums |" in line)
        assert "reproduced | 25.0 [21.0, 29.0] |" in lines[place]
        assert lines[place + 1] == ""

    def test_a_level_that_the_task_lacks_has_no_row(self):
        assert {row["level"] for row in rows(self.TABLES["levels"], task="sums")} == {
            "1",
            "2",
            None,
        }

    def test_a_published_name_alone_does_not_make_a_task_the_papers(self):
        metrics = examples.metrics(task="GSM8K", weak="Gemma-2b", strong="Llama-2-70b")
        keys = figures({}, metrics).keys()
        assert {key.task for key in keys} == {"GSM8K (own)"}
        assert "Gemma-2b (own)" in {key.weak for key in keys}

    def test_added_methods_are_ablations(self):
        metrics = examples.metrics(
            [("dpo_tau08", "stage2", 0, 0.5), ("dpo@tau_08", "stage2", 0, 0.4)]
        )
        table = paper_tables(PUBLISHED_FIGURES, figures({}, metrics))["ablations"]
        methods = {row["method"] for row in rows(table, task="sums")}
        assert methods == {"dpo_tau08", "dpo@tau_08"}


def unescaped(text):
    """LaTeX special characters that stand for themselves."""
    return re.sub(r"\\(?:[\\{}$&#%_~^]|[a-zA-Z]+(?:\{\})?)", "", text)


class TestText:
    TABLES = paper_tables(PUBLISHED_FIGURES, figures())

    @pytest.mark.parametrize(("name", "run"), [*product(TABLES, (False, True))])
    def test_latex_is_balanced_and_rectangular(self, name, run):
        text = latex((self.TABLES if run else NOTHING)[name])
        assert text.isascii()
        stack = []
        for kind, environment in re.findall(r"\\(begin|end)\{(\w+)\}", text):
            if kind == "begin":
                stack.append(environment)
            else:
                assert stack.pop() == environment
        assert stack == []
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}")
        assert text.count("$") % 2 == 0
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
        body = text.partition("\\toprule\n")[2].partition("\\bottomrule")[0]
        lines = [line for line in body.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 1
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {columns}
        assert all(text.count(rule) == 1 for rule in (r"\toprule", r"\midrule", r"\bottomrule"))

    @pytest.mark.parametrize(("name", "run"), [*product(TABLES, (False, True))])
    def test_markdown_is_rectangular(self, name, run):
        text = markdown((self.TABLES if run else NOTHING)[name])
        lines = [line for line in text.splitlines() if line.startswith("|")]
        widths = {len(re.findall(r"(?<!\\)\|", line)) for line in lines}
        assert len(widths) == 1
        assert set(lines[1]) <= set("|-: ")

    def test_published_digits_and_marks(self):
        text = markdown(NOTHING["stage2"])
        assert "| 56.03 | 64.52† | 63.91† | 71.95 |" in text
        assert "a dagger marks" in text
        assert "a dagger marks" not in markdown(NOTHING["main"])
        assert "34.88 (15/43)" in markdown(NOTHING["levels"])

    def test_intervals(self):
        assert "48.0 [44.0, 52.0]" in markdown(self.TABLES["main"])
        assert "−8.0 [−12.0, −4.0]" in markdown(self.TABLES["main"])  # noqa: RUF001
        assert "$48.0^{+4.0}_{-4.0}$" in latex(self.TABLES["main"])
        assert "$-8.0^{+4.0}_{-4.0}$" in latex(self.TABLES["main"])

    @given(st.text())
    def test_latex_escapes_whatever_comes(self, text):
        escaped = escape_latex(text)
        assert "\n" not in escaped
        assert not re.search(r'[&#%_~^<>|"]', unescaped(escaped))

    def test_latex_escapes_each_special_once(self):
        assert escape_latex(r"50% of a_b & {c}\d~") == (
            r"50\% of a\_b \& \{c\}\textbackslash{}d\textasciitilde{}"
        )

    @given(st.text())
    def test_a_markdown_cell_stays_one_cell(self, text):
        escaped = escape_markdown(text)
        assert "\n" not in escaped
        assert not re.search(r"[|*_`<>\[\]]", re.sub(r"\\.", "", escaped))

    def test_numbers(self):
        assert fixed_decimals(-0.04, 1, signed=True) == "0.0"
        assert fixed_decimals(1.25, 1, signed=True) == "+1.2"
        assert fixed_decimals(-1.26, 1) == "\N{MINUS SIGN}1.3"


class TestFiguresAndScripts:
    @pytest.mark.parametrize("name", PAPER_FIGURES)
    def test_a_figure_says_what_was_not_run(self, name):
        from matplotlib.text import Text

        figure = comparison_figure(NOTHING[name])
        shown = [text.get_text() for text in figure.findobj(Text)]
        assert shown.count(NOT_RUN) == len(NOTHING[name].cells)

    def test_a_figure_marks_no_reproduced_cell_as_not_run(self):
        from matplotlib.text import Text

        table = paper_tables(PUBLISHED_FIGURES, figures())["main"]
        shown = [text.get_text() for text in comparison_figure(table).findobj(Text)]
        run = sum(cell.reproduced is not None for cell in table.cells)
        assert shown.count(NOT_RUN) == len(table.cells) - run

    def test_the_rules_name_every_table_and_figure(self):
        text = (ROOT / "rules/paper.smk").read_text()
        constants = {
            name: tuple(re.findall(r'"(\w+)"', listed))
            for name, listed in re.findall(r"^(PAPER_\w+) = \((.*?)\)$", text, re.M | re.S)
        }
        assert constants == {"PAPER_TABLES": tuple(TABLES), "PAPER_FIGURES": PAPER_FIGURES}

    @pytest.mark.parametrize("rule", ["paper", "published_tables"])
    def test_the_scripts_write_every_file(self, rule, tmp_path):
        drawn = ("olympicarena",)
        kinds = {"csv": TABLES, "md": TABLES, "tex": TABLES, "svg": drawn, "png": drawn}
        output = {
            f"{name}_{kind}": str(tmp_path / f"{name}.{kind}")
            for kind, names in kinds.items()
            for name in names
            if rule == "paper" or kind not in ("svg", "png")
        }
        examples.metrics().write_csv(tmp_path / "metrics.csv")
        examples.diagnostics().write_csv(tmp_path / "diagnostics.csv")
        sizes = pl.DataFrame(
            [("removed", "test", "", 0, 80, "")], schema=CONTAMINATION, orient="row"
        )
        sizes.write_csv(tmp_path / "contamination.csv")
        given = {
            "published": str(ROOT / "resources/published_results.csv"),
            "metrics": str(tmp_path / "metrics.csv"),
            "diagnostics": str(tmp_path / "diagnostics.csv"),
            "contamination": [str(tmp_path / "contamination.csv")],
        }
        main = script_main(rule)
        if rule == "paper":
            # Drawing all figures takes long, and the tests above draw each of them.
            main.__globals__["PAPER_FIGURES"] = drawn
        main(rule_job(rule, given, output, {"names": NAMES, "tasks": ["sums"]}))
        assert all(Path(path).stat().st_size for path in output.values())
        written = pl.read_csv(output["main_csv"], null_values=NOT_RUN)
        assert written["reproduced"].drop_nulls().len() == (7 if rule == "paper" else 0)


def test_tables_in_the_documentation_are_those_of_the_figures():
    update = runpy.run_path(str(ROOT / "docs/update.py"))
    for name, text in update["published_tables"]().items():
        file = ROOT / f"docs/results/published/{name}.md"
        assert file.read_text(encoding="utf-8") == text, "`make record`"
    for file in (ROOT / "docs").glob("*.md"):
        text = file.read_text(encoding="utf-8")
        assert update["insert_files"](text, ROOT) == text, "`make record`"
