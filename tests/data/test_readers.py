"""Readers of raw task files: what they give, and how they refuse bad files."""

from __future__ import annotations

import gzip
import json
import os
import re
import string
from decimal import Decimal
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from weak_to_strong.data.readers import (
    generate_embedded,
    load_gsm8k,
    load_math,
    load_olympicarena,
    load_table,
    load_task,
    read_rows,
    write_value,
)
from weak_to_strong.method.answer_keys import last_boxed
from weak_to_strong.method.olympicarena_prompts import olympicarena_prompt
from weak_to_strong.method.prompts import sft_target
from weak_to_strong.tables.schemas import PROBLEMS

PUBLISHED = os.environ.get("W2S_PUBLISHED_DIR")


def write(path: Path, rows: list) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    elif path.suffix == ".json":
        path.write_text(json.dumps(rows), encoding="utf-8")
    else:
        pl.DataFrame(rows).write_parquet(path)
    return path


def olympic(**changes) -> dict:
    row = {
        "id": "Physics_1",
        "problem": "How fast?",
        "answer": ["3"],
        "solution": "Think.",
        "answer_type": "NV",
        "subject": "Physics",
        "language": "EN",
        "unit": ["m/s"],
    }
    return {**row, **changes}


class TestGsm8k:
    def test_original_form(self, tmp_path):
        answer = "1+1=<<1+1=2>>2\n#### 1,002 "
        path = write(tmp_path / "a.jsonl", [{"id": "g_7", "question": " Q? ", "answer": answer}])
        frame = load_gsm8k(path)
        assert frame.schema == PROBLEMS
        assert frame.row(0, named=True) == {
            **dict.fromkeys(PROBLEMS),
            "id": "g_7",
            "question": " Q? ",
            "solution": answer,
            "answer": "1,002",
            "source": "a.jsonl",
        }

    def test_processed_form(self, tmp_path):
        row = {"source": "S", "question": "Q", "solution": "x\n#### 5", "answer": "5", "tag": {}}
        frame = load_gsm8k(write(tmp_path / "a.jsonl", [row]))
        assert frame.select("id", "solution", "answer", "source").row(0) == (
            "0",
            "x\n#### 5",
            "5",
            "S",
        )

    def test_missing_answer_key_is_a_missing_answer(self, tmp_path):
        rows = [{"question": "Q", "answer": text} for text in ("#### 1", "no key", "####", None)]
        path = write(tmp_path / "a.jsonl", rows)
        with pytest.raises(ValueError, match=r"a\.jsonl: 3 of 4 problems have no answer.*2, 3, 4"):
            load_gsm8k(path)


class TestMath:
    def test_hendrycks_form(self, tmp_path):
        row = {
            "problem": "P",
            "solution": r"First \boxed{1}, then \boxed{\frac{1}{2}}.",
            "level": "Level 4",
            "type": "Algebra",
        }
        frame = load_math(write(tmp_path / "a.json", [row]))
        assert frame.select("answer", "level", "subject").row(0) == (r"\frac{1}{2}", "4", "Algebra")

    def test_given_answer_level_and_id_win(self, tmp_path):
        row = {
            "problem": "P",
            "solution": r"\boxed{1}",
            "answer": "2",
            "level": 3,
            "unique_id": "u",
        }
        frame = load_math(write(tmp_path / "a.jsonl", [row]))
        assert frame.select("id", "answer", "level").row(0) == ("u", "2", "3")

    @pytest.mark.parametrize(
        ("text", "boxed"),
        [
            (r"\boxed{a{b}{c}}", "a{b}{c}"),
            (r"\boxed{\{1,2\}}", r"\{1,2\}"),
            (r"\boxed{\left\{x}", r"\left\{x"),
            (r"\boxed{1} \fbox{2}", "2"),
            (r"\boxed{}", ""),
            (r"\boxed{a{b}", None),
            (r"\boxed{1} or \boxed{2", "1"),
            (r"\boxed{x = \fbox{3}}", "3"),
            (r"} { \boxed{4} \{", "4"),
            ("no box", None),
        ],
    )
    def test_last_boxed(self, text, boxed):
        assert last_boxed(text) == boxed

    @given(
        st.recursive(
            st.text(string.ascii_letters + string.digits, max_size=4),
            lambda inner: st.lists(inner, max_size=3).map(lambda parts: "{" + "".join(parts) + "}"),
        )
    )
    def test_last_boxed_returns_any_balanced_contents(self, contents):
        assert last_boxed(rf"\boxed{{0}} so \boxed{{{contents}}} \}}.") == contents


class TestOlympicArena:
    @pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
    def test_keeps_english_problems_with_comparable_answers(self, tmp_path, suffix):
        rows = [
            olympic(),
            olympic(id="a", language="ZH"),
            olympic(id="b", answer_type="CODE"),
            olympic(id="c", answer_type="OT"),
            olympic(id="d", subject="Math", answer_type="MC", answer=["A", "C"]),
        ]
        frame = load_olympicarena(write(tmp_path / f"a{suffix}", rows))
        assert frame.select("id", "answer", "level", "subject").rows() == [
            ("Physics_1", "3", "NV", "Physics"),
            ("d", "A, C", "MC", "Math"),
        ]

    def test_answer_types_and_units(self, tmp_path):
        several = {
            "answer_type": "MPV",
            "answer": ["1", "x"],
            "unit": ["cm", None],
            "type_sequence": ["NV", "EX"],
            "answer_sequence": ["the height", "the law"],
        }
        rows = [olympic(), olympic(id="n", unit=[None]), olympic(id="m", **several)]
        frame = load_olympicarena(write(tmp_path / "a.jsonl", rows))
        assert frame["answer_type"].to_list() == ["NV", "NV", "MPV"]
        assert frame["unit"].to_list() == ["m/s", None, None]
        assert frame["parts"].to_list()[:2] == [None, None]
        assert json.loads(frame["parts"][2]) == [
            {"type": "NV", "unit": "cm", "name": "the height"},
            {"type": "EX", "unit": None, "name": "the law"},
        ]

    def test_question_and_context_are_those_of_the_published_prompt(self, tmp_path):
        problem = {"question": "How far?\n\nA: 1\nB: 2", "context": "A car.\n\nIt drives."}
        asked = {**problem, "subject": "Physics", "answer_type": "SC"}
        prompt = olympicarena_prompt(asked).removesuffix("\n\nAnswer:")
        rows = [olympic(answer_type="SC", answer=["A"], prompt=prompt), olympic(id="x", prompt="?")]
        frame = load_olympicarena(write(tmp_path / "a.jsonl", rows))
        assert frame["question"].to_list() == [problem["question"], "How fast?"]
        assert frame["context"].to_list() == [problem["context"], None]

    def test_subjects(self, tmp_path):
        path = write(tmp_path / "a.jsonl", [olympic(), olympic(id="m", subject="Math")])
        assert load_olympicarena(path, subjects=["Math"])["id"].to_list() == ["m"]
        with pytest.raises(ValueError, match=r"Maths.*the file has \['Math', 'Physics'\]"):
            load_olympicarena(path, subjects=["Maths"])

    def test_answers_may_be_withheld_from_all_but_not_from_some(self, tmp_path):
        withheld = [olympic(answer=None), olympic(id="x", answer=[])]
        path = write(tmp_path / "a.jsonl", withheld)
        frame = load_olympicarena(path, optional_answers=True)
        assert frame["answer"].to_list() == [None, None]
        with pytest.raises(ValueError, match="2 of 2 problems have no answer"):
            load_olympicarena(path)
        path = write(tmp_path / "b.jsonl", [*withheld, olympic(id="y")])
        with pytest.raises(ValueError, match="2 of 3 problems have no answer"):
            load_olympicarena(path, optional_answers=True)


class TestTable:
    @pytest.mark.parametrize("suffix", [".jsonl", ".json", ".parquet"])
    def test_columns_are_mapped(self, tmp_path, suffix):
        path = write(tmp_path / f"a{suffix}", [{"ask": "Q1", "gold": 4, "level": "hard", "x": 1}])
        frame = load_table(path, {"question": "ask", "answer": "gold"})
        assert frame.select("question", "answer", "level", "solution").row(0) == (
            "Q1",
            "4",
            "hard",
            None,
        )

    def test_missing_column_lists_those_there(self, tmp_path):
        path = write(tmp_path / "a.jsonl", [{"question": "Q", "gold": "4"}])
        with pytest.raises(ValueError, match=r"no column \['answer'\].*\['gold', 'question'\]"):
            load_table(path)
        with pytest.raises(ValueError, match=r"no column \['number'\]"):
            load_table(path, {"answer": "gold", "id": "number"})
        with pytest.raises(ValueError, match=r"unknown names \['prompt'\]"):
            load_table(path, {"prompt": "question"})

    def test_columns_that_a_split_needs_not_may_be_absent(self, tmp_path):
        columns = {"question": "ask", "answer": "gold", "solution": "steps"}
        path = write(tmp_path / "a.jsonl", [{"ask": "Q", "gold": "4"}])
        with pytest.raises(ValueError, match=r"no column \['steps'\]"):
            load_table(path, columns)
        assert load_table(path, columns, optional_solutions=True)["answer"].to_list() == ["4"]
        path = write(tmp_path / "b.jsonl", [{"ask": "Q"}])
        with pytest.raises(ValueError, match=r"no column \['gold'\]"):
            load_table(path, columns, optional_solutions=True)
        bare = load_table(path, columns, optional_answers=True, optional_solutions=True)
        assert bare.select("question", "answer").row(0) == ("Q", None)

    @pytest.mark.parametrize("name", ["subject", "level", "source", "id"])
    @pytest.mark.parametrize("value", [["algebra"], {"a": 1}, float("nan")])
    @pytest.mark.parametrize(
        ("loader", "row"),
        [
            ("table", {"question": "Q", "answer": "1", "solution": "s"}),
            ("gsm8k", {"question": "Q", "answer": "s\n#### 1"}),
            ("math", {"problem": "Q", "solution": r"\boxed{1}"}),
        ],
    )
    def test_a_column_that_nobody_needs_is_left_out(
        self, tmp_path, caplog, name, value, loader, row
    ):
        path = write(tmp_path / "a.jsonl", [row | {name: "7"}, row | {name: value}])
        with caplog.at_level("INFO", logger="weak_to_strong"):
            frame = load_task({"loader": loader, "columns": {}}, [path])
        assert f"a.jsonl: `{name}` is left out, as it is neither text nor a number" in caplog.text
        assert frame["answer"].to_list() == ["1", "1"]
        rest = {"id": ["0", "1"], "source": ["a.jsonl"] * 2}.get(name, [None, None])
        assert frame[name].to_list() == rest

    def test_a_column_that_is_named_is_text(self, tmp_path):
        rows = [{"question": "Q", "answer": "1", "subject": ["a"], "id": ["a"]}]
        path = write(tmp_path / "a.jsonl", rows)
        with pytest.raises(ValueError, match="row 1: `subject` is a list, text is due"):
            load_table(path, {"subject": "subject"})
        with pytest.raises(ValueError, match="row 1: `id` is a list, text is due"):
            load_task({"loader": "table", "columns": {}, "ids": "given"}, [path])

    def test_columns_found_by_name_can_be_declined(self, tmp_path):
        row = {"question": "Q", "answer": "1", "solution": ["s"], "subject": "a", "level": "2"}
        path = write(tmp_path / "a.jsonl", [row])
        with pytest.raises(ValueError, match="row 1: `solution` is a list, text is due"):
            load_table(path)
        frame = load_table(path, {"subject": None, "solution": None})
        assert frame.select("solution", "subject", "level").row(0) == (None, None, "2")
        with pytest.raises(ValueError, match="`columns` leaves out `answer`; name its column"):
            load_table(path, {"answer": None})
        frame = load_table(path, {"answer": None}, optional_answers=True, optional_solutions=True)
        assert frame["answer"].to_list() == [None]

    def test_the_form_of_answers_is_read_where_it_is_named(self, tmp_path):
        row = {"question": "Q", "answer": "4", "kind": "NV", "unit": ["m"], "context": {"a": 1}}
        path = write(tmp_path / "a.jsonl", [row])
        frame = load_table(path, {"answer_type": "kind"})
        assert frame.select("answer_type", "unit", "context").row(0) == ("NV", None, None)


class TestBadFiles:
    def test_unreadable_files_are_named(self, tmp_path):
        cases = {
            "empty.jsonl": ("", "no rows"),
            "empty.json": ("[]", "no rows"),
            "torn.jsonl": ('{"question": "Q"}\n{"quest', "line 2"),
            "object.json": ('{"question": "Q"}', "not a list of objects"),
            "numbers.jsonl": ("1\n2\n", "not a list of objects"),
            "data.txt": ("{}", r"ends in none of \.jsonl"),
            "ragged.csv": ("question,answer\n1\n", "line 2: 1 fields"),
            "quotes.csv": ('question,answer\n"1,2\n', "unexpected end of data"),
            "twice.csv": ("answer,answer\n1,2\n", "a column's name stands twice"),
            "fake.parquet": ("PAR", "cannot read it"),
        }
        for name, (text, message) in cases.items():
            (tmp_path / name).write_text(text)
            with pytest.raises(ValueError, match=message) as error:
                read_rows(tmp_path / name)
            assert name in str(error.value)
        with pytest.raises(ValueError, match=r"absent\.jsonl"):
            read_rows(tmp_path / "absent.jsonl")

    def test_a_flipped_bit_at_which_polars_panics(self, tmp_path):
        path = tmp_path / "a.parquet"
        rows = {"question": ["Q"], "answer": ["#### 1"]}
        pl.DataFrame(rows).write_parquet(path, compression="uncompressed")
        flipped = bytearray(path.read_bytes())
        flipped[27] ^= 16  # in the header of the first page
        path.write_bytes(flipped)
        with pytest.raises(ValueError, match=r"a\.parquet: cannot read it \(") as error:
            read_rows(path)
        assert "\n" not in str(error.value)

    def test_blank_question_is_named_by_row(self, tmp_path):
        rows = [{"question": q, "answer": "1"} for q in ("Q", " \n", None, "R")]
        with pytest.raises(ValueError, match=r"2 of 4 problems have no question.*rows 2, 3"):
            load_table(write(tmp_path / "a.jsonl", rows))

    @pytest.mark.parametrize("question", [["Q"], {"text": "Q"}, "\ud800"])
    def test_values_that_are_no_text(self, tmp_path, question):
        with pytest.raises(
            ValueError, match=r"a\.jsonl: (row 1: `question` is a|text that is not)"
        ):
            load_table(write(tmp_path / "a.jsonl", [{"question": question, "answer": "1"}]))


class TestFilesAsPeopleSendThem:
    @pytest.mark.parametrize(
        ("name", "text"),
        [
            ("a.csv", 'question,answer\nHow many?,"1,002"\n'),
            ("a.CSV", 'question,answer\r\nHow many?,"1,002"\r\n'),
            ("a.tsv", "question\tanswer\nHow many?\t1,002\n"),
            ("a.JSONL", '{"question": "How many?", "answer": "1,002"}\n'),
            ("a.json", '{"question": "How many?", "answer": "1,002"}\n' * 2),
            ("a.jsonl", '{"Question": "How many?", "ANSWER": "1,002"}\n'),
        ],
    )
    @pytest.mark.parametrize("packed", [False, True])
    def test_read_alike(self, tmp_path, name, text, packed):
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        frame = load_table(path)
        assert frame.select("question", "answer").row(0) == ("How many?", "1,002")

    def test_columns_in_other_capitals_are_noted(self, tmp_path, caplog):
        caplog.set_level("INFO", "weak_to_strong")
        rows = [{"Problem": "P", "Solution": r"\boxed{2}", "Level": "Level 5"}]
        frame = load_math(write(tmp_path / "a.jsonl", rows))
        assert frame.select("question", "answer", "level").row(0) == ("P", "2", "5")
        assert "column 'Problem' is read as 'problem'" in caplog.text

    @pytest.mark.parametrize(
        ("solution", "answer"),
        [
            (r"so \boxed 2", "2"),
            (r"so \boxed {2}.", "2"),
            (r"so \fbox{2}", "2"),
            (r"so \framebox{2}", "2"),
            (r"so \boxed{2}, and not \boxed 3", "2"),
        ],
    )
    def test_boxes(self, tmp_path, solution, answer):
        rows = [{"problem": "P", "solution": solution, "answer": None}]
        assert load_math(write(tmp_path / "a.jsonl", rows))["answer"].to_list() == [answer]

    def test_math_files_of_answers_alone(self, tmp_path):
        rows = [{"ID": "2024-I-1", "Problem": "P", "Answer": 204}]
        frame = load_math(write(tmp_path / "a.jsonl", rows))
        assert frame.select("id", "question", "answer", "solution").row(0) == (
            "2024-I-1",
            "P",
            "204",
            None,
        )

    @pytest.mark.parametrize("text", ["1+1\n####2", "1+1\n#### 2\nDone.", "1+1\n####\u00a02"])
    def test_gsm8k_answer_lines_read_and_teach_the_same(self, tmp_path, text):
        rows = [{"question": "Q", "answer": text, "solution": None}]
        row = load_gsm8k(write(tmp_path / "a.jsonl", rows)).row(0, named=True)
        assert row["answer"] == "2"
        assert sft_target(row["solution"], row["answer"], "####") == "1+1\n#### 2"

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (1e-05, "0.00001"),
            (1e16, "10000000000000000"),
            (1234567890123456.0, "1234567890123456"),
            (0.30000000000000004, "0.3"),
            (42.0, "42"),
            (-2.50, "-2.5"),
            (0.0, "0"),
            (1e300, "1e300"),
            (Decimal("12.50"), "12.5"),
            (Decimal("1E+3"), "1000"),
            (7, "7"),
            ("1e-05", "1e-05"),
        ],
    )
    def test_numbers_are_written_out(self, value, text):
        assert write_value(value) == text

    def test_numbers_of_32_bits_are_written_as_they_were(self, tmp_path):
        path = tmp_path / "a.parquet"
        answers = pl.Series([0.1, 18.0, 1e-5], dtype=pl.Float32)
        pl.DataFrame({"question": ["Q"] * 3, "answer": answers}).write_parquet(path)
        assert load_table(path)["answer"].to_list() == ["0.1", "18", "0.00001"]

    @pytest.mark.parametrize(
        ("name", "text", "row"),
        [
            ("a.csv", "\n\nquestion,answer\nQ,5\n", ("Q", "5")),
            ("a.csv", 'question, answer\n"Q, q", "1,234"\n', ("Q, q", "1,234")),
            ("a.csv", '"question", "answer"\n" Q", "5"\n', (" Q", "5")),
            ("a.csv", "question,answer\n Q,5\n", (" Q", "5")),
            ("a.json", '{"question": "Q\u2028q", "answer": 5}\n' * 2, ("Q\u2028q", "5")),
        ],
    )
    def test_lines_and_fields(self, tmp_path, name, text, row):
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert load_table(tmp_path / name).select("question", "answer").row(0) == row

    @pytest.mark.parametrize(
        ("name", "contents", "message"),
        [
            ("a.csv", b"question;answer\nQ, q;5\n", "; separate its fields with commas"),
            ("a.csv", b"\nquestion,answer\nQ,q,5\n", "line 3: 3 fields, the first line has 2; put"),
            ("a.csv", "question,answer\nQ\u00e9,5\n".encode("latin-1"), "iconv -f ENCODING"),
            ("a.csv", "question,answer\nQ,5\n".encode("utf-16-le"), "iconv -f UTF-16"),
            (
                "a.csv",
                b"PK\x03\x04\xff",
                "it is an Excel file or an archive, save its sheet as CSV",
            ),
            ("a.jsonl", b"PAR1\xff", "it is a Parquet file, let its name end in .parquet"),
            ("a.jsonl", b'{"question": "Q", "answer": 5, "answer": 6}', "'answer' stands twice"),
            ("a.json", b'[{"question": "Q", "answer": 5, "answer": 6}]', "'answer' stands twice"),
            ("a.jsonl.gz", gzip.compress(b"{}", mtime=0)[:12] + bytes(8), "cannot read it"),
        ],
    )
    def test_what_cannot_be_read_is_one_line_with_the_fix(self, tmp_path, name, contents, message):
        (tmp_path / name).write_bytes(contents)
        with pytest.raises(ValueError, match=re.escape(message)) as error:
            load_table(tmp_path / name)
        assert "\n" not in str(error.value)

    def test_decimal_columns(self, tmp_path):
        path = tmp_path / "a.parquet"
        pl.DataFrame({"question": ["Q"], "answer": [Decimal("1.50")]}).write_parquet(path)
        assert load_table(path)["answer"].to_list() == ["1.5"]


class TestLoadTask:
    def test_ids_are_row_numbers_over_all_files_unless_given(self, tmp_path):
        rows = [{"id": name, "question": name, "answer": "1"} for name in "abc"]
        paths = [write(tmp_path / "1.jsonl", rows[:2]), write(tmp_path / "2.jsonl", rows[2:])]
        assert load_task({"loader": "table"}, paths)["id"].to_list() == ["0", "1", "2"]
        given_ids = load_task({"loader": "table", "ids": "given"}, paths)
        assert given_ids["id"].to_list() == ["a", "b", "c"]

    def test_repeated_ids_are_refused(self, tmp_path):
        path = write(tmp_path / "a.jsonl", [{"id": 1, "question": q, "answer": "1"} for q in "xy"])
        with pytest.raises(ValueError, match=r"a\.jsonl: ids \['1'\] repeat; set `ids: row`"):
            load_task({"loader": "table", "ids": "given"}, [path])

    def test_unknown_loader(self):
        with pytest.raises(ValueError, match="'embedded' reads no files"):
            load_task({"loader": "embedded"}, [])


def test_embedded_splits_share_nothing_and_held_out_ones_do_not_depend_on_training_sizes():
    small = generate_embedded([43, 58], 3, {"train_1": 5, "test": 6, "validation": 2})
    large = generate_embedded(
        [43, 58], 3, {"train_1": 40, "train_2": 9, "test": 6, "validation": 2}
    )
    assert small["test"].equals(large["test"])
    assert small["validation"].equals(large["validation"])
    questions = pl.concat(large.values())["question"]
    assert questions.n_unique() == len(questions) == 57
    assert large["train_1"]["id"].to_list() == [str(row) for row in range(40)]
    assert not large["test"].equals(generate_embedded([43, 58], 4, {"test": 6})["test"])


@pytest.mark.skipif(not PUBLISHED, reason="W2S_PUBLISHED_DIR names no folder of released data")
class TestReleasedData:
    def test_gsm8k_train_2_equals_its_processed_form(self):
        data = Path(PUBLISHED) / "data"
        columns = ["id", "question", "solution", "answer"]
        raw = load_task({"loader": "gsm8k"}, [data / "raw/gsm8k/train_2.jsonl"]).select(columns)
        done = load_task({"loader": "gsm8k"}, [data / "test/gsm8k_train_2.jsonl"]).select(columns)
        assert raw.height == 7000
        assert raw.equals(done)

    def test_math_answers_are_the_last_boxes(self):
        frame = load_math(Path(PUBLISHED) / "data/raw/math/test.jsonl")
        levels = frame.group_by("level").len().sort("level")["len"].to_list()
        assert levels == [43, 90, 105, 128, 134]
        boxed = frame["solution"].map_elements(last_boxed, pl.String)
        assert (boxed.str.strip_chars() == frame["answer"]).sum() == 500


MMLU_PRO = {
    "question_id": 70,
    "question": "What is 2+3?",
    "options": ["4", "5", "6"],
    "answer": "B",
    "answer_index": 1,
    "cot_content": "A: Let's think step by step. 2+3=5. The answer is (B).",
    "category": "math",
    "src": "ori",
}
CHOICES = {
    "MMLU-Pro": MMLU_PRO,
    "MMLU": {
        "question": "What is 2+3?",
        "subject": "math",
        "choices": ["4", "5", "6"],
        "answer": 1,
    },
    "ARC": {
        "id": "x",
        "question": "What is 2+3?",
        "choices": {"text": ["4", "5", "6"], "label": ["1", "2", "3"]},
        "answerKey": "2",
    },
    "OpenBookQA": {
        "id": "7-980",
        "question_stem": "What is 2+3?",
        "choices": {"text": ["4", "5", "6"], "label": ["A", "B", "C"]},
        "answerKey": "B",
    },
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("ending", ["parquet", "jsonl"])
def test_multiple_choice_as_on_the_hub(tmp_path, name, ending):
    path = tmp_path / f"rows.{ending}"
    if ending == "parquet":
        pl.DataFrame([CHOICES[name]]).write_parquet(path)
    else:
        path.write_text(json.dumps(CHOICES[name]))
    (row,) = load_task({"loader": "multiple_choice"}, [path]).to_dicts()
    assert row["question"] == "What is 2+3?\nA: 4\nB: 5\nC: 6"
    assert row["answer"] == "B"
    assert row["subject"] == ("math" if "MMLU" in name else None)
    steps = "Let's think step by step. 2+3=5. The answer is (B)."
    assert row["solution"] == (steps if name == "MMLU-Pro" else "")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": None}, "row 1: its options are no list of texts; write them as a list"),
        ({"options": "4, 5"}, "row 1: its options are no list of texts; write them as a list"),
        ({"options": ["4"]}, "row 1: has 1 options; give 2 to 26"),
        ({"options": ["x"] * 27}, "row 1: has 27 options; give 2 to 26"),
        ({"answer": "D"}, "row 1: the answer 'D' is none of its options A, B, C; correct it"),
        ({"answer": 3}, "row 1: the answer '3' is none of its options A, B, C; correct it"),
        ({"answer": ""}, "1 of 1 problems have no answer"),
        ({"question": " "}, "1 of 1 problems have no question"),
        (
            {"options": {"text": ["4", "5"], "label": ["A"]}},
            "row 1: has other labels than options; give one for each",
        ),
    ],
)
def test_multiple_choice_that_cannot_be_asked_is_one_line(tmp_path, change, message):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(MMLU_PRO | change))
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_task({"loader": "multiple_choice"}, [path])
    assert "\n" not in str(error.value)


def test_multiple_choice_without_a_column_of_options_names_those_there(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Q", "answer": "A"}')
    with pytest.raises(ValueError, match=r"no column of the options; .*call it `options`"):
        load_task({"loader": "multiple_choice"}, [path])
