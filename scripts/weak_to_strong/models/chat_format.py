"""A model's chat template with its settings, as requests and trainings carry it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from weak_to_strong.models.model_files import read_object

#: Where a tokenizer keeps its template: a file, or a key of its configuration.
TEMPLATE_FILE, TEMPLATE_KEY = "chat_template.jinja", "chat_template"
#: Real templates have some thousand bytes.
MAX_TEMPLATE_BYTES = 1_000_000


@dataclass(frozen=True)
class ChatFormat:
    """All that decides how messages become text, beside the tokenizer.

    Attributes:
        name: name of the model in the configuration, for messages of errors.
        template: text of the chat template.
        system: text of the system turn, or None.
        options: variables that the template can read.
        thinking: whether the model is to reason before it answers; None where it is not said.
        answer_after: mark after which the answer is read, or None.
    """

    name: str
    template: str
    system: str | None
    options: Mapping[str, Any]
    thinking: bool | None
    answer_after: str | None

    def facts(self) -> dict[str, Any]:
        """What a text depends on, beside the messages; the system text is one of these."""
        return {"template": self.template, "options": dict(self.options)}


def load_chat_format(name: str, chat: Mapping[str, Any], folder: str | Path) -> ChatFormat:
    """The format of a model.

    Args:
        name: name of the model in the configuration.
        chat: the settings: system, options, thinking, answer_after, and `template`, a file that
            stands in for the template of the model's tokenizer, or None.
        folder: folder of the model.

    Raises:
        ValueError: the model has no template, or it cannot be read.
    """
    given = chat["template"]
    text = read_text(Path(given)) if given else read_chat_template(Path(folder), f"models.{name}")
    if text is None:
        raise ValueError(f"models.{name}: {no_template(folder)}")
    keys = ("system", "options", "thinking", "answer_after")
    return ChatFormat(name, text, **{key: chat[key] for key in keys})


def no_template(folder: str | Path) -> str:
    """Why a model has no chat, and the fix."""
    return (
        f"the tokenizer in {folder} has no chat template, which `prompt: chat` needs; name a file "
        "with one as `chat_template` of the model, or use another `prompt`"
    )


def read_chat_template(folder: Path, key: str) -> str | None:
    """The template that transformers would use for a chat without tools; None where none is.

    Args:
        folder: folder of the model.
        key: configuration key that a message names.

    Raises:
        ValueError: it cannot be read; or several are named, and none is the default.
    """
    if (folder / TEMPLATE_FILE).is_file():
        return read_text(folder / TEMPLATE_FILE)
    file = folder / "tokenizer_config.json"
    value = read_object(file, key).get(TEMPLATE_KEY) if file.is_file() else None
    if isinstance(value, list):  # templates by name
        named = [entry for entry in value if isinstance(entry, dict)]
        value = {entry.get("name"): entry.get("template") for entry in named}.get("default", value)
    if value is not None and not isinstance(value, str):
        raise ValueError(
            f"{key}: {file}: `{TEMPLATE_KEY}` is neither a text nor a list with a template named "
            "`default`; correct it"
        )
    return _checked(value, file) if value else None


def read_text(file: Path) -> str:
    """The text of a template's file.

    Raises:
        ValueError: it is no file, no UTF-8 text, empty, or too large; names the file.
    """
    try:
        if file.stat().st_size > MAX_TEMPLATE_BYTES:
            raise ValueError(_too_large(file))
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: is no readable text; correct the chat template") from error
    return _checked(text, file)


def _checked(text: str, file: Path) -> str:
    if len(text.encode("utf-8", "replace")) > MAX_TEMPLATE_BYTES:
        raise ValueError(_too_large(file))
    if not text.strip():
        raise ValueError(f"{file}: the chat template is empty; write one")
    return text


def _too_large(file: Path) -> str:
    return f"{file}: the chat template has more than {MAX_TEMPLATE_BYTES} bytes; shorten it"
