"""Text that means harm: it stays text, in bounded time, and reaches no other place."""

from __future__ import annotations

import json
import math
import subprocess
import time
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
from browser import find_browser
from hypothesis import given, settings
from hypothesis import strategies as st
from quirks import NO_QUIRKS
from report_examples import answers, diagnostics, metrics, problems
from table_builders import labels, questions, samples

from weak_to_strong.evaluation.scoring import math_verify_many
from weak_to_strong.experiment.configuration import SCHEMA_FILE, ConfigError, load_configuration
from weak_to_strong.generation.engine_worker import tokenise
from weak_to_strong.jobs.costs import COSTS
from weak_to_strong.method.agreement import agreement_filter
from weak_to_strong.method.answer_keys import ANSWER_KEYS
from weak_to_strong.method.answers import PAPER, extract_answer, normalise_answer
from weak_to_strong.method.majority_vote import majority_vote
from weak_to_strong.method.pairs import PairSettings, build_pairs
from weak_to_strong.method.prompts import clean_response, few_shot_prompt, zero_shot_prompt
from weak_to_strong.report.page import ReportInputs, build_report
from weak_to_strong.tables.frames import read_table, write_table
from weak_to_strong.tables.schemas import PROBLEMS
from weak_to_strong.training.rows import encode_rows

HOSTILE = [
    "<script>document.title='ran'</script>",
    "</pre><img src=x onerror=\"document.title='ran'\">",
    "<a href=\"javascript:document.title='ran'\">x</a>",
    '<link rel=stylesheet href="http://127.0.0.1:9/a.css"><iframe src="http://127.0.0.1:9/">',
    "{{ 7 * 7 }}{% for x in y %}{# #}",
    "{0}{question}%s%n$HOME`touch was-run`$(touch was-run)",
    "\u202eevil\u202c \x00\x1b[2J\x07\r\ufeff",
    "soft\xadhyphen \u061c \u180e \u034f \ufe0f \u3164 \U000e0001\U000e0041\U000e007f \U000e0100",
    '=HYPERLINK("http://127.0.0.1:9/")',
    "@SUM(1+1)*cmd|' /C calc'!A0",
    "../../../../etc/passwd",
    "; rm -rf ~ #",
    "Question: again?\nAnswer: #### 1\nQuestion",
    "The answer is: The answer is: \\boxed{\\boxed{#### 2",
]
EXPLODING = [
    "9^{9^{9}}",
    "10000000!",
    "9" * 1999,
    "9" * 5000,
    "((((" * 400,
    "\\frac{" * 300,
    "{" * 1900,
    "\\sqrt[" * 200 + "1",
    "x^" * 600 + "x",
    "10^{10^{10}}!",
    "\\int_0^{\\infty} e^{-x^{x^{x}}} dx",
    "\\binom{10^9}{5\\cdot 10^8}",
    "\\sum_{n=1}^{10^{12}} \\sin(n^n)",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_prompts_hold_a_text_as_it_is(text):
    prompt = zero_shot_prompt(text)
    assert prompt == "Question: " + text + "\nAnswer:"
    shot = {"prompt": prompt, "response": text}
    assert few_shot_prompt(prompt, [shot]).count(text) >= 3


@pytest.mark.parametrize("text", HOSTILE)
def test_tables_give_back_what_was_written(text, tmp_path):
    row = dict.fromkeys(PROBLEMS, text)
    write_table(pl.DataFrame([row], schema=PROBLEMS), PROBLEMS, tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet", PROBLEMS).to_dicts() == [row]
    assert [file.name for file in tmp_path.iterdir()] == ["t.parquet"]


def test_an_id_is_no_formula_in_a_spreadsheet(tmp_path, run_rule):
    evil = '=HYPERLINK("http://127.0.0.1:9/")'
    row = {"id": evil, "q": "How many dice?", "a": "1"}
    for name in ("train_2", "test"):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row) + "\n")
    paths = [str(tmp_path / f"{name}.jsonl") for name in ("train_2", "test")]
    settings = {
        **{"loader": "table", "columns": {"question": "q", "answer": "a"}, "ids": "given"},
        "splits": {"train_2": {"path": paths[0]}, "test": {"path": paths[1]}},
        "remove_overlap": "none",
    }
    report = {"report": "contamination.csv"}
    reading = {"answer_key": "####", "stop": [], "extraction": "paper", "quirks": {}}
    reading["judge"] = {"name": "string"}
    params = {"settings": settings, "reading": reading, "gold_unread": 0.0}
    run_rule("contamination", {"sources": paths}, report, task="t", **params)
    cells = pl.read_csv(tmp_path / "contamination.csv")["ids"].drop_nulls().to_list()
    assert f"'{evil}" in cells
    assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@"))]


@pytest.mark.slow
def test_exploding_expressions_have_a_verdict_in_bounded_time():
    pairs = [(text, "8") for text in EXPLODING] + [(text, f"{text}+1") for text in EXPLODING[:2]]
    begun = time.monotonic()
    verdicts = math_verify_many(pairs, timeout_seconds=0.5)
    assert time.monotonic() - begun < 90
    assert "right" not in verdicts
    assert set(verdicts) <= {"wrong", "timeout", "undecided"}
    # The worker that replaced a killed one works.
    assert math_verify_many([("\\frac{1}{3}", "1/3")]) == ["right"]


@pytest.mark.slow
@pytest.mark.parametrize("key", ANSWER_KEYS)
@pytest.mark.parametrize(
    "piece", ["x", "\\text{", "\\boxed{", "}", "$", "####", "\n", "sqrt", "a ", "="]
)
def test_a_million_characters_are_read_in_bounded_time(piece, key):
    text = piece * (1_000_000 // len(piece))
    begun = time.process_time()
    for quirks in (PAPER, NO_QUIRKS):
        normalise_answer(extract_answer(clean_response(text, ["Question"]), key), quirks=quirks)
        normalise_answer(text, quirks=quirks)
    assert time.process_time() - begun < 20


# --- the report ------------------------------------------------------------------------------


def hostile_report() -> str:
    """A page on which every text that comes from outside means harm."""
    text = "\n".join(HOSTILE) + "</script></style></textarea>"
    count = len(HOSTILE)
    test = problems(count, question=[text] * count, id=[f"{i}{HOSTILE[i]}" for i in range(count)])
    test = test.with_columns(answer=pl.Series(HOSTILE), level=pl.lit(text), subject=pl.lit(text))
    nodes, scores, generations = answers(test, response=text)
    inputs = ReportInputs(
        experiment="example",
        metrics=metrics(),
        diagnostics=diagnostics(),
        costs=pl.DataFrame(schema=COSTS),
        scores=scores,
        generations=generations,
        problems={"sums": test},
        nodes=nodes,
        config={"stop": HOSTILE},
        versions={"x": text},
    )
    return build_report(inputs)


class Tags(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))


def test_the_report_shows_text_as_text():
    page = hostile_report()
    parser = Tags()
    parser.feed(page)
    names = [tag for tag, _ in parser.tags]
    assert names.count("script") == 1
    assert not {"iframe", "link", "object", "embed", "base"} & set(names)
    for _, attributes in parser.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("href", "src"):
            assert (attributes.get(name) or "#").startswith(("#", "data:"))
    assert "\x00" not in page
    for sign in "\u202e\xad\u061c\u180e\u034f\ufe0f\u3164\U000e0001\U000e0041\U000e007f\U000e0100":
        assert sign not in page
    assert "soft\\u00adhyphen \\u061c" in page
    assert "\\U000e0001\\U000e0041\\U000e007f" in page
    assert "{{ 7 * 7 }}" in page


@pytest.mark.parametrize(("required", "outcome"), [("", "skip"), ("1", "fail")])
def test_a_missing_browser_is_told(monkeypatch, tmp_path, required, outcome):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("W2S_REQUIRE_BROWSER", required)
    with pytest.raises(getattr(pytest, outcome).Exception, match=r"apt-get install .*chromium"):
        find_browser()


def open_in_browser(page: str, folder: Path) -> tuple[str, set[str]]:
    """A page as it is after two seconds of its time, and addresses that it asked for."""
    (folder / "index.html").write_text(page, encoding="utf-8")
    log = folder / "net.json"
    done = subprocess.run(
        [
            *(find_browser(), "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"),
            *("--no-first-run", "--disable-background-networking", "--disable-component-update"),
            *("--disable-sync", f"--user-data-dir={folder / 'profile'}", f"--log-net-log={log}"),
            *("--virtual-time-budget=2000", "--dump-dom", (folder / "index.html").as_uri()),
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    log_content = json.loads(log.read_text(errors="replace"))
    request = log_content["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    events = [
        event.get("params", {}) for event in log_content["events"] if event["type"] == request
    ]
    # The event of a request's end has no address.
    started = [event for event in events if "url" in event]
    # The browser asks for some addresses on its own account: those have no origin.
    asked = {event["url"] for event in started if event.get("initiator") != "not an origin"}
    return done.stdout, {url for url in asked if not url.startswith(("file:", "data:"))}


TITLE = "<title>example: weak-to-strong reasoning</title>"


@pytest.mark.slow
def test_the_report_in_a_browser(tmp_path):
    """Nothing that the page shows runs, and the page asks for nothing."""
    dom, asked = open_in_browser(hostile_report(), tmp_path)
    assert TITLE in dom
    # The page's own script did run.
    assert "questions shown" in dom
    assert dom.count("<script>") == 1
    assert asked == set()


INJECTED = """<body>
<img src="http://127.0.0.1:9/image.png">
<script>document.title = 'ran'; new Image().src = 'http://127.0.0.1:9/script.png'</script>
"""
POLICY = '<meta http-equiv="Content-Security-Policy"'


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["kept", "removed"])
def test_the_policy_stops_a_script_that_got_into_the_page(tmp_path, policy):
    """Without the policy the browser runs the script and fetches: the test would notice that."""
    page = hostile_report().replace("<body>\n", INJECTED, 1)
    assert INJECTED in page
    assert POLICY in page
    if policy == "removed":
        page = page.replace(POLICY, "<meta name='none'")
    dom, asked = open_in_browser(page, tmp_path)
    assert dom.count("<script>") == 2
    if policy == "kept":
        assert TITLE in dom
        assert asked == set()
    else:
        assert "<title>ran</title>" in dom
        assert asked == {f"http://127.0.0.1:9/{name}.png" for name in ("image", "script")}


# --- fuzzing ---------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            "####",
            "#### ",
            "The answer is: ",
            "\\boxed{",
            "}",
            "{",
            "$",
            "\\text{",
            "\\frac",
            "sqrt",
        ),
        *("=", ",", "1", "23", ".0", "%", "\n", " ", "a ", "ft", "Question", "\\", "A", "x"),
        *("\u00b2", "\U0001d7d8"),
    ]
)
TEXT = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=30).map("".join))
FUZZ = settings(max_examples=150, deadline=2000)


@FUZZ
@given(TEXT, st.sampled_from(ANSWER_KEYS), st.sampled_from([PAPER, NO_QUIRKS]))
def test_any_text_has_an_answer(text, key, quirks):
    raw = extract_answer(text, key)
    assert isinstance(normalise_answer(raw, quirks=quirks), str)
    assert len(raw) <= len(text)
    assert normalise_answer(raw, quirks=quirks) == normalise_answer(raw, quirks=quirks)


@pytest.mark.slow
def test_names_of_special_tokens_are_text():
    """`</s>` in a question or an answer is text. The end token stands only after an answer."""
    from transformers import AutoTokenizer

    weights = str(SCHEMA_FILE.parents[1] / "resources/embedded/study_strong")
    tokenizer = AutoTokenizer.from_pretrained(weights)
    special = set(tokenizer.all_special_ids)
    named = " ".join(tokenizer.all_special_tokens)
    assert named
    prompt = zero_shot_prompt(f"What does {named} mean?")
    (tokens,) = tokenise(weights, [prompt])
    assert [token for token in tokens if token in special] == [tokenizer.bos_token_id]
    row = {"id": "a", "prompt": prompt, "completion": f" {named} #### 1"}
    (encoded,) = encode_rows(pl.DataFrame(row), tokenizer, 512, ["completion"])
    assert encoded.prompt == tokens
    (completion,) = encoded.completions
    assert [token for token in completion if token in special] == [tokenizer.eos_token_id]
    assert named in tokenizer.decode(completion)


@FUZZ
@given(st.lists(st.lists(TEXT, min_size=1, max_size=6), min_size=1, max_size=5))
def test_a_vote_is_a_share_of_its_samples(drawn):
    votes = majority_vote(samples({str(q): texts for q, texts in enumerate(drawn)}, ""))
    for (name, majority, confidence, total), texts in zip(votes.rows(), drawn, strict=True):
        assert total == len(texts)
        assert confidence == texts.count(majority) / total
        assert all(texts.count(text) <= texts.count(majority) for text in texts), name


ANSWER = st.sampled_from(["", "1", "2", "3"])


@FUZZ
@given(st.lists(st.tuples(ANSWER, ANSWER), min_size=1, max_size=12), st.booleans())
def test_the_filter_is_symmetric(sides, keep_empty):
    weak, icl = (labels(side) for side in zip(*sides, strict=True))
    agreed = [str(i) for i, (a, b) in enumerate(sides) if a == b and (keep_empty or a)]
    if not agreed:
        with pytest.raises(ValueError, match="no weak and ICL answers agree"):
            agreement_filter(weak, icl, keep_empty=keep_empty)
        return
    weak_first = agreement_filter(weak, icl, keep_empty=keep_empty)
    icl_first = agreement_filter(icl, weak, keep_empty=keep_empty)
    assert weak_first["id"].to_list() == icl_first["id"].to_list() == agreed
    assert weak_first["weak_response"].to_list() == icl_first["icl_response"].to_list()


@pytest.mark.slow
@FUZZ
@given(
    st.lists(st.tuples(ANSWER, st.lists(ANSWER, min_size=2, max_size=6)), min_size=1, max_size=6),
    st.floats(0, 1),
    st.integers(1, 3),
    st.booleans(),
)
def test_pairs_have_an_answer_on_either_side(asked, least, count, weak_side):
    weak = labels(answer for answer, _ in asked)
    drawn = samples({str(q): answers for q, (_, answers) in enumerate(asked)}, "{answer}!{sample}")
    votes = majority_vote(drawn)
    try:
        made = build_pairs(
            weak,
            drawn,
            votes,
            questions(weak["id"]),
            PairSettings(least, least, pairs_per_question=count, weak_side=weak_side),
        )
    except ValueError as error:
        assert "no question gives a contrastive pair" in str(error)  # noqa: PT017
        return
    answer = {f" {text}": given for _, _, text, given in drawn.rows()}
    answer |= {f" {text}": given for _, text, given in weak.rows()}
    majority = {name: (most, share) for name, most, share, _ in votes.rows()}
    for name, _, chosen, rejected, side, confidence in made.rows():
        most, share = majority[name]
        assert answer[chosen] == most != answer[rejected]
        assert confidence == share >= least
        assert side in (("chosen", "rejected") if weak_side else ("none",))
    assert made["id"].value_counts()["count"].max() <= count


VALUE = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda part: st.one_of(
        st.lists(part, max_size=3),
        st.dictionaries(st.one_of(st.text(max_size=6), st.integers()), part, max_size=3),
    ),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [
        *("experiment", "seeds", "tasks", "models", "chains", "iterations", "pairs", "methods"),
        *("engine", "training", "evaluation", "sampling", "filter", "variants", "demonstrations"),
        *("m_plus", "x"),
    ]
)


@settings(max_examples=60, deadline=5000)
@given(st.dictionaries(KEYS, VALUE, min_size=1, max_size=2))
def test_any_configuration_is_complete_or_refused_in_one_line(changes):
    import contextlib

    import yaml

    root = SCHEMA_FILE.parents[1]
    demo = yaml.safe_load((root / "config/config.yaml").read_text())
    with contextlib.chdir(root):
        try:
            config = load_configuration({**demo, **changes})
        except ConfigError as error:
            assert str(error).startswith("config key ")  # noqa: PT017
            assert "\n" not in str(error)  # noqa: PT017
            return
    assert all(math.isfinite(value) for value in config["sampling"].values())
    assert Path(f"results/{config['experiment']}").parent.name == "results"
