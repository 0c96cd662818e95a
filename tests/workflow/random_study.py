"""A small study with two models of random weights: its data, its models, its configuration.

An untrained model writes random tokens. Most tokens of the vocabulary are whole answer lines, so
that such text has final answers. There are only three answers. Untrained models therefore agree on
about a third of the questions, and samples differ but still have a majority. Gold answers are drawn
at random: a model scores about a third unless it has seen gold answers.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from random import Random
from string import ascii_lowercase

from weak_to_strong.tables.files import hash_file, read_json

ANSWERS = ("0", "1", "2")
SIZES = {"train_1": 48, "train_2": 96, "validation": 6, "test": 60}
WEAK_SIDE = "dice/random_weak/none/seed-0"
CHAIN = "dice/random_weak/random_strong/seed-0"

CONFIG = {
    "experiment": "test",
    # The strong model's folder has custom code. It must not run even with this setting.
    "trust_remote_code": True,
    "tasks": {
        "dice": {
            "loader": "table",
            "columns": {"question": "question", "solution": "solution", "answer": "answer"},
            "splits": {name: {"path": f"data/{name}.jsonl"} for name in SIZES},
            "max_tokens": 8,
            # Random text of answer lines, which flexible extraction reads in other places.
            "extraction": "paper",
        }
    },
    "models": {
        "random_weak": {"path": "models/weak"},
        "random_strong": {"path": "models/strong"},
    },
    "chains": [{"task": "dice", "weak": "random_weak", "strong": "random_strong"}],
    "sampling": {"n": 6},
    "demonstrations": {"ids": ["0", "1"]},
    # With six votes for three answers, one answer has at least two votes.
    "pairs": {"min_confidence": 0.3, "weak_rejected_confidence": 0.5},
    "training": {
        "sft": {"learning_rate": 1e-3, "epochs": 1, "max_length": 64},
        "dpo": {"learning_rate": 1e-3, "max_length": 64},
        "orpo": {"learning_rate": 1e-3, "max_length": 64},
    },
    "evaluation": {"samples": 2, "ks": [1, 2], "bootstrap_draws": 200},
    "engine": {"max_model_len": 128},
}


def write_data(folder: Path, choices: Sequence[str]) -> None:
    """Write questions that all differ, with answers that do not follow from them."""
    folder.mkdir()
    rng = Random(0)
    numbers = rng.sample(range(1000), sum(SIZES.values()))
    for name, size in SIZES.items():
        # Each answer equally often: one answer to everything scores exactly a third.
        answers = [*choices] * (size // len(choices))
        rng.shuffle(answers)
        rows = [
            {
                "question": " ".join(["die", *f"{numbers.pop():03}"]),
                "solution": f"a\n#### {answer}",
                "answer": answer,
            }
            for answer in answers
        ]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def make_tokenizer(answers: Sequence[str]):
    """A tokenizer whose tokens are words with the space before them, or whole answer lines."""
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<s>", "</s>", "<unk>", "Question:", "\n\nQuestion:", "\nAnswer:", " die"]
    words += [f" {digit}" for digit in range(10)]
    words += [f" {letter}\n#### {answer}" for letter in ascii_lowercase for answer in answers]
    vocabulary = {word: place for place, word in enumerate(words)}
    raw = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    last = "|".join(map(re.escape, answers))
    line = Regex(rf" [a-z]\n#### (?:{last})|\s*\S+")
    raw.pre_tokenizer = pre_tokenizers.Split(line, "isolated")
    raw.decoder = decoders.Fuse()
    raw.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        pad_token="</s>",
    )


def make_models(folder: Path, answers: Sequence[str]) -> None:
    """Save two base models with random weights; the strong one has custom code."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = make_tokenizer(answers)
    # Snakemake itself compares contents of files up to 1 MB, so the strong model is larger.
    for seed, (name, layers, width, mlp) in enumerate(
        [("weak", 1, 32, 64), ("strong", 2, 64, 768)]
    ):
        torch.manual_seed(seed)
        config = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=width,
            intermediate_size=mlp,
            num_hidden_layers=layers,
            num_attention_heads=width // 32,
            max_position_embeddings=128,
            # Wide enough for texts to depend on their prompts.
            initializer_range=0.3,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
        LlamaForCausalLM(config).save_pretrained(folder / name)
        tokenizer.save_pretrained(folder / name)
    config = read_json(folder / "strong/config.json")
    config["auto_map"] = {"AutoConfig": "theirs.Config", "AutoModelForCausalLM": "theirs.Model"}
    (folder / "strong/config.json").write_text(json.dumps(config))
    trace = str(folder / "code was run")
    (folder / "strong/theirs.py").write_text(f"open({trace!r}, 'w').close()\n")


def write_study(project: Path, answers: Sequence[str] = ANSWERS) -> dict:
    """Write data and models into a project folder; return the configuration of the study.

    Args:
        answers: the three final answers.
    """
    write_data(project / "data", answers)
    make_models(project / "models", answers)
    config = json.loads(json.dumps(CONFIG))
    # One file is fetched, so that every rule of a study has a job.
    fetched = project / "data/validation.jsonl"
    pinned = {"url": fetched.as_uri(), "sha256": hash_file(fetched)}
    config["tasks"]["dice"]["splits"]["validation"] = pinned
    return config
