"""OlympicArena's released prompts, read back into problems."""

from __future__ import annotations

import json
import re

from weak_to_strong.method.olympicarena_prompts import WORDINGS, split_prompt

FOLDER = "data/llama_factory/olympicarena"
KINDS = {wording.described: kind for kind, wording in WORDINGS.items()}
NAMES = {wording.name: kind for kind, wording in WORDINGS.items()}


def parts(*types: str, **changes) -> str:
    """The column `parts` of a question with several answers of these types."""
    return json.dumps([{"type": kind, "unit": None, "name": None} | changes for kind in types])


def read_back(content: str) -> dict:
    """The problem that a released prompt asks."""
    subject = re.match(r"You are participating in an international (\w+) competition", content)
    unit = re.search(r"calculated in the unit of (.*), but when", content)
    types = re.search(r"answer types are, in order, \[(.*)\]\.\n", content)
    return {
        **split_prompt(content),
        "subject": subject[1],
        "answer_type": KINDS[content.split("\n")[1]],
        "unit": unit and unit[1],
        "parts": types and parts(*(NAMES[name] for name in types[1].split(", "))),
    }
