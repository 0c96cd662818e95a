"""Rows for supervised fine-tuning, and export of rows and pairs to LLaMA-Factory.

The authors release their training sets in LLaMA-Factory's format (`data/llama_factory`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

import polars as pl

from weak_to_strong.method.draws import draw_padding, draw_places
from weak_to_strong.method.prompts import problem_prompts, sft_target
from weak_to_strong.tables.files import json_text
from weak_to_strong.tables.schemas import KEPT, SFT_ROWS

#: Kind of training set -> the tables that it is made from (arguments of `sft_rows`).
TABLES_OF_KIND = {
    "gold_train_1": ("problems",),
    "gold_train_2": ("questions", "gold"),
    "weak_labels": ("questions", "weak_labels"),
    "icl_labels": ("questions", "icl_labels"),
    "kept_weak": ("questions", "kept"),
    "kept_icl": ("questions", "kept"),
    "kept_hybrid": ("questions", "kept"),
    "random_weak": ("questions", "kept", "weak_labels", "icl_labels"),
    "random_icl": ("questions", "kept", "weak_labels", "icl_labels"),
    "random_hybrid": ("questions", "kept", "weak_labels", "icl_labels"),
    "selected": ("questions", "selected"),
    "weighted": ("questions", "selected"),
    "preferred": ("pairs",),
}
_ROW_NUMBER = "0|[1-9][0-9]*"
#: `int` refuses longer numbers, so such an id stays text.
_MAX_DIGITS = 4300


def sft_rows(
    kind: str,
    *,
    answer_key: str = "####",
    prompt: str = "question_answer",
    problems: pl.DataFrame | None = None,
    questions: pl.DataFrame | None = None,
    gold: pl.DataFrame | None = None,
    weak_labels: pl.DataFrame | None = None,
    icl_labels: pl.DataFrame | None = None,
    kept: pl.DataFrame | None = None,
    selected: pl.DataFrame | None = None,
    pairs: pl.DataFrame | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Rows for supervised fine-tuning of one kind.

    Args:
        kind: `gold_train_1` (the weak model), `gold_train_2` (the ceiling), `weak_labels` (full
            weak fine-tuning on all of D_weak), or, in Stage I, `kept_weak`, `kept_icl` or
            `kept_hybrid` (of each question the weak row, then the ICL row). Controls of these:
            `icl_labels` (all ICL answers), and `random_weak`, `random_icl` or `random_hybrid`, see
            `random_questions`. `selected`: what a selection chose. `weighted`: the same, each row
            with a weight in proportion to its share. `preferred`: the chosen text of each pair.
        answer_key: text that introduces the final answer; used by the gold kinds.
        prompt: style of the prompts, see `prompts.problem_prompt`.
        problems: PROBLEMS of train_1.
        questions: QUESTIONS of train_2.
        gold: GOLD of train_2.
        weak_labels: LABELS of the weak side.
        icl_labels: LABELS of the ICL side.
        kept: KEPT of the agreement filter. The `random_` kinds take its size only.
        selected: SELECTED.
        pairs: PAIRS of an entry of `preferences`.
        seed: of the draw of the `random_` kinds.

    Returns:
        SFT_ROWS, or WEIGHTED_ROWS of the kind `weighted`, in the row order of `problems`, of
        `questions` (ceiling), of the labels or of `kept`. As in the paper, weak labels without a
        final answer are included, and a hybrid row that both sides wrote occurs twice. Released
        files: `gsm8k_train_1`, `full_weak`, `iter1_weak`, `iter1_icl`, `iter1_hybrid`.

    Raises:
        ValueError: unknown kind, missing table, answer without a question, no rows, or shares that
            are all 0.
    """
    tables = {
        "problems": problems,
        "questions": questions,
        "gold": gold,
        "weak_labels": weak_labels,
        "icl_labels": icl_labels,
        "kept": kept,
        "selected": selected,
        "pairs": pairs,
    }
    if kind not in TABLES_OF_KIND:
        raise ValueError(f"training set {kind!r} is not one of {', '.join(TABLES_OF_KIND)}")
    if missing := [name for name in TABLES_OF_KIND[kind] if tables[name] is None]:
        raise ValueError(f"training set {kind!r} needs the table {missing[0]!r}")
    if kind == "preferred":
        return chosen_rows(pairs)
    if kind.startswith("random_"):
        tables["kept"] = random_questions(weak_labels, icl_labels, len(kept), seed)
    answers = _answers_of_kind(kind, tables, answer_key)
    source = problems if kind == "gold_train_1" else questions
    ids = {name for name, _ in answers}
    prompts = problem_prompts(source.filter(pl.col("id").is_in(list(ids))), prompt)
    incomplete = [name for name, answer in answers if name not in prompts or answer is None]
    if incomplete:
        raise ValueError(
            f"training set {kind!r}: id {incomplete[0]!r} lacks its question or its answer"
        )
    rows = pl.DataFrame(
        [(name, prompts[name], f" {answer}") for name, answer in answers],
        schema=SFT_ROWS,
        orient="row",
    )
    if rows.is_empty():
        raise ValueError(f"training set {kind!r} has no rows")
    if kind == "weighted":
        shares = selected["share"]
        if not shares.sum():
            raise ValueError(
                "weights: no selected text has an answer of the votes, so all shares are 0; set "
                "`weights: equal` in the selection"
            )
        return rows.with_columns(weight=shares / shares.mean())
    return rows


def _answers_of_kind(
    kind: str, tables: Mapping[str, pl.DataFrame], answer_key: str
) -> list[tuple[str, str | None]]:
    """(id, target text) of every row; None where a question has no gold answer."""
    if kind == "gold_train_1":
        return _gold_answers(tables["problems"], answer_key)
    if kind == "gold_train_2":
        return _ceiling_answers(tables["questions"], tables["gold"], answer_key)
    if kind in ("weak_labels", "icl_labels", "selected"):
        return tables[kind].select("id", "response").rows()
    if kind == "weighted":
        return tables["selected"].select("id", "response").rows()
    return list(_kept_answers(kind, tables["kept"]))


def _gold_answers(rows: pl.DataFrame, answer_key: str) -> list[tuple[str, str]]:
    """(id, target text) of PROBLEMS or GOLD rows."""
    incomplete = rows.filter(pl.any_horizontal(pl.col("solution", "answer").is_null()))
    if len(incomplete):
        raise ValueError(
            f"{len(incomplete)} of {len(rows)} gold rows have no solution or no answer, the first "
            f"is id {incomplete['id'][0]!r}; name the columns of both in the task's `columns`"
        )
    return [
        (name, sft_target(solution, answer, answer_key))
        for name, solution, answer in rows.select("id", "solution", "answer").iter_rows()
    ]


def _ceiling_answers(
    questions: pl.DataFrame, gold: pl.DataFrame, answer_key: str
) -> list[tuple[str, str | None]]:
    """(id, target text) in the order of the questions; None for a question without gold."""
    if gold["answer"].null_count() == gold.height:
        raise ValueError(
            "train_2 has no gold answers to train the ceiling on; name their column in the "
            "task's `columns`, or set `methods: {ceiling: null}` there"
        )
    answers = dict(_gold_answers(gold, answer_key))
    return [(name, answers.get(name)) for name in questions["id"]]


def _kept_answers(kind: str, kept: pl.DataFrame) -> Iterable[tuple[str, str]]:
    """(id, response) of agreeing questions, then of padding."""
    agreeing = kept.filter(pl.col("prediction").is_not_null())
    padding = kept.filter(pl.col("prediction").is_null())
    side = kind.partition("_")[2]
    sides = ["weak_response", "icl_response"] if side == "hybrid" else [f"{side}_response"]
    for name, *responses in agreeing.select("id", *sides).iter_rows():
        yield from ((name, response) for response in responses)
    # The released order of padding: all rows of one side, then all rows of the other.
    for side in sides:
        yield from padding.select("id", side).iter_rows()


def random_questions(weak: pl.DataFrame, icl: pl.DataFrame, count: int, seed: int) -> pl.DataFrame:
    """Random questions with the answers of both sides, whether these agree or not.

    They stand in for the kept ones, as many and with the same sides: what is left between a model
    of kept and one of random rows is the agreement. Answers without a final answer may be drawn
    too. The kinds of a chain and iteration share one draw, as the kept kinds share one filter.

    Args:
        weak: LABELS of the weak side.
        icl: LABELS of the ICL side.
        count: number of questions.
        seed: of the draw.

    Returns:
        KEPT in the weak side's row order; `prediction` is the weak side's.
    """
    return (
        weak[draw_places(len(weak), count, seed)]
        .rename({"response": "weak_response"})
        .join(icl.select("id", icl_response="response"), on="id", how="left", maintain_order="left")
        .select(KEPT.names())
    )


def chosen_rows(pairs: pl.DataFrame) -> pl.DataFrame:
    """SFT_ROWS of the chosen texts of PAIRS, one row for each pair.

    The baseline Preferred-FT of the DPO paper (Rafailov et al. 2023).

    Raises:
        ValueError: there are no pairs.
    """
    if pairs.is_empty():
        raise ValueError("there are no pairs, so there is no chosen answer to train on")
    return pairs.select("id", "prompt", completion="chosen")


def pad_disagreeing(
    kept: pl.DataFrame, weak: pl.DataFrame, icl: pl.DataFrame, target: int, seed: int
) -> pl.DataFrame:
    """Add random questions on which the sides *disagree*, up to `target` questions.

    The released MATH sets of Gemma-2b (448 agreeing questions, padded to 1000) and Mistral-7b (584,
    padded to 2000) are padded so. The paper does not describe it, and its seed is not known.

    Args:
        kept: KEPT of the agreement filter.
        weak: LABELS of the weak side.
        icl: LABELS of the ICL side.
        target: number of questions afterwards. If `kept` has as many, it is returned as it is.
        seed: seed of the draw.

    Returns:
        KEPT with the padding at the end; `prediction` is null there. `sft_rows` puts padding after
        the agreeing rows; for the hybrid kind all weak rows of it, then all ICL rows.

    Raises:
        ValueError: there are fewer questions than `target`.
    """
    drawn = draw_padding(weak["id"].to_list(), kept["id"].to_list(), target, seed)
    padding = (
        pl.DataFrame({"id": drawn}, schema={"id": pl.String})
        .join(weak.select("id", weak_response="response"), on="id", maintain_order="left")
        .join(icl.select("id", icl_response="response"), on="id", maintain_order="left")
        .with_columns(prediction=pl.lit(None, dtype=pl.String))
    )
    return pl.concat([kept.select(KEPT.names()), padding])


def export_llama_factory_sft(rows: pl.DataFrame) -> list[dict]:
    """SFT_ROWS in the format of the released files: {id, content, output}.

    An id that is a row number becomes a JSON number, as in these files.
    """
    return [
        {"id": _released_id(name), "content": prompt, "output": completion.removeprefix(" ")}
        for name, prompt, completion in rows.select("id", "prompt", "completion").iter_rows()
    ]


def export_llama_factory_pairs(rows: pl.DataFrame) -> list[dict]:
    """PAIRS in the format of the released files: {id, instruction, input, output}.

    `output` is [chosen, rejected].
    """
    return [
        {
            "id": _released_id(name),
            "instruction": prompt,
            "input": "",
            "output": [chosen.removeprefix(" "), rejected.removeprefix(" ")],
        }
        for name, prompt, chosen, rejected in rows.select(
            "id", "prompt", "chosen", "rejected"
        ).iter_rows()
    ]


def encode_llama_factory_pairs(rows: pl.DataFrame) -> pl.Series:
    """Rows of `export_llama_factory_pairs` as JSON texts for `write_json_rows`.

    A polars expression writes them, because a Python loop is slow at millions of rows.
    """
    name = pl.col("id")
    is_number = name.str.contains(rf"\A(?:{_ROW_NUMBER})\z")
    is_number &= name.str.len_bytes() <= _MAX_DIGITS
    texts = (json_text(pl.col(side).str.strip_prefix(" ")) for side in ("chosen", "rejected"))
    row = pl.format(
        '  {{\n    "id": {},\n    "input": "",\n    "instruction": {},\n'
        '    "output": [\n      {},\n      {}\n    ]\n  }}',
        pl.when(is_number).then(name).otherwise(json_text(name)),
        json_text(pl.col("prompt")),
        *texts,
    )
    return rows.select(row).to_series()


def _released_id(name: str) -> int | str:
    is_number = len(name) <= _MAX_DIGITS and re.fullmatch(_ROW_NUMBER, name)
    return int(name) if is_number else name
