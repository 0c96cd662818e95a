"""The trial of chat templates before the first job."""

import pytest
from chat_tokenizers import chat_tokenizer

from weak_to_strong.models.chat_check import check_chats, try_chat

pytestmark = pytest.mark.slow

CHAT = {"system": None, "options": {}, "thinking": None, "answer_after": None, "template": None}


def check(folder, family, **changes):
    chat_tokenizer(family).save_pretrained(folder)
    chat = {**CHAT, **changes.pop("chat", {})}
    return {"name": family, "folder": str(folder), "chat": chat, "trained": True, "reasons": False,
            **changes}  # fmt: skip


def test_a_sound_template_passes(tmp_path):
    check_chats([check(tmp_path, "qwen3", chat={"answer_after": "</think>"}, reasons=True)])


def test_the_first_unsound_one_is_named_in_one_line(tmp_path):
    with pytest.raises(ValueError, match=r"model `deepseek_r1`: row '.*otherwise than it asks"):
        check_chats([check(tmp_path, "deepseek_r1")])


def test_a_template_that_reasons_first_passes_where_the_mark_is_known(tmp_path):
    chat = {"thinking": True, "answer_after": "</think>"}
    try_chat(check(tmp_path, "deepseek_r1", chat=chat, reasons=True))


def test_a_model_that_is_not_trained_needs_no_split(tmp_path):
    try_chat(check(tmp_path, "deepseek_r1", trained=False))


def test_reasoning_that_would_be_lost_is_found_before_any_job(tmp_path):
    entry = check(tmp_path, "qwen3", chat={"answer_after": "</think>"}, reasons=True)
    template = tmp_path / "chat_template.jinja"
    text = template.read_text().replace("loop.index0 > ns.last_query_index", "false")
    template.write_text(text)
    with pytest.raises(ValueError, match="leaves the reasoning out"):
        try_chat(entry)
    try_chat({**entry, "reasons": False})
