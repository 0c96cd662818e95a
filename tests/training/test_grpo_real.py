"""Training by reward with real TRL on a tiny model: learning, votes, ends, resumption."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random

import polars as pl
import pytest
from training_runs import Stop, stop_after, write_base

from weak_to_strong.method.labels import read_answers
from weak_to_strong.method.prompts import clean_response
from weak_to_strong.method.rewards import score_answers
from weak_to_strong.tables.files import read_json
from weak_to_strong.tables.frames import write_table
from weak_to_strong.tables.schemas import REWARD_ROWS, SFT_ROWS
from weak_to_strong.training import train as training
from weak_to_strong.training.launching import run_training
from weak_to_strong.training.libraries import import_libraries
from weak_to_strong.training.processes import process_environments
from weak_to_strong.training.trainers import trainer_module
from weak_to_strong.training.training_run import TrainingJob, resolve

pytestmark = pytest.mark.slow

WORDS = ["<s>", "</s>", "<pad>", "Question:", "Answer:", "1", "2", "3", "is", "####", "Question"]
NUMBERS = WORDS[5:8]
LORA = {"r": 4, "alpha": 8, "dropout": 0.0, "target_modules": ["q_proj", "v_proj", "down_proj"]}
SFT = {
    "learning_rate": 3e-2,
    "epochs": 30,
    "global_batch_size": 9,
    "per_device_batch_size": 9,
    "scheduler": "constant",
    "max_length": 16,
    "dtype": "float32",
    "seed": 1,
}
TEMPLATE = (
    "{{ bos_token }}{% for turn in messages %}{% if turn.role == 'user' %}"
    "{{ turn.content }}{% else %} {{ turn.content }} <turn>{% endif %}{% endfor %}"
)
STRING = {"name": "string"}
GRPO = {
    **SFT,
    "learning_rate": 1e-2,
    "epochs": 10,
    "global_batch_size": 24,
    "per_device_batch_size": 12,
    "beta": 0.0,
    "samples": 8,
    "temperature": 1.0,
    "max_tokens": 5,
    "answer_key": "####",
    "extraction": "paper",
    "judge": STRING,
    "quirks": {},
    "stop": ["Question", "Answer"],
}


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A folder with a base model, its manifest, and questions with gold and with other answers."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    folder = tmp_path_factory.mktemp("world")
    write_base(folder, WORDS, hidden_size=32, intermediate_size=64)
    # Every answer is given to every question: the model so learns to answer at random.
    rows = pl.DataFrame(
        {
            "id": f"{asked}-{given}",
            "prompt": f"Question: {asked} Answer:",
            "completion": f" is #### {given}",
        }
        for asked in NUMBERS
        for given in NUMBERS
    )
    write_table(rows, SFT_ROWS, folder / "sft.parquet")
    questions = pl.DataFrame(
        {"id": asked, "prompt": f"Question: {asked} Answer:", "answer": asked} for asked in NUMBERS
    ).with_columns(pl.lit(None, pl.String).alias(name) for name in ("answer_type", "unit", "parts"))
    write_table(questions, REWARD_ROWS, folder / "gold.parquet")
    unknown = questions.with_columns(answer=pl.lit(None, pl.String))
    write_table(unknown, REWARD_ROWS, folder / "questions.parquet")
    return folder


@pytest.fixture(scope="module")
def make_job(world):
    def make(
        name: str, init: TrainingJob | None, rows: str = "questions", **settings
    ) -> TrainingJob:
        folder = world / name
        return TrainingJob(
            trainer="grpo",
            settings={**GRPO, "adapter": "lora", **settings},
            rows=str(world / f"{rows}.parquet"),
            base=str(world / "base.json"),
            init=init and init.manifest,
            work=str(folder / "work"),
            model=str(folder / "model"),
            manifest=str(folder / "manifest.json"),
            history=str(folder / "history.json"),
        )

    return make


@pytest.fixture(scope="module")
def m_plus(make_job, world):
    """Makes a model that answers at random, by supervised training; each kind once."""
    made = {}

    def make(adapter: str) -> TrainingJob:
        if adapter not in made:
            lora = LORA if adapter == "lora" else None
            job = make_job(f"sft-{adapter}", None, "sft")
            settings = {**SFT, "adapter": adapter, "lora": lora}
            made[adapter] = replace(job, trainer="sft", settings=settings)
            train(made[adapter])
        return made[adapter]

    return make


def train(job: TrainingJob, callbacks=()) -> None:
    training.train(resolve(job), callbacks)


def load_trainer():
    """The module of the trainer, without vLLM, which TRL would import with it."""
    import_libraries("grpo")
    return trainer_module("grpo")


@pytest.fixture
def scored(monkeypatch):
    """Tables of sampled answers with the rewards that they got, of each update."""
    grpo, tables = load_trainer(), []

    def note(reward, answers, **how):
        rewards = score_answers(reward, answers, **how)
        tables.append(answers.with_columns(reward=pl.Series(rewards)))
        return rewards

    monkeypatch.setattr(grpo, "score_answers", note)
    return tables


@pytest.mark.parametrize("adapter", ["lora"])
def test_learns_what_is_rewarded(make_job, m_plus, adapter):
    keys = {"learning_rate": 5e-3, "epochs": 45, "samples": 16}
    keys |= {"global_batch_size": 48, "per_device_batch_size": 48}
    job = make_job(
        f"gold-{adapter}", m_plus(adapter), "gold", reward="gold", adapter=adapter, **keys
    )
    train(job)
    rewards = [entry["reward"] for entry in read_json(job.history)]
    assert len(rewards) == 45
    assert sum(rewards[:4]) / 4 < 0.6
    assert sum(rewards[-4:]) / 4 > 0.8
    manifest = read_json(job.manifest)
    assert manifest["kind"] == adapter
    assert (manifest["training"]["trainer"], manifest["facts"]["ended"]) == ("grpo", None)
    assert set(manifest["files"]) == set(read_json(m_plus(adapter).manifest)["files"])
    assert not list(Path(job.work).glob("*"))


def test_the_vote_counts_the_samples_of_a_group(make_job, m_plus, scored):
    """Against a plain count; and the figures of the manifest against the history."""
    job = make_job("majority", m_plus("lora"), reward="majority", epochs=4)
    train(job)
    history, facts = read_json(job.history), read_json(job.manifest)["facts"]
    assert len(scored) == len(history) == 4
    for table, entry in zip(scored, history, strict=True):
        groups = table.partition_by("group", maintain_order=True)
        assert [group.height for group in groups] == [8, 8, 8]
        assert {group["id"][0] for group in groups} == set(NUMBERS)  # one pass
        for group in groups:
            votes = Counter(group["prediction"])
            winner, _ = votes.most_common(1)[0]
            assert group["reward"].to_list() == [
                float(answer == winner != "") for answer in group["prediction"]
            ]
        assert entry["reward"] == pytest.approx(table["reward"].mean())
    assert [set(table["group"]) for table in scored][1] == {3, 4, 5}
    assert facts["generated_tokens"] == sum(entry["generated_tokens"] for entry in history)
    assert facts["tokens"] == facts["generated_tokens"] + 4 * 24 * 4  # prompts of four tokens
    assert facts["examples"] == 3
    assert facts["last_reward"] == history[-1]["reward"]


REWARD = """
def short_and_right(answers, seed):
    assert set(answers.columns) >= {"prompt", "response"}
    asked = answers["prompt"].str.extract("Question: (.)")
    right = (answers["prediction"] == asked).cast(float)
    return right - 0.01 * answers["response"].str.len_chars()
"""


def test_a_function_of_the_users_rewards(make_job, m_plus, scored, world):
    (world / "mine.py").write_text(REWARD)
    reward = f"{world / 'mine.py'}:short_and_right"
    job = make_job("function", m_plus("lora"), reward=reward, epochs=4, function_code="abc")
    train(job)
    assert len(scored) == 4
    for table, entry in zip(scored, read_json(job.history), strict=True):
        expected = [
            (prediction == name) - 0.01 * len(response)
            for name, response, prediction in table.select("id", "response", "prediction").rows()
        ]
        assert table["reward"].to_list() == pytest.approx(expected)
        assert entry["reward"] == pytest.approx(sum(expected) / len(expected), abs=1e-6)
        assert set(table["prompt"]) == {f"Question: {asked} Answer:" for asked in NUMBERS}
    other = replace(job, settings={**job.settings, "function_code": "abd"})
    assert resolve(job).work != resolve(other).work


def test_an_answer_ends_where_evaluation_would_cut_it(make_job, monkeypatch):
    """A model without any training, from which anything may come, with a new adapter."""
    from transformers import AutoTokenizer

    grpo = load_trainer()
    cut, answers = grpo.cut_answer, []

    def note(tokens, *how):
        answers.append((tokens, cut(tokens, *how)))
        return answers[-1][1]

    monkeypatch.setattr(grpo, "cut_answer", note)
    stops = ["Question", "is 2"]
    job = make_job(
        *("untrained", None),
        **{"reward": "random", "lora": LORA, "max_tokens": 12, "max_length": 30, "stop": stops},
        epochs=3,
    )
    train(job)
    tokenizer = AutoTokenizer.from_pretrained(resolve(job).base_view)

    def decode(tokens) -> str:
        return tokenizer.decode(tokens, skip_special_tokens=True)

    ends = Counter()
    for tokens, answer in answers:
        text = decode(answer)
        before_end = tokens[: tokens.index(1)] if 1 in tokens else tokens
        assert clean_response(text, stops) == clean_response(decode(before_end), stops)
        stopped = any(stop in text for stop in stops)
        assert not any(stop in decode(answer[:-1]) for stop in stops)
        assert 1 not in answer[:-1]
        ends["stop" if stopped else "end" if answer[-1] == 1 else "length"] += 1
        if not stopped and answer[-1] != 1:
            assert len(answer) == 12
    assert set(ends) == {"stop", "end", "length"}, ends
    assert read_json(job.manifest)["kind"] == "lora"


def test_a_chat_is_asked_by_its_template_and_ends_with_its_token(make_job, world, scored):
    """A model that may end an answer with a turn's token, and that reasons before it answers."""
    words = [*WORDS, "<turn>", "</think>", "<think>"]
    special = {"extra_special_tokens": ["<turn>", "</think>", "<think>"]}
    sizes = {"hidden_size": 32, "intermediate_size": 64}
    write_base(world / "chatty", words, **sizes, **special, chat_template=TEMPLATE)
    chat = {"system": None, "options": {}, "thinking": None, "answer_after": "</think>"}
    job = replace(
        make_job(
            *("chat", None),
            **{"reward": "majority", "lora": LORA, "max_tokens": 12, "max_length": 30, "stop": []},
            **{"answer_after": "</think>", "epochs": 3},
        ),
        base=str(world / "chatty/base.json"),
        rows=str(world / "questions.parquet"),
        chat={**chat, "template": None},
    )
    grpo, read = load_trainer(), []
    with pytest.MonkeyPatch.context() as patch:
        whole = grpo.sampled_text

        def note(answer, *how):
            read.append((list(answer), *whole(answer, *how)))
            return read[-1][1:]

        patch.setattr(grpo, "sampled_text", note)
        train(job)
    turn, ends = words.index("<turn>"), Counter()
    for answer, text, reason in read:
        assert not {1, turn} & set(answer[:-1])
        ends[answer[-1] if answer[-1] in (1, turn) else "length"] += 1
        assert reason == ("stop" if answer[-1] in (1, turn) else "length")
        assert "<turn>" not in text
        assert text.count("</think>") == answer.count(words.index("</think>"))
    assert set(ends) == {1, turn, "length"}, ends
    expected = [
        read_answers(
            pl.DataFrame({"response": [text], "finish_reason": [reason]}),
            "####",
            answer_after="</think>",
        )["prediction"][0]
        for _, text, reason in read
    ]
    predictions = [answer for table in scored for answer in table["prediction"]]
    assert predictions == expected
    assert any(predictions)
    # Prompts of four tokens, which tests/generation/test_rounds_chat.py compares with others.
    facts = read_json(job.manifest)["facts"]
    assert facts["tokens"] == facts["generated_tokens"] + 3 * 24 * 4
    assert read_json(job.manifest)["training"]["chat"]["answer_after"] == "</think>"


class TestResumption:
    @pytest.mark.parametrize("beta", [0.0, 0.5])
    def test_same_weights(self, make_job, m_plus, beta):
        """Over several passes, whose order must not depend on the cut."""
        keys = {"reward": "majority", "beta": beta, "epochs": 6, "save_steps": 2}
        whole, cut = (make_job(f"{name}-{beta}", m_plus("lora"), **keys) for name in ("one", "two"))
        train(whole)
        with pytest.raises(Stop):
            train(cut, [stop_after(5)])
        assert not Path(cut.model).exists()
        assert run_training(cut) == 4  # the update that it went on from
        assert read_json(cut.history) == read_json(whole.history)
        manifests = [read_json(job.manifest) for job in (whole, cut)]
        assert manifests[0]["files"] == manifests[1]["files"]
        assert manifests[0]["facts"] == manifests[1]["facts"]
        history = read_json(whole.history)
        assert ("kl" in history[0]) == (beta > 0)
        if beta:
            assert history[0]["kl"] == pytest.approx(0, abs=1e-6)
            assert history[-1]["kl"] > 0

    def test_full_weights_with_a_reference(self, make_job, m_plus):
        keys = {"reward": "random", "beta": 0.5, "adapter": "full", "epochs": 2}
        job = make_job("full-kl", m_plus("full"), **keys, learning_rate=1e-2)
        train(job)
        first, last = read_json(job.history)
        assert first["kl"] == pytest.approx(0, abs=1e-6)
        assert last["kl"] > 0


class TestCollapse:
    KEYS = {"reward": "majority", "min_entropy": 100.0, "epochs": 9}  # noqa: RUF012

    def test_ends_with_one_line_and_the_model_so_far(self, make_job, m_plus, caplog):
        caplog.set_level("INFO", "weak_to_strong")
        job = make_job("collapsed", m_plus("lora"), **self.KEYS)
        train(job)
        ended = {"step": 5, "planned": 9, "reason": "entropy collapsed"}
        facts = read_json(job.manifest)["facts"]
        assert (facts["steps"], facts["ended"]) == (5, ended)
        assert len(read_json(job.history)) == 5
        assert (Path(job.model) / "adapter_model.safetensors").is_file()
        lines = [line for line in caplog.messages if line.startswith("min_entropy")]
        assert len(lines) == 1
        assert "training ends at step 5 of 9" in lines[0]

    def test_is_found_again_after_a_kill(self, make_job, m_plus):
        """Even where a checkpoint would have been due with the last update."""
        whole, cut = (
            make_job(f"collapsed-{name}", m_plus("lora"), **self.KEYS, save_steps=1)
            for name in ("whole", "cut")
        )
        train(whole)
        with pytest.raises(Stop):
            train(cut, [stop_after(3)])
        train(cut)
        assert read_json(cut.manifest)["files"] == read_json(whole.manifest)["files"]
        assert read_json(cut.manifest)["facts"] == read_json(whole.manifest)["facts"]

    def test_the_last_checkpoint_is_before_the_end(self, make_job, m_plus, monkeypatch):
        job = make_job("collapsed-late", m_plus("lora"), **self.KEYS, save_steps=1)
        monkeypatch.setattr(training, "publish_model", lambda *_: (_ for _ in ()).throw(Stop))
        with pytest.raises(Stop):
            train(job)
        (folder,) = Path(job.work).iterdir()
        assert max(path.name for path in folder.glob("checkpoint-*")) == "checkpoint-4"


#: Two processes have halves of a group, and reward them.
HALVES = """
import os, sys
from weak_to_strong.training.meeting import join_processes
join_processes("gloo")
from accelerate import PartialState
PartialState(cpu=True)
from weak_to_strong.training.libraries import import_libraries
import_libraries("grpo")
from weak_to_strong.training.grpo import make_reward
from weak_to_strong.training.rows import Question
from weak_to_strong.training.settings import RewardSettings
settings = RewardSettings("majority", 8, 1.0, 5, "####", "paper", {"name": "string"}, {}, ())
question = Question("q", "ask", [1, 2], None, None, None, None)
answers = ["1", "1", "2", "2"] if os.environ["RANK"] == "0" else ["2", "2", "2", "3"]
metrics = {}
print(
    make_reward([question], settings, 0)(
        prompts=["0"] * 4,
        response=[f"#### {answer}" for answer in answers],
        finish_reason=["stop"] * 4,
        completion_ids=[[5, 6]] * 4,
        log_metric=metrics.__setitem__,
    ),
    metrics,
    flush=True,
)
import torch
torch.distributed.barrier()
os._exit(0)
"""


def test_the_vote_is_over_a_group_that_spans_two_processes(tmp_path):
    environments = process_environments(2, 0, [], str(tmp_path), f"{tmp_path}/address")
    running = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", HALVES],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **variables},
            stdout=subprocess.PIPE,
            text=True,
        )
        for variables in environments
    ]
    printed = [process.communicate(timeout=900)[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    metrics = {"generated_tokens": 16, "prompt_tokens": 16, "unanswered": 0.0}
    # By itself the first process would have voted for "1".
    assert printed[0].splitlines()[-1] == f"{[0.0, 0.0, 1.0, 1.0]} {metrics}"
    assert printed[1].splitlines()[-1] == f"{[1.0, 1.0, 1.0, 0.0]} {metrics}"


def test_two_processes_train_one_model(make_job, m_plus):
    """A group of eight spans both. The coin tells that each answer got its own reward."""
    keys = {"global_batch_size": 8, "per_device_batch_size": 4, "epochs": 1, "processes": 2}
    job = make_job("two-processes", m_plus("lora"), reward="random", **keys)
    run_training(job)
    history = read_json(job.history)
    expected = [
        sum(Random(f"1/{group}/{sample}").random() < 0.5 for sample in range(8)) / 8
        for group in range(3)
    ]
    assert [entry["reward"] for entry in history] == pytest.approx(expected)
    assert read_json(job.manifest)["facts"]["tokens"] > 3 * 8 * 4
