"""Does a pair of base models have room for the method? Its steps on validation questions, quickly.

    python benchmarks/study_design.py STRONG WEAK [--seed 0] [--data-seed 20240719] [--train2 400]
        [--validation 300] [--majority 100] [--steps 110] [--hybrid-steps 110] [--stage-two]
        [--log FILE]

STRONG and WEAK are model folders, pretrained on text of `data/authors.py`. The task is form
`authors` of the embedded task, with splits of its own; the rows of its test split are dropped
unread. One process with one thread does all of it in a few minutes. Training and decoding are short
loops of its own with full weights, so figures are near those of the workflow and not equal to them.
All models of Stage I get the same number of updates, whatever the number of their rows, but for
hybrid-ft with `--hybrid-steps`. Each line is written as soon as it is known, cheap checks first:
stop when they fail. It reads gold answers of train_2 for its figures alone.
"""

import argparse
import copy
import math
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from random import Random
from typing import Any

import torch
from measuring import ROOT  # noqa: F401  (puts the package on the path)
from scipy.stats import binomtest
from transformers import AutoTokenizer, DynamicCache, LlamaForCausalLM

from weak_to_strong.data.authors import (
    SOLUTION_STYLES,
    cell_kind,
    gold_problem,
    gold_style,
    request_of,
)
from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.data.split_names import SPLITS, held_out_first
from weak_to_strong.method.prompts import few_shot_prompt, zero_shot_prompt

TEMPLATES = (6, 10, 16, 20, 31, 43, 48, 50, 58, 62, 72, 95)
SIZES = {"test": 400, "validation": 400, "train_1": 600, "train_2": 1000}  # order of the workflow
MAX_TOKENS = 56
Row = tuple[str, str]


def read_answer(text: str) -> str:
    """What follows the last `####`, or nothing."""
    _, key, rest = text.rpartition("####")
    return rest.split()[0] if key and rest.split() else ""


def style_of(text: str) -> int | None:
    """Number of the style in which a solution begins."""
    return next((i for i, words in enumerate(SOLUTION_STYLES) if text.startswith(words[0])), None)


class Bench:
    """Loops of training and decoding with one tokenizer, and one batch size and rate."""

    def __init__(self, tokenizer: Any, seed: int, batch: int, rate: float, steps: int) -> None:
        self.tokenizer, self.seed = tokenizer, seed
        self.batch, self.rate, self.steps = batch, rate, steps
        ends = [i for i in range(len(tokenizer)) if "\n\n" in tokenizer.decode([i])]
        self.ends = torch.tensor([*ends, tokenizer.eos_token_id])

    @torch.inference_mode()
    def generate(
        self,
        model: Any,
        prompts: Sequence[str],
        shots: str = "",
        temperature: float = 0.0,
        seed: int = 0,
    ) -> list[str]:
        """Texts for prompts, greedy or sampled, up to a blank line. The shots are read once."""
        draw = torch.Generator().manual_seed(seed)
        model = copy.deepcopy(model)
        encoded = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        shared, cached = 0, None
        if shots:
            ids = self.tokenizer(shots)["input_ids"]
            encoded = [prompt[1:] for prompt in encoded]  # the BOS token stands before the shots
            shared = len(ids)
            cached = model(input_ids=torch.tensor([ids]), use_cache=True).past_key_values
        texts = [""] * len(prompts)
        order = sorted(range(len(prompts)), key=lambda place: len(encoded[place]))
        for start in range(0, len(order), 150):
            places = order[start : start + 150]
            length = max(len(encoded[place]) for place in places)
            current = torch.full((len(places), length), self.tokenizer.pad_token_id)
            mask = torch.zeros((len(places), shared + length), dtype=torch.long)
            mask[:, :shared] = 1
            for row, place in enumerate(places):
                current[row, length - len(encoded[place]) :] = torch.tensor(encoded[place])
                mask[row, shared + length - len(encoded[place]) :] = 1
            cache = copy.deepcopy(cached) if cached else DynamicCache()
            if cached:
                cache.batch_repeat_interleave(len(places))
            positions = (mask.cumsum(1) - 1).clamp(min=0)[:, shared:]
            done, tokens = torch.zeros(len(places), dtype=torch.bool), []
            for _ in range(MAX_TOKENS):
                logits = model(
                    input_ids=current,
                    attention_mask=mask,
                    position_ids=positions,
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                ).logits[:, -1]
                if temperature:
                    shares = torch.softmax(logits.float() / temperature, -1)
                    token = torch.multinomial(shares, 1, generator=draw)[:, 0]
                else:
                    token = logits.argmax(-1)
                token = torch.where(done, torch.tensor(self.tokenizer.eos_token_id), token)
                tokens.append(token)
                done |= torch.isin(token, self.ends)
                if done.all():
                    break
                current, positions = token[:, None], positions[:, -1:] + 1
                mask = torch.cat([mask, torch.ones(len(places), 1, dtype=torch.long)], 1)
            for row, place in enumerate(places):
                text = self.tokenizer.decode(
                    [int(token[row]) for token in tokens], skip_special_tokens=True
                )
                texts[place] = text.split("Question")[0].split("\n\n")[0].strip()
        return texts

    def encode(self, prompt: str, completion: str) -> tuple[list[int], list[int]]:
        """Ids and labels of a row; the prompt is not learned."""
        start = len(self.tokenizer(prompt)["input_ids"])
        ids = [*self.tokenizer(f"{prompt} {completion}")["input_ids"], self.tokenizer.eos_token_id]
        return ids, [-100] * start + ids[start:]

    def pad(self, rows: Sequence[tuple[list[int], list[int]]]) -> dict[str, torch.Tensor]:
        """Rows of a batch as tensors of shape (rows, longest)."""
        length = max(len(ids) for ids, _ in rows)
        fill = self.tokenizer.pad_token_id
        return {
            "input_ids": torch.tensor([ids + [fill] * (length - len(ids)) for ids, _ in rows]),
            "labels": torch.tensor([ids + [-100] * (length - len(ids)) for _, ids in rows]),
            "attention_mask": torch.tensor(
                [[1] * len(ids) + [0] * (length - len(ids)) for ids, _ in rows]
            ),
        }

    def _train(
        self, base: Any, rows: list, loss: Callable[[Any, list], Any], rate: float, steps: int
    ) -> Any:
        model, rows, order = copy.deepcopy(base).train(), list(rows), Random(self.seed)
        optimiser = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.0)
        warm = math.ceil(0.03 * steps)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: (
                (step + 1) / warm
                if step < warm
                else 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
            ),
        )
        batches: list = []
        for _ in range(steps):
            if not batches:
                order.shuffle(rows)
                batches = [rows[i : i + self.batch] for i in range(0, len(rows), self.batch)]
            loss(model, batches.pop()).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            optimiser.zero_grad()
        return model.eval()

    def fine_tune(
        self, base: Any, rows: Sequence[Row], rate: float | None = None, steps: int | None = None
    ) -> Any:
        """SFT of all weights on (prompt, completion) rows."""
        return self._train(
            base,
            [self.encode(*row) for row in rows],
            lambda model, batch: model(**self.pad(batch), use_cache=False).loss,
            rate or self.rate,
            steps or self.steps,
        )

    def _likelihoods(self, model: Any, rows: list, mean: bool) -> torch.Tensor:
        batch = self.pad(rows)
        labels = batch.pop("labels")[:, 1:]
        logits = model(**batch, use_cache=False).logits[:, :-1].float()
        learned = labels != -100
        picked = torch.log_softmax(logits, -1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
        total = (picked * learned).sum(1)
        return total / learned.sum(1) if mean else total

    def prefer(
        self,
        base: Any,
        pairs: Sequence[tuple[str, str, str]],
        kind: str,
        rate: float,
        beta: float = 0.1,
    ) -> Any:
        """One epoch of DPO (reference: `base`) or ORPO on (prompt, chosen, rejected)."""

        def loss(model: Any, batch: list) -> torch.Tensor:
            rows, half = [pair[0] for pair in batch] + [pair[1] for pair in batch], len(batch)
            if kind == "dpo":
                with torch.no_grad():
                    reference = self._likelihoods(base, rows, mean=False)
                gain = self._likelihoods(model, rows, mean=False) - reference
                return -torch.nn.functional.logsigmoid(beta * (gain[:half] - gain[half:])).mean()
            means = self._likelihoods(model, rows, mean=True)
            odds = means - torch.log1p(-means.exp().clamp(max=1 - 1e-6))
            ratio = torch.nn.functional.logsigmoid(odds[:half] - odds[half:])
            return -means[:half].mean() - beta * ratio.mean()

        encoded = [
            (self.encode(prompt, chosen), self.encode(prompt, rejected))
            for prompt, chosen, rejected in pairs
        ]
        return self._train(base, encoded, loss, rate, math.ceil(len(encoded) / self.batch))


class Figures:
    """Figures of texts on one set of problems, and where they are written."""

    def __init__(self, problems: Sequence[dict], say: Callable[..., None]) -> None:
        self.problems, self.say = problems, say
        self.prompts = [zero_shot_prompt(problem["question"]) for problem in problems]

    def right(self, texts: Sequence[str]) -> list[bool]:
        return [
            read_answer(text) == problem["answer"]
            for text, problem in zip(texts, self.problems, strict=False)
        ]

    def accuracy(self, texts: Sequence[str]) -> float:
        verdicts = self.right(texts)
        return round(100 * sum(verdicts) / len(verdicts), 1)

    def styles(self, texts: Sequence[str]) -> str:
        """Share in the style of the request and in that of gold, and of the commonest style."""
        styles = [style_of(text) for text in texts]
        words = [problem["words"] for problem in self.problems]
        request = sum(a == request_of(b) for a, b in zip(styles, words, strict=False))
        gold = sum(a == gold_style(b) for a, b in zip(styles, words, strict=False))
        most = Counter(styles).most_common(1)[0][1]
        return " ".join(
            f"{name} {100 * count / len(styles):.0f}%"
            for name, count in (("request", request), ("gold", gold), ("commonest", most))
        )

    def cells(self, texts: Sequence[str]) -> str:
        """Accuracy by the kind of the cell in which each answer was written."""
        verdicts: dict[str, list[bool]] = {}
        for text, problem, right in zip(texts, self.problems, self.right(texts), strict=False):
            if (style := style_of(text)) is not None:
                verdicts.setdefault(cell_kind(problem["template"], style), []).append(right)
        return ", ".join(
            f"{kind} {100 * sum(values) / len(values):.0f} of {len(values)}"
            for kind, values in sorted(verdicts.items())
        )

    def templates(self, texts: Sequence[str]) -> str:
        """Accuracy by template."""
        verdicts: dict[int, list[bool]] = {}
        for problem, right in zip(self.problems, self.right(texts), strict=False):
            verdicts.setdefault(problem["template"], []).append(right)
        return ", ".join(
            f"{template}: {100 * sum(values) / len(values):.0f}"
            for template, values in sorted(verdicts.items())
        )

    def against(self, before: Sequence[str], after: Sequence[str]) -> str:
        """McNemar's exact test, uncorrected."""
        pairs = list(zip(self.right(before), self.right(after), strict=True))
        lost, won = pairs.count((True, False)), pairs.count((False, True))
        p = binomtest(won, won + lost).pvalue if won + lost else 1.0
        return f"+{won} -{lost} p {p:.2g}"


def vote(samples: Sequence[Sequence[str]]) -> list[tuple[str, float]]:
    """Majority answer of each question and its share."""
    counts = [Counter(map(read_answer, column)) for column in zip(*samples, strict=True)]
    return [
        (answer, count / len(samples)) for ((answer, count),) in (c.most_common(1) for c in counts)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("strong", type=Path)
    parser.add_argument("weak", type=Path)
    for name, default in (("seed", 0), ("train2", 400), ("validation", 300), ("majority", 100)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--data-seed", type=int, default=20240719)
    parser.add_argument(
        "--untaught", type=int, nargs="*", default=[], help="templates that train_1 leaves out"
    )
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rate", type=float, default=1e-4)
    parser.add_argument("--steps", type=int, default=110, help="of each SFT of the strong model")
    parser.add_argument("--hybrid-steps", type=int, help="of hybrid-ft, if not as many")
    parser.add_argument("--weak-rate", type=float, default=2e-4)
    parser.add_argument("--weak-steps", type=int, default=150)
    parser.add_argument("--stage-two", action="store_true")
    parser.add_argument("--log", type=Path)
    run(parser.parse_args())


def run(options: argparse.Namespace) -> None:
    began = time.monotonic()

    def say(*words: object) -> None:
        line = f"[{time.monotonic() - began:.0f} s] {' '.join(map(str, words))}"
        print(line, flush=True)
        if options.log:
            with options.log.open("a", encoding="utf-8") as file:
                file.write(line + "\n")

    torch.set_num_threads(1)
    say(" ".join(sys.argv[1:]))
    stream = generate_problems(TEMPLATES, options.data_seed)
    splits = {}
    for split in held_out_first(SPLITS):
        left_out = options.untaught if split == "train_1" else ()
        drawn = (problem for problem in stream if problem["template"] not in left_out)
        splits[split] = [
            {**gold_problem(problem), "words": problem["question"]}
            for problem in islice(drawn, SIZES[split])
        ]
    del splits["test"]
    train_2 = Figures(splits["train_2"][: options.train2], say)
    validation = Figures(splits["validation"][: options.validation], say)
    tokenizer = AutoTokenizer.from_pretrained(options.strong)
    strong, base_weak = (
        LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        for folder in (options.strong, options.weak)
    )
    bench = Bench(tokenizer, options.seed, options.batch, options.rate, options.steps)
    Study(bench, strong, base_weak, splits["train_1"], train_2, validation, options, say).run()


class Study:
    """The method, step by step; each step writes its figures."""

    def __init__(
        self,
        bench: Bench,
        strong: Any,
        base_weak: Any,
        train_1: Sequence[dict],
        train_2: Figures,
        validation: Figures,
        options: argparse.Namespace,
        say: Callable[..., None],
    ) -> None:
        self.bench, self.strong, self.base_weak = bench, strong, base_weak
        self.train_1, self.train_2, self.validation = train_1, train_2, validation
        self.options, self.say = options, say

    def run(self) -> None:
        bench, train_2, validation, say = self.bench, self.train_2, self.validation, self.say
        gold = [(zero_shot_prompt(row["question"]), row["solution"]) for row in self.train_1]
        weak = bench.fine_tune(
            self.base_weak, gold, self.options.weak_rate, self.options.weak_steps
        )
        self.weak_labels = labels = bench.generate(weak, train_2.prompts)
        floor = bench.generate(weak, validation.prompts)
        say("floor", validation.accuracy(floor), "|", validation.styles(floor))
        usable = [place for place, text in enumerate(labels) if read_answer(text)]
        places = Random(self.options.seed).sample(usable, 4)
        demonstrations = [
            {"prompt": train_2.prompts[place], "response": labels[place]} for place in places
        ]
        shots = few_shot_prompt("", demonstrations)
        icl = bench.generate(self.strong, validation.prompts, shots)
        icl_labels = bench.generate(self.strong, train_2.prompts, shots)
        say("  its templates:", validation.templates(floor))
        say("weak ICL", validation.accuracy(icl), "|", validation.styles(icl))
        say("  its cells:", validation.cells(icl))
        say("  its templates:", validation.templates(icl))
        say("  demonstrations right:", sum(train_2.right(labels)[place] for place in places))
        first, weak_side, icl_side = self.iterate("1", labels, icl_labels, icl)
        second, *_ = self.iterate(
            "2",
            bench.generate(weak_side, train_2.prompts),
            bench.generate(icl_side, train_2.prompts),
            bench.generate(first, validation.prompts),
        )
        pairs = list(zip(train_2.prompts, labels, strict=True))
        full = bench.generate(bench.fine_tune(self.strong, pairs), validation.prompts)
        say("full weak", validation.accuracy(full), "| to ICL", validation.against(full, icl))
        say("  its templates:", validation.templates(full))
        solutions = [row["solution"] for row in train_2.problems]
        rows = list(zip(train_2.prompts, solutions, strict=True))
        ceiling = bench.generate(bench.fine_tune(self.strong, rows), validation.prompts)
        say("ceiling", validation.accuracy(ceiling))
        if self.options.stage_two:
            self.stage_two(second)

    def iterate(
        self, name: str, left: Sequence[str], right: Sequence[str], before: Sequence[str]
    ) -> tuple[Any, Any, Any]:
        """One iteration of Stage I: hybrid-ft, weak-ft and icl-ft from the base."""
        bench, train_2, validation, say = self.bench, self.train_2, self.validation, self.say
        answers = [(read_answer(a), read_answer(b)) for a, b in zip(left, right, strict=True)]
        kept = [place for place, (a, b) in enumerate(answers) if a and a == b]
        verdicts = train_2.right(left)
        precision = 100 * sum(verdicts[place] for place in kept) / max(1, len(kept))
        say(f"sides {name}:", train_2.accuracy(left), "|", train_2.styles(left))
        say(f"sides {name}:", train_2.accuracy(right), "|", train_2.styles(right))
        say(f"kept {name}: {len(kept)} of {len(left)}, precision {precision:.1f}")
        weak_rows = [(train_2.prompts[place], left[place]) for place in kept]
        icl_rows = [(train_2.prompts[place], right[place]) for place in kept]
        hybrid_rows = [row for rows in zip(weak_rows, icl_rows, strict=True) for row in rows]
        hybrid = bench.fine_tune(self.strong, hybrid_rows, steps=self.options.hybrid_steps)
        texts = bench.generate(hybrid, validation.prompts)
        say(f"hybrid-ft {name}", validation.accuracy(texts), "|", validation.styles(texts))
        say("  against before:", validation.against(before, texts))
        say("  its cells:", validation.cells(texts))
        say("  its templates:", validation.templates(texts))
        count = self.options.majority
        samples = self.sample(hybrid, validation.prompts[:count])
        votes = vote(samples)
        majority = sum(
            answer == problem["answer"]
            for (answer, _), problem in zip(votes, validation.problems, strict=False)
        )
        sampled = sum(validation.accuracy(sample) for sample in samples) / len(samples)
        say(
            f"  greedy {validation.accuracy(texts[:count])} sampled {sampled:.1f} "
            f"majority of ten {100 * majority / count:.1f} (n {count})"
        )
        if name == "2":
            return hybrid, None, None
        return (
            hybrid,
            bench.fine_tune(self.strong, weak_rows),
            bench.fine_tune(self.strong, icl_rows),
        )

    def sample(self, model: Any, prompts: Sequence[str]) -> list[list[str]]:
        """Ten answers a question at temperature 1."""
        return [
            self.bench.generate(model, prompts, temperature=1.0, seed=100 * self.options.seed + i)
            for i in range(10)
        ]

    def stage_two(self, start: Any) -> None:
        """Preference learning from the last hybrid-ft, beside SFT on the chosen answers."""
        bench, train_2, validation, say = self.bench, self.train_2, self.validation, self.say
        before = bench.generate(start, validation.prompts)
        samples = self.sample(start, train_2.prompts)
        pairs, own = self.build_pairs(samples)
        for name, some, kind, rate in (
            ("ORPO", pairs, "orpo", 3e-5),
            ("ORPO", pairs, "orpo", 1e-4),
            ("DPO", pairs, "dpo", 1e-5),
            ("DPO", pairs, "dpo", 3e-5),
            ("ORPO, own samples", own, "orpo", 1e-4),
            ("DPO, own samples", own, "dpo", 3e-5),
            ("SFT on chosen", pairs, "sft", 3e-5),
            ("SFT on chosen", pairs, "sft", 1e-4),
        ):
            if kind == "sft":
                rows = [(prompt, chosen) for prompt, chosen, _ in some]
                model = bench.fine_tune(start, rows, rate, math.ceil(len(rows) / bench.batch))
            else:
                model = bench.prefer(start, some, kind, rate)
            texts = bench.generate(model, validation.prompts)
            say(f"{name} {rate}:", validation.accuracy(texts), "|", validation.styles(texts))
            say("  against M_plus:", validation.against(before, texts))

    def build_pairs(self, samples: Sequence[Sequence[str]]) -> tuple[list, list]:
        """(prompt, chosen, rejected) of the paper's pairs, and of pairs of own samples alone."""
        draw, pairs, own = Random(42), [], []
        counts: Counter = Counter()
        for place, (answer, share) in enumerate(vote(samples)):
            if share < 0.6 or not answer:
                continue
            texts = [sample[place] for sample in samples]
            agreeing = [text for text in texts if read_answer(text) == answer]
            others = [text for text in texts if read_answer(text) != answer]
            prompt, label = self.train_2.prompts[place], self.weak_labels[place]
            right = "right" if answer == self.train_2.problems[place]["answer"] else "wrong"
            if others:
                own.append((prompt, draw.choice(agreeing), draw.choice(others)))
            if read_answer(label) == answer and others:
                pairs.append((prompt, label, draw.choice(others)))
                counts["weak chosen", right] += 1
            elif read_answer(label) != answer and share >= 0.8:
                pairs.append((prompt, draw.choice(agreeing), label))
                counts["weak rejected", right] += 1
        self.say("pairs", len(pairs), dict(counts), "of own samples", len(own))
        return pairs, own


if __name__ == "__main__":
    main()
