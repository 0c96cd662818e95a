from __future__ import annotations

import polars as pl
import pytest
from released_data import GSM8K, MATH, released, released_labels, released_questions
from table_builders import labels, problems, questions, table

from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.training_sets import (
    chosen_rows,
    export_llama_factory_pairs,
    export_llama_factory_sft,
    pad_disagreeing,
    sft_rows,
)
from weak_to_strong.tables.schemas import (
    GOLD,
    KEPT,
    LABELS,
    PAIRS,
    SELECTED,
    SFT_ROWS,
    WEIGHTED_ROWS,
)

QUESTION_ROWS = questions("abcd")
KEPT_ROWS = table(KEPT, [("b", "weak b", "icl b", "1"), ("a", "same", "same", "2")])


def completions(rows: pl.DataFrame) -> list[tuple[str, str]]:
    assert rows.schema == SFT_ROWS
    assert rows["prompt"].to_list() == [f"Question: {name}?\nAnswer:" for name in rows["id"]]
    return rows.select("id", "completion").rows()


def test_gold_kinds():
    solved = problems(id=["a"], question="a?", solution="1+1=<<1+1=2>>2\n#### 2", answer="2")
    assert completions(sft_rows("gold_train_1", problems=solved)) == [("a", " 1+1=2\n#### 2")]
    gold = table(GOLD, [("b", "So.", "3"), ("a", "Thus.", "2")])
    rows = sft_rows(
        "gold_train_2", questions=QUESTION_ROWS[:2], gold=gold, answer_key="The answer is:"
    )
    assert completions(rows) == [
        ("a", " Thus. The answer is: 2"),
        ("b", " So. The answer is: 3"),
    ]


def test_weak_labels_are_kept_empty_ones_included():
    weak = table(LABELS, [("b", "no idea", ""), ("a", "#### 2", "2")])
    tables = {"questions": QUESTION_ROWS, "weak_labels": weak}
    assert completions(sft_rows("weak_labels", **tables)) == [("b", " no idea"), ("a", " #### 2")]


def test_kept_kinds():
    tables = {"questions": QUESTION_ROWS, "kept": KEPT_ROWS}
    assert completions(sft_rows("kept_weak", **tables)) == [("b", " weak b"), ("a", " same")]
    assert completions(sft_rows("kept_icl", **tables)) == [("b", " icl b"), ("a", " same")]
    hybrid = [("b", " weak b"), ("b", " icl b"), ("a", " same"), ("a", " same")]
    assert completions(sft_rows("kept_hybrid", **tables)) == hybrid


def test_all_icl_answers():
    icl = labels({"b": "", "a": "2"}, "icl {id}")
    rows = sft_rows("icl_labels", questions=QUESTION_ROWS, icl_labels=icl)
    assert completions(rows) == [("b", " icl b"), ("a", " icl a")]


@pytest.mark.parametrize("seed", range(20))
def test_random_kinds_share_a_draw_of_the_size_of_the_kept_set(seed):
    weak, icl = (labels(dict.fromkeys("badc", side), "{answer} {id}") for side in ("weak", "icl"))
    tables = {"questions": QUESTION_ROWS, "kept": KEPT_ROWS, "weak_labels": weak}

    def rows(side):
        kind = f"random_{side}"
        return completions(sft_rows(kind, **tables, icl_labels=icl[::-1], seed=seed))

    ids = [name for name, _ in rows("icl")]
    assert ids == [name for name in "badc" if name in ids]
    assert len(set(ids)) == len(KEPT_ROWS)
    assert rows("icl") == [(name, f" icl {name}") for name in ids]
    assert rows("weak") == [(name, f" weak {name}") for name in ids]
    assert rows("hybrid") == [(name, f" {side} {name}") for name in ids for side in ("weak", "icl")]


def test_seeds_draw_different_questions():
    side = labels(dict.fromkeys("abcd", "1"))
    tables = {"questions": QUESTION_ROWS, "weak_labels": side, "icl_labels": side}
    draws = {
        tuple(sft_rows("random_icl", **tables, kept=KEPT_ROWS, seed=seed)["id"])
        for seed in range(60)
    }
    assert len(draws) == 6  # every two of four


def test_a_chosen_answer_is_a_row_for_each_pair():
    pairs = table(PAIRS, [("a", "p", " yes", no, "chosen", 0.9) for no in (" no", " never")])
    assert chosen_rows(pairs).rows() == [("a", "p", " yes")] * 2
    assert sft_rows("preferred", pairs=pairs).rows() == [("a", "p", " yes")] * 2


def test_selected_rows_and_their_weights():
    chosen = table(SELECTED, [("b", "x", "1", 0.9), ("a", "y", "2", 0.3), ("b", "z", "", 0.0)])
    tables = {"questions": QUESTION_ROWS, "selected": chosen}
    rows = sft_rows("selected", **tables)
    assert completions(rows) == [("b", " x"), ("a", " y"), ("b", " z")]
    weighted = sft_rows("weighted", **tables)
    assert weighted.schema == WEIGHTED_ROWS
    assert weighted.drop("weight").equals(rows)
    assert weighted["weight"].to_list() == pytest.approx([2.25, 0.75, 0.0])


@pytest.mark.parametrize(
    ("kind", "tables", "message"),
    [
        (
            "weighted",
            {
                "questions": QUESTION_ROWS,
                "selected": table(SELECTED, [("a", "x", "", 0.0)]),
            },
            "all shares are 0; set `weights: equal` in the selection",
        ),
        ("preferred", {"pairs": table(PAIRS, [])}, "no pairs, so there is no chosen answer"),
        ("hybrid", {}, "'hybrid' is not one of gold_train_1"),
        ("kept_icl", {"questions": QUESTION_ROWS}, "needs the table 'kept'"),
        ("kept_icl", {"questions": QUESTION_ROWS[:1], "kept": KEPT_ROWS}, "id 'b' lacks its"),
        ("kept_icl", {"questions": QUESTION_ROWS, "kept": KEPT_ROWS.clear()}, "has no rows"),
        (
            "gold_train_2",
            {"questions": QUESTION_ROWS, "gold": table(GOLD, [("a", "#### 2", "2")])},
            "id 'b' lacks its question or its answer",
        ),
        (
            "gold_train_2",
            {"questions": QUESTION_ROWS[:1], "gold": table(GOLD, [("a", None, None)])},
            r"train_2 has no gold answers.* set `methods: \{ceiling: null\}`",
        ),
    ],
)
def test_bad_tables_are_refused(kind, tables, message):
    with pytest.raises(ValueError, match=message):
        sft_rows(kind, **tables)


def test_padding_follows_the_agreeing_rows_side_by_side():
    weak, icl = (labels(dict.fromkeys("abcd", side), "{answer} {id}") for side in ("weak", "icl"))
    kept = table(KEPT, [("b", "weak b", "icl b", "1")])
    padded = pad_disagreeing(kept, weak, icl, target=3, seed=0)
    assert padded["prediction"].to_list() == ["1", None, None]
    first, second = padded["id"][1:]
    assert len({"b", first, second}) == 3
    rows = completions(sft_rows("kept_hybrid", questions=QUESTION_ROWS, kept=padded))
    assert rows == [
        ("b", " weak b"),
        ("b", " icl b"),
        *((name, f" weak {name}") for name in (first, second)),
        *((name, f" icl {name}") for name in (first, second)),
    ]
    assert pad_disagreeing(kept, weak, icl, target=3, seed=0).equals(padded)
    assert pad_disagreeing(kept, weak, icl, target=1, seed=0).equals(kept)
    with pytest.raises(ValueError, match="cannot pad to 5 questions: there are 4"):
        pad_disagreeing(kept, weak, icl, target=5, seed=0)


def test_exports_have_the_released_form():
    rows = table(SFT_ROWS, [("12", "p", " 12 "), ("Math_1", "q", " a"), ("007", "r", " b")])
    assert export_llama_factory_sft(rows) == [
        {"id": 12, "content": "p", "output": "12 "},
        {"id": "Math_1", "content": "q", "output": "a"},
        {"id": "007", "content": "r", "output": "b"},
    ]
    pairs = table(PAIRS, [("3", "p", " yes", " no", "chosen", 0.9)])
    assert export_llama_factory_pairs(pairs) == [
        {"id": 3, "instruction": "p", "input": "", "output": ["yes", "no"]}
    ]


def test_an_id_of_more_digits_than_python_reads_stays_text():
    rows = table(SFT_ROWS, [("9" * digits, "p", " a") for digits in (4300, 4301)])
    longest, longer = export_llama_factory_sft(rows)
    assert longest["id"] == int("9" * 4300)
    assert longer["id"] == "9" * 4301


def test_released_gold_files_regenerate():
    for split in (1, 2):
        raw = released(f"data/raw/gsm8k/train_{split}.jsonl")
        solved = problems(
            question=[row["question"] for row in raw],
            solution=[row["answer"] for row in raw],
            answer="",
        )
        rows = sft_rows("gold_train_1", problems=solved)
        assert export_llama_factory_sft(rows) == released(f"{GSM8K}/gsm8k_train_{split}.json")


def test_released_weak_and_kept_files_regenerate():
    stem = f"{GSM8K}/train_gsm8k_llama2_7b"
    asked, weak = released_questions(), released_labels(f"{stem}_full_weak.json")
    icl = released_labels(f"{stem}_iter1_icl.json")
    full = sft_rows("weak_labels", questions=asked, weak_labels=weak)
    assert export_llama_factory_sft(full) == released(f"{stem}_full_weak.json")
    kept = agreement_filter(
        weak.filter(pl.col("id").is_in(icl["id"].to_list())), icl, keep_empty=True
    )
    for side in ("weak", "icl", "hybrid"):
        rows = sft_rows(f"kept_{side}", questions=asked, kept=kept)
        assert export_llama_factory_sft(rows) == released(f"{stem}_iter1_{side}.json")


def test_released_padding_has_this_order():
    ids = [row["id"] for row in released(f"{MATH}/train_math_gemma_2b_iter1_weak.json")]
    agreeing = len(released(f"{MATH}/train_math_gemma_2b_iter1_weak_wo_aug.json"))
    kept = table(
        KEPT, [(str(n), "w", "i", "1" if i < agreeing else None) for i, n in enumerate(ids)]
    )
    ours = sft_rows("kept_hybrid", questions=questions(ids), kept=kept)["id"].to_list()
    hybrid = released(f"{MATH}/train_math_gemma_2b_iter1_hybrid.json")
    assert ours == [str(row["id"]) for row in hybrid]


@pytest.mark.parametrize("column", ["solution", "answer"])
def test_a_gold_row_without_its_target_is_refused(column):
    lacking = problems(**{"id": ["x"], "solution": "x", "answer": "x", column: None})
    with pytest.raises(ValueError, match="no solution or no answer, the first is id 'x'"):
        sft_rows("gold_train_1", problems=lacking)
