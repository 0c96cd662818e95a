"""Small tokenizers with the chat templates of well-known model families.

The vocabulary has each byte, a line break pair and the family's special tokens. Most templates are
those that TRL ships for its own tests; SmolLM2's and Mistral's are written here in short.
"""

from pathlib import Path
from typing import Any

BAR = "\N{FULLWIDTH VERTICAL LINE}"
#: The begin token, the end token, and further special tokens of each family.
SPECIAL = {
    "llama3": ("<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>",
               "<|eot_id|>"),
    "qwen3": (None, "<|im_end|>", "<|im_start|>"),
    "gemma3": ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"),
    "mistral": ("<s>", "</s>", "[INST]", "[/INST]"),
    "smollm2": ("<|im_start|>", "<|im_end|>"),
    "deepseek_r1": (
        *(f"<{BAR}begin▁of▁sentence{BAR}>", f"<{BAR}end▁of▁sentence{BAR}>"),
        *(f"<{BAR}User{BAR}>", f"<{BAR}Assistant{BAR}>"),
    ),
}  # fmt: skip
#: Tokens that are added and not special.
ADDED = {"qwen3": ("<think>", "</think>"), "deepseek_r1": ("<think>", "</think>")}
#: Families whose tokenizer itself puts the begin token before a text.
ADDS_BEGIN = ("llama3", "gemma3", "mistral", "deepseek_r1")

TEMPLATES = {
    "mistral": (
        "{{ bos_token }}{% if messages[0].role == 'system' %}{% set first = messages[0].content "
        "+ '\n\n' %}{% set turns = messages[1:] %}{% else %}{% set first = '' %}{% set turns = "
        "messages %}{% endif %}{% for turn in turns %}{% if (turn.role == 'user') != "
        "(loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}{% endif %}"
        "{% if turn.role == 'user' %}{{ '[INST] ' + (first if loop.first else '') + turn.content "
        "+ '[/INST]' }}{% else %}{{ ' ' + turn.content | trim + eos_token }}{% endif %}"
        "{% endfor %}"
    ),
    "smollm2": (
        "{% for message in messages %}{% if loop.first and message.role != 'system' %}"
        "<|im_start|>system\nYou are a small model<|im_end|>\n{% endif %}"
        "{{ '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    ),
}
#: File names of TRL's copies.
_OF_TRL = {"llama3": "llama3_2", "deepseek_r1": "deepseek_r1_distill"}


def chat_template(family: str) -> str:
    """The template of a family."""
    if family in TEMPLATES:
        return TEMPLATES[family]
    import trl

    folder = Path(trl.__file__).parent / "chat_templates"
    return (folder / f"{_OF_TRL.get(family, family)}.jinja").read_text(encoding="utf-8")


def chat_tokenizer(family: str, **changes: Any) -> Any:
    """A tokenizer of a family; `changes` replace arguments of `PreTrainedTokenizerFast`."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    begin, end, *others = SPECIAL[family]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {letter: place for place, letter in enumerate([*letters, "ĊĊ"])}
    tokenizer = Tokenizer(models.BPE(vocabulary, [("Ċ", "Ċ")]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([token for token in (begin, end, *others) if token])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in ADDED.get(family, ())])
    if family in ADDS_BEGIN:
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", special_tokens=[(begin, tokenizer.token_to_id(begin))]
        )
    return PreTrainedTokenizerFast(
        **{
            "tokenizer_object": tokenizer,
            "bos_token": begin,
            "eos_token": end,
            "chat_template": chat_template(family),
            **changes,
        }
    )
