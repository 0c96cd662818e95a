"""Discovery of released files and what their checks find."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

import polars as pl
import pytest
from released_example import ITERATIONS, KEYS, MODELS, build_release, read, write

from weak_to_strong.method.olympicarena_prompts import olympicarena_prompt
from weak_to_strong.paper.released import Release, find_answer_key, find_released
from weak_to_strong.paper.released_checks import (
    check_release,
    read_checks,
    require_no_failure,
    summarise_checks,
)
from weak_to_strong.paper.released_outcomes import read_golden
from weak_to_strong.tables.schemas import QUESTIONS

PUBLISHED = os.environ.get("W2S_PUBLISHED_DIR")
ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "resources/golden_counts.csv"

SUMS = "data/llama_factory/sums/train_sums_pico_1b"
ALGEBRA = "data/llama_factory/algebra/train_algebra_nano-3b"
OUTPUTS = "outputs/sums_train_2/zero_shot/pico_1b_sums_1/zero-shot/direct/results.jsonl"
PAIRS = f"{SUMS}_iter2_hybrid_paired.json"


def verdicts(folder: Path, golden: dict | None = None) -> dict[tuple[str, str], str]:
    checks = check_release(Release(folder), golden or {})
    verdict_of = {(file, name): ok for file, name, _, _, ok, _ in checks.iter_rows()}
    assert len(verdict_of) == checks.height
    return verdict_of


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    """A release without errors, and its verdicts."""
    folder = tmp_path_factory.mktemp("release")
    build_release(folder)
    return folder, verdicts(folder)


@pytest.fixture
def copied(clean, tmp_path):
    """A copy to spoil, and what that changes in the verdicts."""
    folder = tmp_path / "release"
    shutil.copytree(clean[0], folder)

    def changes() -> dict[tuple[str, str], str | None]:
        after, before = verdicts(folder), clean[1]
        keys = after.keys() | before.keys()
        return {key: after.get(key) for key in keys if after.get(key) != before.get(key)}

    return folder, changes


def edit(folder: Path, path: str, change) -> None:
    rows = read(folder, path)
    change(rows)
    write(folder, path, rows)


# --- a release without errors ------------------------------------------------------------------


def test_a_release_of_unknown_models_and_tasks_passes(clean):
    verdict_of = clean[1]
    findings = {key for key, verdict in verdict_of.items() if verdict == "finding"}
    padded = [f"data/llama_factory/algebra/train_algebra_{name}_iter1_icl.json" for name in MODELS]
    assert findings == {(path, "agrees with weak rows") for path in padded}
    assert set(verdict_of.values()) == {"ok", "finding"}
    names = {name for _, name in verdict_of}
    assert {"from samples", "weak side", "head of padded file", "recorded results"} <= names


def test_every_training_file_has_a_check(clean):
    folder, verdict_of = clean
    assert {path for path, _ in verdict_of} >= set(find_released(folder)) - {
        path for path in find_released(folder) if "data/raw" in path
    }


def test_chains_are_read_from_file_names(clean):
    chains = Release(clean[0]).chains()
    assert {(chain.task, chain.weak) for chain in chains} == {
        (task, name) for task in KEYS for name in MODELS
    }
    assert {Release(clean[0]).iterations(chain) for chain in chains} == set(ITERATIONS.values())


# --- spoilt copies -----------------------------------------------------------------------------


def swap_rows(rows):
    rows[3], rows[4] = rows[4], rows[3]


def drop_row(rows):
    del rows[5]


def flip_result(rows):
    rows[2]["result"] = not rows[2]["result"]


def change(column, value, place=2):
    def apply(rows):
        rows[place][column] = value

    return apply


def equal_answers(rows):
    """Give both sides of a pair the same answer: the weak model's."""
    for row in rows:
        chosen, rejected = row["output"]
        if "pico_1b thinks" in chosen:
            row["output"][1] = rejected.rpartition(" ")[0] + " " + chosen.rpartition(" ")[2]
            return


def foreign_weak_side(rows):
    """Change the weak model's text in the only pair of a question.

    With several pairs of the question, different weak texts would be one more fault.
    """
    ids = [row["id"] for row in rows]
    row = next(row for row in rows if ids.count(row["id"]) == 1)
    side = 0 if "pico_1b thinks" in row["output"][0] else 1
    row["output"][side] = "Someone else: " + row["output"][side]


def two_majorities(rows):
    """Two pairs of a question with different chosen answers."""
    twin = {**rows[0], "output": list(rows[0]["output"])}
    twin["output"][0] = "Also.\n#### 99999"
    rows.insert(1, twin)


SPOILT = {
    "a changed prediction": (
        OUTPUTS,
        change("pred", "12345"),
        {(OUTPUTS, "recorded predictions"): "FAIL"},
    ),
    "a changed result": (OUTPUTS, flip_result, {(OUTPUTS, "recorded results"): "FAIL"}),
    "a changed prompt": (OUTPUTS, change("prompt", "Why?"), {(OUTPUTS, "prompts"): "FAIL"}),
    "another gold answer": (
        OUTPUTS,
        change("gold", "12345"),
        {(OUTPUTS, "gold"): "FAIL"},
    ),
    "a changed gold row": (
        "data/llama_factory/sums/sums_train_2.json",
        change("output", "No.\n#### 1"),
        {("data/llama_factory/sums/sums_train_2.json", "from raw"): "FAIL"},
    ),
    "a changed test row": (
        "data/test/algebra.jsonl",
        change("tag", {}),
        {("data/test/algebra.jsonl", "from raw"): "FAIL"},
    ),
    "a changed weak text": (
        f"{SUMS}_full_weak.json",
        change("output", "Hm.\n#### 1"),
        {(f"{SUMS}_full_weak.json", "from weak outputs"): "FAIL"},
    ),
    "a swapped hybrid row": (
        f"{SUMS}_iter1_hybrid.json",
        swap_rows,
        {(f"{SUMS}_iter1_hybrid.json", "from weak and ICL rows"): "FAIL"},
    ),
    "a missing hybrid row": (
        f"{SUMS}_iter2_hybrid.json",
        drop_row,
        {(f"{SUMS}_iter2_hybrid.json", "from weak and ICL rows"): "FAIL"},
    ),
    "a missing weak row": (
        f"{SUMS}_iter1_weak.json",
        drop_row,
        {
            (f"{SUMS}_iter1_weak.json", "from weak outputs"): "FAIL",
            (f"{SUMS}_iter1_weak.json", "no empty answers"): "FAIL",
            (f"{SUMS}_iter1_icl.json", "agrees with weak rows"): "FAIL",
        },
    ),
    "a changed kept answer": (
        f"{SUMS}_iter2_icl.json",
        change("output", "Hm.\n#### 12345"),
        {
            (f"{SUMS}_iter2_icl.json", "agrees with weak rows"): "FAIL",
            (f"{SUMS}_iter2_hybrid.json", "from weak and ICL rows"): "FAIL",
        },
    ),
    "a changed last answer is no padding": (
        f"{SUMS}_iter2_icl.json",
        change("output", "Hm.\n#### 12345", -1),
        {
            (f"{SUMS}_iter2_icl.json", "agrees with weak rows"): "FAIL",
            (f"{SUMS}_iter2_hybrid.json", "from weak and ICL rows"): "FAIL",
        },
    ),
    "another question in a kept row": (
        f"{SUMS}_iter2_weak.json",
        change("content", "Question: Why?\nAnswer:"),
        {(f"{SUMS}_iter2_weak.json", "prompts"): "FAIL"},
    ),
    "a changed row of the file without padding": (
        f"{ALGEBRA}_iter1_hybrid_wo_aug.json",
        change("output", "Hm. The answer is: 1"),
        {
            (f"{ALGEBRA}_iter1_hybrid_wo_aug.json", "head of padded file"): "FAIL",
            (f"{ALGEBRA}_iter1_hybrid_wo_aug.json", "from weak and ICL rows"): "FAIL",
        },
    ),
    "padding in another order": (
        f"{ALGEBRA}_iter1_hybrid.json",
        lambda rows: rows.append(rows.pop(-2)),
        {(f"{ALGEBRA}_iter1_hybrid.json", "from weak and ICL rows"): "FAIL"},
    ),
    "a pair with equal answers": (
        PAIRS,
        equal_answers,
        {(PAIRS, "answers differ"): "FAIL", (PAIRS, "from samples"): "FAIL"},
    ),
    "a pair with a foreign weak side": (
        PAIRS,
        foreign_weak_side,
        {(PAIRS, "weak side"): "FAIL", (PAIRS, "from samples"): "FAIL"},
    ),
    "a pair of another question": (
        PAIRS,
        change("instruction", "Question: Why?\nAnswer:"),
        {(PAIRS, "prompts"): "FAIL", (PAIRS, "from samples"): "FAIL"},
    ),
    "pairs in another order": (
        PAIRS,
        lambda rows: rows.append(rows.pop(0)),
        {(PAIRS, "order of train_2"): "FAIL", (PAIRS, "from samples"): "FAIL"},
    ),
    "a changed sample": (
        "outputs/sums_train_2/zero_shot/strong-pico_1b/zero-shot/direct/t1.0/seed3/results.jsonl",
        change("response", "Hm.\n#### 7", 0),
        None,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", SPOILT)
def test_a_spoilt_file_fails_its_checks_and_no_others(copied, case):
    folder, changes = copied
    path, change, expected = SPOILT[case]
    edit(folder, path, change)
    changed = changes()
    if expected is None:
        assert changed[path, "recorded predictions"] == "FAIL"
        assert changed[PAIRS, "from samples"] == "FAIL"
    else:
        assert changed == expected


@pytest.mark.slow
def test_two_majorities_of_a_question_fail(copied):
    folder, changes = copied
    edit(folder, PAIRS, two_majorities)
    changed = changes()
    assert changed[PAIRS, "majority rule"] == "FAIL"
    assert set(changed.values()) == {"FAIL"}


REMOVED = {
    OUTPUTS: {
        *((f"{SUMS}_{kind}.json", "from weak outputs") for kind in ["full_weak"]),
    },
    PAIRS: {
        (PAIRS, name)
        for name in (
            *("prompts", "order of train_2", "answers differ", "majority rule"),
            *("weak model", "weak side", "from samples"),
        )
    },
    f"{SUMS}_iter1_hybrid.json": {
        (f"{SUMS}_iter1_hybrid.json", name) for name in ("prompts", "from weak and ICL rows")
    },
    "data/raw/sums/train_1.jsonl": {
        ("data/llama_factory/sums/sums_train_1.json", "from raw"),
        ("data/raw/sums/train_2.jsonl", "not in train_1"),
    },
}


@pytest.mark.slow
@pytest.mark.parametrize("path", REMOVED)
def test_checks_of_a_removed_file_are_absent(copied, path):
    folder, changes = copied
    (folder / path).unlink()
    changed = changes()
    gone = {key for key, verdict in changed.items() if verdict is None}
    assert gone <= {(path, name) for _, name in gone}
    rest = {key: verdict for key, verdict in changed.items() if key not in gone}
    # A pattern of a path stands for outputs that are absent.
    patterned = {key for key in rest if "*" in key[0]}
    assert rest.keys() - patterned == REMOVED[path]
    assert set(rest.values()) == {"absent"}


@pytest.mark.slow
def test_a_broken_file_fails_and_what_needs_it_is_absent(copied):
    folder, changes = copied
    path = f"{SUMS}_iter1_hybrid.json"
    (folder / path).write_text("[{", encoding="utf-8")
    assert changes() == {
        (path, "readable"): "FAIL",
        (path, "prompts"): "absent",
        (path, "from weak and ICL rows"): "absent",
    }


@pytest.mark.parametrize("column", ["id", "output"])
def test_a_row_without_a_column_is_named(copied, column):
    folder, _ = copied
    path = f"{SUMS}_iter1_weak.json"
    edit(folder, path, lambda rows: rows[7].pop(column))
    assert f"row 7 has no usable `{column}`" in Release(folder).broken[path]


# --- deviations of the data --------------------------------------------------------------------


@pytest.mark.slow
def test_pairs_of_another_weak_model_are_a_finding_that_names_it(tmp_path):
    build_release(tmp_path, weak_side_of={"pico_1b": "nano-3b"})
    checks = check_release(Release(tmp_path), {}).filter(file=PAIRS)
    rows = {row["check"]: row for row in checks.iter_rows(named=True)}
    model = rows["weak model"]
    assert (model["expected"], model["actual"], model["ok"]) == ("pico_1b", "nano-3b", "finding")
    assert rows["weak side"]["ok"] == "ok"
    assert rows["from samples"]["ok"] == "ok"
    key = (PAIRS, "weak model")
    assert verdicts(tmp_path, {(PAIRS, "made with nano-3b"): (9, "counted")})[key] == "finding"
    assert verdicts(tmp_path, {(PAIRS, "made with micro"): (9, "counted")})[key] == "FAIL"


@pytest.mark.slow
def test_pairs_of_an_unknown_model_fail_unless_the_figure_is_recorded(copied):
    folder, changes = copied

    def rename(rows):
        for row in rows:
            row["output"] = [text.replace("pico_1b thinks", "It") for text in row["output"]]

    edit(folder, PAIRS, rename)
    assert changes() == {
        (PAIRS, "weak model"): "FAIL",
        (PAIRS, "weak side"): "absent",
        (PAIRS, "from samples"): "absent",
    }
    recorded = {(PAIRS, "own texts"): (0, "counted")}
    assert verdicts(folder, recorded)[PAIRS, "weak model"] == "finding"
    recorded = {(PAIRS, "own texts"): (1, "counted")}
    assert verdicts(folder, recorded)[PAIRS, "weak model"] == "FAIL"
    recorded = {(PAIRS, "made with micro"): (9, "counted")}
    assert verdicts(folder, recorded)[PAIRS, "weak model"] == "absent"


@pytest.mark.slow
def test_overlap_is_a_finding_and_must_be_the_recorded_one(copied):
    folder, _ = copied
    path = "data/raw/sums/train_1.jsonl"
    question = read(folder, "data/raw/sums/train_2.jsonl")[4]["question"]
    edit(folder, path, change("question", question.upper()))
    key = ("data/raw/sums/train_2.jsonl", "not in train_1")
    assert verdicts(folder)[key] == "finding"
    golden = {(key[0], "overlap"): (1, "counted")}
    assert verdicts(folder, golden)[key] == "finding"
    assert verdicts(folder, {(key[0], "overlap"): (2, "counted")})[key] == "FAIL"


@pytest.mark.slow
def test_answers_that_both_sides_leave_empty_are_a_finding(copied):
    folder, changes = copied
    weak, icl, hybrid = (f"{SUMS}_iter2_{side}.json" for side in ("weak", "icl", "hybrid"))
    for path in (weak, icl):
        edit(folder, path, change("output", "No idea"))
    edit(folder, hybrid, lambda rows: [row.update(output="No idea") for row in rows[4:6]])
    assert changes() == {(weak, "no empty answers"): "finding"}
    key = (weak, "no empty answers")
    assert verdicts(folder, {(weak, "kept empty"): (0, "counted")})[key] == "FAIL"


#: Answer type, the weak side's answer and the ICL side's.
SIDES = [
    ("SC", "B", r"\mathrm{B}"),
    ("SC", "A", "AC"),
    ("SC", "E", "E = mc^2"),
    ("MC", "A, C", "AB, CD"),
    ("NV", "0.000001", "0.000002"),
    ("NV", "5", "5"),
]


def test_answers_that_only_the_released_judge_accepts_are_a_finding(tmp_path):
    stem = "data/llama_factory/olympicarena/train_olympic_micro_iter2"
    for side in ("weak", "icl", "hybrid"):
        rows = []
        for i, (kind, *texts) in enumerate(SIDES):
            problem = dict.fromkeys(QUESTIONS) | {"question": f"{i}?\nA: x\nB: y\nC: z"}
            problem |= {"subject": "Math", "answer_type": kind}
            content = olympicarena_prompt(problem)
            for text in {"weak": texts[:1], "icl": texts[1:], "hybrid": texts}[side]:
                output = rf"The final answer is $\boxed{{{text}}}$."
                rows.append({"id": f"Math_{i}", "content": content, "output": output})
        write(tmp_path, f"{stem}_{side}.json", rows)
    icl = f"{stem}_icl.json"
    checks = check_release(Release(tmp_path), {})
    rows = {(file, name): rest for file, name, *rest in checks.iter_rows()}
    assert rows[icl, "agrees with weak rows"][2] == "ok"
    assert rows[f"{stem}_hybrid.json", "from weak and ICL rows"][2] == "ok"
    kinds = "1 multiple choice, 1 numerical value, 2 single choice"
    note = f"only the quirk `released_judge` accepts these: {kinds}"
    assert rows[icl, "released judge"] == ["0", "4", "finding", note]
    for count, verdict in {4: "finding", 3: "FAIL"}.items():
        golden = {(icl, "released judge"): (count, "counted")}
        assert verdicts(tmp_path, golden)[icl, "released judge"] == verdict
    edit(tmp_path, icl, change("output", r"The final answer is $\boxed{D}$."))
    assert verdicts(tmp_path)[icl, "agrees with weak rows"] == "FAIL"


@pytest.mark.slow
def test_counts_are_held_against_the_record(clean, tmp_path):
    folder = clean[0]
    golden = tmp_path / "golden.csv"
    weak = f"{ALGEBRA}_iter1_weak.json"
    kept = len(read(folder, f"{ALGEBRA}_iter1_weak_wo_aug.json"))
    chosen = sum("pico_1b thinks" in row["output"][0] for row in read(folder, PAIRS))
    assert 0 < chosen < len(read(folder, PAIRS))
    lines = [
        f"{weak},rows,{kept + 12},counted",
        f"{weak},agreeing,{kept},counted",
        f"{SUMS}_full_weak.json,rows,39,wrong",
        f"{SUMS}_full_weak.json,empty,0,counted",
        f"{SUMS}_full_weak.json,correct,0,no answer is its gold answer",
        f"{PAIRS},questions,1,wrong",
        f"{PAIRS},weak chosen,{chosen},counted",
        f"{weak},of Math,0,ids have no subject",
        "data/raw/sums/none.jsonl,rows,1,there is none",
    ]
    golden.write_text("file,count,expected,source\n" + "\n".join(lines), encoding="utf-8")
    verdict_of = verdicts(folder, read_golden(golden))
    assert {key: verdict_of[key] for key in verdict_of if key[1].startswith("count: ")} == {
        (weak, "count: rows"): "ok",
        (weak, "count: agreeing"): "ok",
        (f"{SUMS}_full_weak.json", "count: rows"): "FAIL",
        (f"{SUMS}_full_weak.json", "count: empty"): "ok",
        (f"{SUMS}_full_weak.json", "count: correct"): "ok",
        (PAIRS, "count: questions"): "FAIL",
        (PAIRS, "count: weak chosen"): "ok",
        (weak, "count: of Math"): "ok",
        ("data/raw/sums/none.jsonl", "count: rows"): "absent",
    }


# --- reading and reporting -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "message"),
    [
        (None, "is not set"),
        ("nowhere", "no such folder: "),
        ("a" * 300, "no such folder: "),
        (".", "holds no released file"),
    ],
)
def test_a_folder_without_released_files_is_refused(tmp_path, folder, message):
    with pytest.raises(ValueError, match=f"`published_dir`: .*{message}.*published_dir=DIR"):
        find_released(folder and tmp_path / folder)


def test_answer_keys_are_recognised():
    assert find_answer_key(["so\n#### 3", "none"]) == "####"
    assert find_answer_key(["$\\boxed{3}$ The answer is: 3"]) == "The answer is:"
    assert find_answer_key(["The final answer is $\\boxed{3}$.\nGood luck"]) == "\\boxed"
    with pytest.raises(ValueError, match="few texts give an answer"):
        find_answer_key(["a", "b", "#### 3"])


def test_the_summary_counts_verdicts_and_a_failure_is_named(clean, tmp_path):
    checks = check_release(Release(clean[0]), {})
    checks.write_csv(tmp_path / "check.csv")
    assert read_checks(tmp_path / "check.csv").equals(checks)
    require_no_failure(checks, "check.csv")
    total = next(line for line in summarise_checks(checks).splitlines() if line[:4] == "all ")
    assert total.split()[1:] == [str(checks.filter(ok="ok").height), "0", "0", "2"]
    failed = checks.with_columns(
        ok=pl.when(pl.int_range(pl.len()) == 3).then(pl.lit("FAIL")).otherwise("ok")
    )
    with pytest.raises(ValueError, match=r"1 of \d+ checks failed, all in check.csv; the first is"):
        require_no_failure(failed, "check.csv")


def test_a_golden_table_with_a_figure_twice_is_refused(tmp_path):
    golden = tmp_path / "golden.csv"
    golden.write_text("file,count,expected,source\na,rows,1,x\na,rows,2,x\n", encoding="utf-8")
    with pytest.raises(ValueError, match="stands twice"):
        read_golden(golden)


def test_the_page_has_every_check_and_the_recorded_summary(clean):
    recorded = read_checks(ROOT / "docs/results/published_check.csv")
    page = (ROOT / "docs/released_data.md").read_text(encoding="utf-8")
    names = {*recorded["check"], *(name for _, name in clean[1]), "readable"}
    named = {name for name in names if not name.startswith("count: ")}
    table = page.partition("## Checks")[2].partition("## What")[0]
    assert set(re.findall(r"`([^`]+)`", table.replace("`count: ...`", ""))) >= named
    assert summarise_checks(recorded) in page


# --- the authors' data ---------------------------------------------------------------------------

GSM8K = "data/llama_factory/gsm8k/train_gsm8k"
KNOWN = {
    ("data/raw/gsm8k/train_2.jsonl", "not in train_1"): "279",
    (f"{GSM8K}_llama2_7b_iter1_weak.json", "no empty answers"): "8",
    (f"{GSM8K}_llama2_7b_iter2_weak.json", "no empty answers"): "11",
    ("data/llama_factory/math/train_math_gemma_2b_iter1_icl.json", "agrees with weak rows"): "448",
    (f"{GSM8K}_gemma_2b_iter2_hybrid_paired.json", "weak model"): None,
    ("data/llama_factory/math/train_math_gemma_2b_iter1_hybrid_paired.json", "weak model"): None,
}


@pytest.mark.slow
@pytest.mark.skipif(not PUBLISHED, reason="W2S_PUBLISHED_DIR names no folder of released data")
def test_the_released_data_regenerate():
    checks = check_release(Release(PUBLISHED), read_golden(GOLDEN))
    assert checks.filter(ok="FAIL").rows() == []
    rows = {(row["file"], row["check"]): row for row in checks.iter_rows(named=True)}
    for key, figure in KNOWN.items():
        assert rows[key]["ok"] == "finding"
        assert figure in (None, rows[key]["actual"])
    outputs = "outputs/gsm8k_train_2/zero_shot/llama2_7b_gsm8k_1/zero-shot/direct/results.jsonl"
    for name in ("recorded predictions", "recorded results", "prompts", "gold"):
        row = rows[outputs, name]
        assert (row["expected"], row["actual"], row["ok"]) == ("7000", "7000", "ok")
    exact = {
        "data/llama_factory/gsm8k/gsm8k_train_1.json": "from raw",
        "data/llama_factory/gsm8k/gsm8k_train_2.json": "from raw",
        "data/test/gsm8k_train_2.jsonl": "from raw",
        f"{GSM8K}_llama2_7b_full_weak.json": "from weak outputs",
        f"{GSM8K}_llama2_7b_iter1_weak.json": "from weak outputs",
        f"{GSM8K}_llama2_7b_iter1_icl.json": "from weak outputs",
        f"{GSM8K}_llama2_7b_iter1_hybrid.json": "from weak and ICL rows",
        f"{GSM8K}_llama2_7b_iter2_hybrid.json": "from weak and ICL rows",
    }
    for path, name in exact.items():
        row = rows[path, name]
        assert row["ok"] == "ok"
        assert row["note"].startswith("byte for byte")
