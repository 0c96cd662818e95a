"""Pretraining of the embedded model pair from random weights: tokenizer, text, Llama-shaped model.

The text shows the task's problems in many layouts. A layout is a random choice of a question key,
an answer key and a result key. The experiment prompts with `Question:` and `Answer:`. The text has
each of these keys and never both in one layout. So the strong base can solve the problems, and
needs demonstrations or fine-tuning to show it the layout. That is the latent ability which
weak-to-strong training elicits. A model may also see problems in OlympicArena's form, with a key
other than `Answer:`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from itertools import islice, product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from weak_to_strong.data.authors import author_documents
from weak_to_strong.data.embedded_forms import restate
from weak_to_strong.data.embedded_task import generate_problems
from weak_to_strong.method.answer_keys import BOXED
from weak_to_strong.method.olympicarena_prompts import olympicarena_prompt
from weak_to_strong.method.prompts import sft_target
from weak_to_strong.training.checkpoints import find_checkpoint, remove_torn

QUESTION_KEYS = ("Problem:", "Exercise:", "Task:", "Q:", "Question:")
SOLUTION_KEYS = ("Solution:", "Work:", "Reasoning:", "A:", "Answer:")
RESULT_KEYS = ("Result:", "Total:", "The answer is:", "=>", "####")
HELD_OUT = ("Question:", "Answer:")
#: All layouts: question key, answer key, result key.
LAYOUTS = tuple(
    layout
    for layout in product(QUESTION_KEYS, SOLUTION_KEYS, RESULT_KEYS)
    if layout[:2] != HELD_OUT
)

#: Largest number of the sums and differences in drills.
DRILL_LARGEST = 150

BOS, EOS, PAD = "<s>", "</s>", "<pad>"


def experiment_questions(templates: Collection[int], data_seed: int, problems: int) -> set[str]:
    """Questions of the embedded task's splits. Pretraining never shows them."""
    stream = generate_problems(templates, data_seed)
    return {problem["question"] for problem in islice(stream, problems)}


def draw_layout(rng: Random) -> tuple[str, str, str]:
    """A random (question key, answer key, result key), never with the held-out pair of keys."""
    while True:
        layout = (rng.choice(QUESTION_KEYS), rng.choice(SOLUTION_KEYS), rng.choice(RESULT_KEYS))
        if layout[:2] != HELD_OUT:
            return layout


def render(problem: dict, layout: tuple[str, str, str]) -> str:
    """One problem as text in the given layout."""
    question_key, answer_key, result_key = layout
    steps, _, answer = problem["solution"].rpartition("\n#### ")
    return f"{question_key} {problem['question']}\n{answer_key} {steps}\n{result_key} {answer}"


def render_competition(problem: dict, answer_key: str, seed: int) -> str:
    """One problem in OlympicArena's form, with `answer_key` in place of `Answer:`."""
    row = restate(problem, "olympicarena", seed)
    prompt = olympicarena_prompt(row).removesuffix("Answer:")
    return f"{prompt}{answer_key} {sft_target(row['solution'], row['answer'], BOXED)}"


def drill(rng: Random, largest: int = DRILL_LARGEST) -> str:
    """One line of arithmetic in one of the notations that solutions use.

    Args:
        rng: draws the line.
        largest: largest number of a sum or difference.
    """
    operator = rng.choice("++--**/")
    if operator in "+-":
        left, right = rng.randint(1, largest), rng.randint(1, largest)
        if operator == "-":
            left, right = max(left, right), min(left, right)
        value = left + right if operator == "+" else left - right
    else:
        left, right = rng.randint(2, 60), rng.randint(2, 12)
        value = left * right
        if operator == "/":
            left, value = value, left
    space = rng.choice(("", " "))
    sign = rng.choice("*x") if operator == "*" else operator
    return f"{left}{space}{sign}{space}{right}{space}={space}{value}"


def generate_documents(
    templates: Collection[int],
    seed: int,
    drill_share: float,
    exclude: Collection[str] = (),
    competition_share: float = 0.0,
    authors: Mapping[str, Any] | None = None,
    drill_largest: int = DRILL_LARGEST,
) -> Iterator[str]:
    """Endless stream of documents: one to six problems in one layout, or a block of drills.

    Args:
        templates: templates of the embedded task.
        seed: seed of the stream.
        drill_share: share of documents that are arithmetic drills, in [0, 1).
        exclude: questions that no document shows: those of the experiment's splits.
        competition_share: share of documents with one or two problems in OlympicArena's form. Both
            shares together are at most 1.
        authors: settings of `authors.author_documents`, whose documents then stand in place of the
            problems with the library's solutions.
        drill_largest: largest number of the sums and differences in drills.
    """
    rng = Random(seed)
    problems = generate_problems(templates, seed, exclude)
    written = author_documents(templates, seed, authors, LAYOUTS, exclude) if authors else None
    while True:
        draw = rng.random()
        if draw < drill_share:
            yield "\n".join(drill(rng, drill_largest) for _ in range(24))
        elif draw < drill_share + competition_share:
            key, count = rng.choice(SOLUTION_KEYS[:-1]), rng.randint(1, 2)
            yield "\n\n".join(
                render_competition(problem, key, seed) for problem in islice(problems, count)
            )
        elif written is not None:
            yield next(written)
        else:
            layout = draw_layout(rng)
            count = rng.randint(1, 6)
            yield "\n\n".join(render(problem, layout) for problem in islice(problems, count))


def train_tokenizer(texts: list[str], vocab_size: int, context: int) -> Any:
    """Byte-level BPE with one token for each digit, and one BOS token before each text.

    Bytes are the base alphabet, so any text of a user's own task can be encoded.

    Args:
        texts: training texts.
        vocab_size: number of tokens.
        context: longest context of the model, in tokens.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=vocab_size,
            special_tokens=[BOS, EOS, PAD],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=EOS,
        pad_token=PAD,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )


def pack_tokens(documents: Iterator[str], tokenizer: Any, blocks: int, length: int) -> np.ndarray:
    """Documents joined by EOS tokens and cut into blocks: token ids, shape (blocks, length)."""
    wanted = blocks * length
    stream = np.empty(wanted, dtype=np.uint16)
    filled = 0
    while filled < wanted:
        for ids in tokenizer(list(islice(documents, 2000)))["input_ids"]:
            piece = np.asarray([*ids, tokenizer.eos_token_id], dtype=np.uint16)[: wanted - filled]
            stream[filled : filled + len(piece)] = piece
            filled += len(piece)
    return stream.reshape(blocks, length)


class _Blocks:
    """Map-style dataset of token blocks for the Trainer."""

    def __init__(self, blocks: np.ndarray) -> None:
        self.blocks = blocks

    def __len__(self) -> int:
        return len(self.blocks)

    def __getitem__(self, index: int) -> dict:
        ids = self.blocks[index].astype(np.int64)
        return {"input_ids": ids, "labels": ids}


def pretrain(
    blocks: np.ndarray,
    tokenizer: Any,
    shape: dict,
    context: int,
    settings: dict,
    seed: int,
    work: Path,
    model: Any = None,
) -> tuple[Any, dict]:
    """Train a Llama-shaped model on token blocks, resuming from a checkpoint in `work`.

    Args:
        blocks: token ids, shape (n, length). Training makes one pass over them.
        tokenizer: tokenizer of the ids.
        shape: keyword arguments of `LlamaConfig` (hidden_size, num_hidden_layers, ...).
        context: longest context in tokens.
        settings: `learning_rate`, `batch_size` (blocks of an update), `warmup_ratio`,
            `weight_decay`, `bf16`.
        seed: seed of the weights and of the order of blocks.
        work: folder of checkpoints.
        model: the model to go on from; one with random weights of `shape` by default.

    Returns:
        The model and `{"parameters", "tokens", "loss"}`. The loss is the last logged, in nats a
        token.
    """
    from transformers import Trainer, set_seed

    from weak_to_strong.training.callbacks import make_callbacks

    set_seed(seed)
    model = model or _random_model(tokenizer, shape, context)
    steps = len(blocks) // settings["batch_size"]
    arguments = _pretraining_arguments(settings, steps, seed, work)
    trainer = Trainer(model=model, train_dataset=_Blocks(blocks), args=arguments)
    work.mkdir(parents=True, exist_ok=True)
    for callback in make_callbacks():
        trainer.add_callback(callback)
    checkpoint = find_checkpoint(work)
    remove_torn(work)
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    facts = {
        "parameters": model.num_parameters(),
        "tokens": int(steps * settings["batch_size"] * blocks.shape[1]),
        "loss": losses[-1] if losses else None,
    }
    return model, facts


def _random_model(tokenizer: Any, shape: dict, context: int) -> Any:
    """A Llama-shaped float32 model with random weights."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            max_position_embeddings=context,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
            dtype=torch.float32,
            **shape,
        )
    )


def _pretraining_arguments(settings: dict, steps: int, seed: int, work: Path) -> Any:
    """transformers' configuration of a pretraining of `steps` updates."""
    import torch
    from transformers import TrainingArguments

    return TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=settings["batch_size"],
        learning_rate=settings["learning_rate"],
        lr_scheduler_type="cosine",
        warmup_steps=int(settings["warmup_ratio"] * steps),
        weight_decay=settings["weight_decay"],
        adam_beta2=0.95,
        bf16=settings["bf16"],
        use_cpu=not torch.cuda.is_available(),
        logging_steps=25,
        save_steps=max(1, min(250, steps // 4)),
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        seed=seed,
    )
