"""Where a model's chat template is found, and what is said where there is none."""

import json

import pytest

from weak_to_strong.models.chat_format import load_chat_format, read_chat_template

CHAT = {"system": None, "options": {}, "thinking": None, "answer_after": None, "template": None}
NAMED = [{"name": "tool_use", "template": "tools"}, {"name": "default", "template": "of list"}]


@pytest.fixture
def folder(tmp_path):
    """A model's folder without a template."""
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": "</s>"}))
    return tmp_path


def write(folder, template):
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))


def test_the_file_wins_over_the_configuration_as_in_transformers(folder):
    assert read_chat_template(folder, "models.m") is None
    write(folder, "of configuration")
    assert read_chat_template(folder, "models.m") == "of configuration"
    write(folder, NAMED)
    assert read_chat_template(folder, "models.m") == "of list"
    (folder / "chat_template.jinja").write_text("of file")
    assert read_chat_template(folder, "models.m") == "of file"


@pytest.mark.slow
@pytest.mark.parametrize("named", [False, True])
@pytest.mark.parametrize("file", [False, True])
def test_it_is_the_template_that_transformers_takes(tmp_path, named, file):
    from chat_tokenizers import chat_tokenizer
    from transformers import AutoTokenizer

    chat_tokenizer("smollm2", chat_template=None).save_pretrained(tmp_path)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    settings["chat_template"] = NAMED if named else "of configuration"
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    if file:
        (tmp_path / "chat_template.jinja").write_text("of file")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    assert read_chat_template(tmp_path, "models.m") == tokenizer.get_chat_template()


def test_a_named_file_stands_in_for_the_models_own(folder):
    write(folder, "of configuration")
    (folder / "mine.jinja").write_text("mine")
    chat = {**CHAT, "template": str(folder / "mine.jinja")}
    assert load_chat_format("m", chat, folder).template == "mine"
    assert load_chat_format("m", CHAT, folder).template == "of configuration"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (None, "models.m: the tokenizer in .* has no chat template, .* `chat_template` of the mod"),
        (NAMED[:1], "neither a text nor a list with a template named `default`"),
        (7, "neither a text nor a list"),
        (" \n", "the chat template is empty"),
        ("a" * 1_000_001, "has more than 1000000 bytes"),
    ],
)
def test_an_unusable_template_is_named(folder, template, reason):
    write(folder, template)
    with pytest.raises(ValueError, match=reason):
        load_chat_format("m", CHAT, folder)
