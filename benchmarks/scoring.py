"""Math mode against a plain loop over math-verify, on the same 27,000 comparisons.

    python benchmarks/scoring.py [--published DIR] [--workers 2] [--scale 1.0]

The pairs are 21,000 in the style of GSM8K and 6,000 in the style of MATH. Generated ones always
serve (seed 0, three samples for each question): on GSM8K 45% of the predictions are right, one in
25 of these in another writing; on MATH 30% and one in five; wrong ones are mostly near misses, of
which a question has few. With `--published` the same numbers of rows of the authors' released
data are compared as well: recorded GSM8K answers, and the MATH answers whose gold is known, which
repeat one another more.

The loop reads each side of each pair with `math_verify.parse` and compares with `verify`, both with
their own time limits. It runs in quarters, with a whole run of ours after each of the first three,
so that other load hits both; ours is their median and includes the start of its processes. Verdicts
that differ are counted by kind and written to the standard output. Writes benchmarks/scoring.csv.
"""

import argparse
import json
import logging
import random
import statistics
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import polars as pl
from measuring import ROOT

from weak_to_strong.evaluation.scoring import math_verify_many
from weak_to_strong.method.answers import extract_answer
from weak_to_strong.method.prompts import clean_response

GSM8K = "data/llama_factory/gsm8k/train_gsm8k_"
MATH = "data/llama_factory/math/train_math_gemma_2b_iter1_"
WEAK_OUTPUTS = "outputs/gsm8k_train_2/zero_shot/llama2_7b_gsm8k_1/zero-shot/direct/results.jsonl"
COUNTS = {"gsm8k": 21_000, "math": 6_000}
Pairs = list[tuple[str, str]]


def generated_gsm8k(rng: random.Random) -> Iterator[tuple[str, str]]:
    """(prediction, gold) without end: whole numbers, three predictions for each gold."""
    while True:
        gold = rng.randint(1, 10 ** rng.randint(1, 4))
        wrong = [gold + rng.choice([-10, -2, -1, 1, 2, 10]), gold * 2, rng.randint(1, 500)]
        for _ in range(3):
            draw = rng.random()
            if draw < 0.45:
                rewritten = rng.choice([f"{gold:,}", f"{gold}.00", f"${gold}", f"{gold} dollars"])
                yield rewritten if rng.random() < 0.04 else str(gold), str(gold)
            elif draw < 0.48:
                yield "", str(gold)
            elif draw < 0.49:
                yield rng.choice([f"{gold}/7", f"{gold}x + 3", f"1:{gold}"]), str(gold)
            else:
                yield str(rng.choice(wrong)), str(gold)


def math_answer(rng: random.Random) -> tuple[str, str]:
    """One answer and the same in another writing."""
    a, b, c = rng.randint(2, 60), rng.randint(2, 12), rng.randint(1, 20)
    kinds = {
        "number": (60, str(a * b), rng.choice([f"x = {a * b}", rf"{a * b}\text{{ cm}}"])),
        "fraction": (
            14,
            rf"\frac{{{a}}}{{{b}}}",
            rng.choice([f"{a}/{b}", rf"\dfrac{{{a}}}{{{b}}}"]),
        ),
        "root": (8, rf"{b}\sqrt{{{c}}}", rf"\sqrt{{{b * b * c}}}"),
        "circle": (4, rf"\frac{{{a}\pi}}{{{b}}}", rf"\frac{{{a}}}{{{b}}}\pi"),
        "polynomial": (6, f"{a}x^2 - {b}x + {c}", f"{c} + {a}x^2 - {b}x"),
        "point": (4, f"({a},-{b})", rf"\left( {a}, -{b} \right)"),
        "union": (
            2,
            rf"(-\infty,{a}]\cup[{a + b},\infty)",
            rf"[{a + b},\infty) \cup (-\infty,{a}]",
        ),
        "function": (1, rf"{a}\sin x", rf"\sin(x) \cdot {a}"),
        "choice": (1, rf"\text{{({'ABCDE'[a % 5]})}}", "ABCDE"[a % 5]),
    }
    weights = [weight for weight, _, _ in kinds.values()]
    _, one, other = rng.choices(list(kinds.values()), weights)[0]
    return one, other


def generated_math(rng: random.Random) -> Iterator[tuple[str, str]]:
    """(prediction, gold) without end: nine kinds of answers, three predictions for each gold."""
    while True:
        gold, other = math_answer(rng)
        digits = [place for place, sign in enumerate(gold) if sign.isdigit()]
        place = rng.choice(digits or [0])
        near = gold[:place] + str(rng.randint(1, 9)) + gold[place + 1 :] if digits else "(F)"
        wrong = [near, math_answer(rng)[0]]
        for _ in range(3):
            draw = rng.random()
            if draw < 0.3:
                yield other if rng.random() < 0.2 else gold, gold
            else:
                yield rng.choice(wrong) if draw < 0.95 else "", gold


def published_rows(folder: Path, path: str) -> list[dict]:
    text = (folder / path).read_text(encoding="utf-8")
    if path.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return json.loads(text)


def read_pairs(responses: list[tuple[str, str]], key: str) -> Pairs:
    """(prediction, gold) of (response, gold), extracted as for scoring."""
    stops = ["Question", "Answer"]
    return [(extract_answer(clean_response(text, stops), key), gold) for text, gold in responses]


def published_gsm8k(folder: Path) -> Pairs:
    rows = published_rows(folder, WEAK_OUTPUTS)
    gold = {str(row["id"]): row["gold"] for row in rows}
    responses = [(row["response"], row["gold"]) for row in rows]
    names = ("gemma_2b_full_weak", "llama2_7b_iter2_icl", "llama2_7b_iter1_icl")
    for name in (*names, "gemma_2b_iter1_icl"):
        rows = published_rows(folder, f"{GSM8K}{name}.json")
        responses += [(row["output"], gold[str(row["id"])]) for row in rows]
    return read_pairs(responses, "####")


def published_math(folder: Path) -> Pairs:
    gold, responses = {}, []
    for name in ("weak", "icl", "hybrid"):
        for row in published_rows(folder, f"{MATH}{name}.json"):
            gold[str(row["id"])] = row["gold"]
            responses.append((row["output"], row["gold"]))
    for name in ("hybrid_paired", "hybrid_wo_aug"):
        for row in published_rows(folder, f"{MATH}{name}.json"):
            texts = row["output"] if isinstance(row["output"], list) else [row["output"]]
            responses += [(text, gold[str(row["id"])]) for text in texts if str(row["id"]) in gold]
    return read_pairs(responses, "The answer is:")


def loop_verdicts(pairs: Pairs) -> list[str]:
    """ "right" or "wrong" of math-verify's own functions, one pair after the other."""
    from math_verify import parse, verify

    def read(text: str) -> list:
        return parse(text if "$" in text else f"${text}$")

    return ["right" if verify(read(gold), read(answer)) else "wrong" for answer, gold in pairs]


def explain(pair: tuple[str, str], ours: str, plain: str) -> str:
    """The kind of a difference."""
    if ours in ("timeout", "undecided"):
        return ours
    return "a part is not the whole" if plain == "right" else "another writing is read"


def measure(pairs: Pairs, workers: int) -> tuple[float, float, list[str], list[str]]:
    """Seconds of ours and of the loop, and the verdicts of both."""
    quarter = -(-len(pairs) // 4)
    loop_seconds, our_seconds, plain, ours = 0.0, [], [], []
    for start in range(0, len(pairs), quarter):
        began = time.monotonic()
        plain += loop_verdicts(pairs[start : start + quarter])
        loop_seconds += time.monotonic() - began
        if len(our_seconds) < 3:
            began = time.monotonic()
            ours = math_verify_many(pairs, workers=workers)
            our_seconds.append(time.monotonic() - began)
    return statistics.median(our_seconds), loop_seconds, ours, plain


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--published", type=Path, help="folder of the authors' released data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--scale", type=float, default=1.0, help="share of the pairs to compare")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    loop_verdicts([("1", "2")])  # its imports do not count
    streams = {"gsm8k": generated_gsm8k, "math": generated_math}
    work = {}
    for name, stream in streams.items():
        source = stream(random.Random(0))
        work[f"generated {name}"] = [next(source) for _ in range(COUNTS[name])]
    if options.published:
        work["released gsm8k"] = published_gsm8k(options.published)[: COUNTS["gsm8k"]]
        work["released math"] = published_math(options.published)[: COUNTS["math"]]
    rows, sums = [], {}
    for name, pairs in work.items():
        pairs = pairs[: round(len(pairs) * options.scale)]
        ours_seconds, plain_seconds, ours, plain = measure(pairs, options.workers)
        apart = [
            (explain(pair, *verdicts), pair, *verdicts)
            for pair, *verdicts in zip(pairs, ours, plain, strict=True)
            if verdicts[0] != verdicts[1]
        ]
        for line in dict.fromkeys(apart):
            print(name, *line, sep=" | ")
        figures = (len(pairs), len(set(pairs)), ours_seconds, plain_seconds)
        kinds = Counter(kind for kind, *_ in apart)
        rows.append((name, options.workers, *figures, kinds))
        total = f"{name.split()[0]} together"
        counted = sums.setdefault(total, [0] * 4 + [Counter()])
        sums[total] = [one + other for one, other in zip(counted, (*figures, kinds), strict=True)]
    rows += [(name, options.workers, *figures) for name, figures in sums.items()]
    table = [
        (
            *(name, workers, pairs, distinct, seconds, plain, plain / seconds),
            pairs - kinds.total(),
            "; ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())) or "none",
        )
        for name, workers, pairs, distinct, seconds, plain, kinds in rows
    ]
    names = ["work", "workers", "pairs", "distinct", "seconds_ours", "seconds_plain", "ratio"]
    frame = pl.DataFrame(table, schema=[*names, "verdicts_same", "differences"], orient="row")
    frame.write_csv(ROOT / "benchmarks/scoring.csv", float_precision=2)
    with pl.Config(tbl_cols=-1, tbl_width_chars=200, fmt_str_lengths=80):
        print(frame)


if __name__ == "__main__":
    main()
