"""The parts of training that need no model: settings, token ids, files, checks."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from dataclasses import asdict, replace
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from training_runs import bare_run

from weak_to_strong.jobs.records import loaded_libraries
from weak_to_strong.jobs.trackers import TrackedRun
from weak_to_strong.models.chat_format import ChatFormat
from weak_to_strong.tables.files import hash_file, publish_folder
from weak_to_strong.training.checkpoints import alone_in, find_checkpoint, seal_checkpoint
from weak_to_strong.training.history import check_loss, clean_history, training_facts
from weak_to_strong.training.libraries import hide_quantiser
from weak_to_strong.training.loading import check_init, check_targets
from weak_to_strong.training.rows import (
    common_length,
    dpo_columns,
    encode_rows,
    orpo_columns,
    sft_columns,
    unpair,
)
from weak_to_strong.training.settings import (
    TrainingSettings,
    Zero,
    check_quantiser,
    complete_settings,
    zero_of,
)
from weak_to_strong.training.training_run import TrainingRun, run_key

SETTINGS = {
    "learning_rate": 1e-3,
    "epochs": 2,
    "global_batch_size": 8,
    "per_device_batch_size": 4,
    "scheduler": "cosine",
    "max_length": 32,
    "adapter": "lora",
    "lora": {"r": 8, "alpha": 16},
    "dtype": "float32",
    "seed": 1,
}
BOS, EOS = 1, 2
CHAT = ChatFormat("model", "template", None, {}, None, None)
SHIPPED = Path(__file__).parents[2] / "config/deepspeed"


class CharacterTokenizer:
    """One id a character; `#` and the character after it are one token; `~` is the BOS text."""

    bos_token_id: int | None = BOS
    eos_token_id: int | None = EOS
    adds_bos = True

    def __call__(self, text: str | list[str], split_special_tokens: bool = False) -> dict:
        if isinstance(text, list):
            return {"input_ids": [self(item)["input_ids"] for item in text]}
        ids = [BOS] if self.adds_bos else []
        place = 0
        while place < len(text):
            if text[place] == "#" and place + 1 < len(text):
                ids.append(1000 + ord(text[place + 1]))
                place += 2
            else:
                ids.append(BOS if text[place] == "~" else ord(text[place]))
                place += 1
        return {"input_ids": ids}


def sft_frame(*pairs: tuple[str, str]) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "id": [f"row{place}" for place in range(len(pairs))],
            "prompt": [prompt for prompt, _ in pairs],
            "completion": [completion for _, completion in pairs],
        },
        schema={"id": pl.String, "prompt": pl.String, "completion": pl.String},
    )


def encode(*pairs: tuple[str, str], max_length: int = 32, tokenizer=None):
    tokenizer = tokenizer or CharacterTokenizer()
    return encode_rows(sft_frame(*pairs), tokenizer, max_length, ("completion",))


class TestSettings:
    def test_optional_keys_are_filled_in(self):
        full = complete_settings("sft", SETTINGS)
        assert full.processes == 1
        assert full.save_steps is None
        assert full.lora.target_modules == tuple(
            sorted(["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"])
        )

    def test_they_come_back_from_json(self):
        for change in ({}, {"adapter": "full", "lora": None}):
            full = complete_settings("sft", {**SETTINGS, **change})
            assert TrainingSettings.from_json(json.loads(json.dumps(asdict(full)))) == full

    @pytest.mark.parametrize(
        ("change", "named"),
        [
            ({"learning_rate": None}, "learning_rate"),
            ({"epochs": 1.5}, "epochs"),
            ({"adapter": "qlora"}, "adapter"),
            ({"dtype": "float16"}, "dtype"),
            ({"warmup_ratio": 1.0}, "warmup_ratio"),
            ({"rank": 8}, "rank"),
            ({"lora": {"r": 8}}, "lora"),
            ({"global_batch_size": 6}, "global_batch_size"),
            ({"save_steps": 0}, "save_steps"),
        ],
    )
    def test_a_bad_value_is_named(self, change, named):
        with pytest.raises(ValueError, match=named):
            complete_settings("sft", {**SETTINGS, **change})

    @pytest.mark.parametrize(
        ("change", "fix"),
        [
            ({"quantization": "int8"}, "null or 'nf4'"),
            ({"adapter": "full"}, "set adapter to lora"),
            ({"deepspeed": str(SHIPPED / "zero3.json")}, "zero2.json or leave it out"),
            ({"deepspeed": str(SHIPPED / "zero3_offload.json")}, "zero2.json or leave it out"),
        ],
    )
    def test_a_quantised_base_goes_with_an_adapter_and_without_zero3(self, change, fix):
        nf4 = {**SETTINGS, "quantization": "nf4"}
        whole = {**nf4, "deepspeed": str(SHIPPED / "zero2.json")}
        assert complete_settings("sft", whole).quantization == "nf4"
        with pytest.raises(ValueError, match=f"quantization: .*{fix}"):
            complete_settings("sft", {**nf4, **change})

    def test_a_missing_quantiser_is_named(self, monkeypatch):
        monkeypatch.setattr("weak_to_strong.training.settings.find_spec", lambda name: None)
        check_quantiser(SETTINGS)
        with pytest.raises(ValueError, match=r"^quantization: needs the package `bitsandbytes`"):
            check_quantiser({**SETTINGS, "quantization": "nf4"})

    def test_the_quantiser_is_hidden_from_what_needs_none(self, monkeypatch):
        modules = {name: module for name, module in sys.modules.items() if name != "bitsandbytes"}
        monkeypatch.setattr(sys, "modules", modules)
        hide_quantiser("nf4")
        assert "bitsandbytes" not in modules
        hide_quantiser(None)
        assert find_spec("bitsandbytes") is None
        assert "bitsandbytes" not in loaded_libraries()

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("zero2", Zero(2)),
            ("zero3", Zero(3)),
            ("zero3_offload", Zero(3, offload_optimizer=True, offload_weights=True)),
        ],
    )
    def test_what_the_shipped_deepspeed_files_spread(self, name, expected):
        assert zero_of({"deepspeed": str(SHIPPED / f"{name}.json")}) == expected
        assert zero_of({"deepspeed": None}) == zero_of({}) == Zero()

    def test_preference_trainers_need_beta(self):
        with pytest.raises(ValueError, match="beta"):
            complete_settings("dpo", SETTINGS)

    @given(
        st.integers(1, 64), st.integers(1, 8), st.sampled_from([1, 2, 4, 8]), st.integers(0, 100)
    )
    def test_global_batch_is_kept_or_refused(self, accumulation, per_device, processes, extra):
        batch = accumulation * per_device * processes + extra
        settings = {
            **SETTINGS,
            "global_batch_size": batch,
            "per_device_batch_size": per_device,
            "processes": processes,
        }
        if batch % (per_device * processes):
            with pytest.raises(ValueError, match="global_batch_size"):
                complete_settings("sft", settings)
        else:
            steps = complete_settings("sft", settings).accumulation_steps
            assert steps * per_device * processes == batch


def test_a_resolved_run_comes_back_from_its_file(tmp_path):
    training = bare_run("work/key")
    lora = complete_settings("sft", SETTINGS)
    tracked = TrackedRun(("tensorboard",), "t/w/s/seed-0/sft-0", "study", "results/study/trackers")
    more = {"chat": CHAT, "tracked": tracked}
    other = replace(training, settings=lora, init={"kind": "lora", "files": {}}, **more)
    for run in (training, other):
        run.write(tmp_path / "run.json")
        assert TrainingRun.read(tmp_path / "run.json") == run


class TestRunKey:
    @pytest.fixture
    def key(self, tmp_path):
        rows = tmp_path / "rows"
        rows.write_text("rows")

        def make(content="rows", base="a", init=None, chat=None, **change):
            rows.write_text(content)
            settings = complete_settings("sft", {**SETTINGS, **change})
            manifest = {"files": {"model.safetensors": base}}
            return run_key("sft", settings, hash_file(rows), manifest, init, {"trl": "1"}, chat)

        return make

    @pytest.mark.parametrize(
        "change",
        [
            {"content": "other"},
            {"base": "b"},
            {"init": {"files": {"x": "y"}}},
            {"seed": 2},
            {"per_device_batch_size": 8},
            {"quantization": "nf4"},
            {"chat": CHAT},
        ],
    )
    def test_changes_with_what_bears_on_the_weights(self, key, change):
        assert key(**change) != key()

    @pytest.mark.parametrize(
        "change",
        [
            {"template": "other"},
            {"system": "Be brief."},
            {"options": {"enable_thinking": False}},
            {"answer_after": "</think>"},
        ],
    )
    def test_changes_with_what_a_chat_is_made_of(self, key, change):
        assert key(chat=replace(CHAT, **change)) != key(chat=CHAT)
        assert key(chat=replace(CHAT, name="other")) == key(chat=CHAT)

    def test_does_not_change_with_the_checkpoint_interval(self, key):
        assert key(save_steps=5) == key()

    def test_deepspeed_file_counts_by_content(self, key, tmp_path):
        for name, text in {"a": "{}", "b": "{}", "c": "{ }"}.items():
            (tmp_path / name).write_text(text)
        first, same, other = (key(deepspeed=str(tmp_path / name)) for name in "abc")
        assert first == same != other


class TestRows:
    def test_golden_ids(self):
        (row,) = encode(("Q:A", " b"))
        assert row.prompt == [BOS, 81, 58, 65]
        assert row.completions == ([32, 98, EOS],)
        assert (row.tokens, row.supervised) == (7, 3)

    def test_columns_supervise_the_completion_and_its_end_only(self):
        rows = encode(("Q", " b"))
        assert sft_columns(rows) == {
            "input_ids": [[BOS, 81, 32, 98, EOS]],
            "labels": [[-100, -100, 32, 98, EOS]],
        }

    def test_weights_of_rows_are_a_column(self):
        frame = sft_frame(("Q", " b"), ("Q", " c")).with_columns(weight=pl.Series([0.5, 1.5]))
        rows = encode_rows(frame, CharacterTokenizer(), 9, ("completion",))
        assert sft_columns(rows)["weight"] == [0.5, 1.5]

    def test_pair_columns(self):
        frame = pl.DataFrame({"id": ["p"], "prompt": ["Q"], "chosen": [" y"], "rejected": [" no"]})
        rows = encode_rows(frame, CharacterTokenizer(), 9, ("chosen", "rejected"))
        assert dpo_columns(rows) == {
            "prompt_ids": [[BOS, 81]],
            "chosen_ids": [[32, 121, EOS]],
            "rejected_ids": [[32, 110, 111, EOS]],
        }
        frame = frame.with_columns(weight=1.0)
        weighted = encode_rows(frame, CharacterTokenizer(), 9, ("chosen", "rejected"))
        assert dpo_columns(weighted) == {**dpo_columns(rows), "weight": [1.0]}
        columns = orpo_columns(rows)
        assert columns["chosen_input_ids"] == [[BOS, 81, 32, 121, EOS]]
        assert columns["rejected_labels"] == [[-100, -100, 32, 110, 111, EOS]]
        assert rows[0].tokens == 11

    def test_single_answers_of_pairs(self):
        """No answer to estimate the distance of the models belongs to the prompt beside it."""
        pairs = [
            {"prompt_ids": [n], "chosen_ids": [n, 1], "rejected_ids": [n, 0]} for n in (7, 8, 9)
        ]
        assert unpair(pairs)[1] == {
            "prompt_ids": [8],
            "completion_ids": [8, 1],
            "KL_completion_ids": [7, 1],
            "label": True,
        }
        answers = unpair(pairs)
        assert [answer["label"] for answer in answers] == [True] * 3 + [False] * 3
        assert [answer["completion_ids"] for answer in answers[3:]] == [[7, 0], [8, 0], [9, 0]]
        assert [answer["KL_completion_ids"] for answer in answers[3:]] == [[9, 0], [7, 0], [8, 0]]
        alone = unpair(pairs[:1])
        assert [answer["KL_completion_ids"] for answer in alone] == [[7, 0], [7, 1]]

    def test_a_token_across_the_boundary_is_supervised(self):
        (row,) = encode(("Q#", "b"))
        assert row.prompt == [BOS, 81]
        assert row.completions == ([1000 + ord("b"), EOS],)

    def test_a_tokenizer_without_bos_of_its_own_gets_none(self):
        tokenizer = CharacterTokenizer()
        tokenizer.adds_bos = False
        (row,) = encode(("Q", " b"), tokenizer=tokenizer)
        assert row.prompt == [81]

    def test_double_bos_is_refused(self):
        with pytest.raises(ValueError, match=r"row 'row1'.*BOS"):
            encode(("Q", " b"), ("~Q", " b"))

    def test_a_row_is_never_cut(self):
        with pytest.raises(ValueError, match=r"max_length: 2 of 3 .* 'row1' with 11; .* least 14"):
            encode(("Q", " b"), ("Q", " 1234567"), ("Q", " 1234567890"), max_length=10)

    def test_an_exact_fit_is_allowed(self):
        (row,) = encode(("Q", " 1234567"), max_length=11)
        assert row.longest == 11

    def test_no_rows(self):
        with pytest.raises(ValueError, match="none"):
            encode()

    def test_empty_completion(self):
        with pytest.raises(ValueError, match=r"row 'row0'.*no tokens"):
            encode(("Q", ""))

    def test_no_end_token(self):
        tokenizer = CharacterTokenizer()
        tokenizer.eos_token_id = None
        with pytest.raises(ValueError, match="end token"):
            encode(("Q", " b"), tokenizer=tokenizer)

    @given(st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)), st.lists(st.integers(0, 2)))
    def test_common_length(self, head, left, right):
        length = common_length(head + left, head + right)
        assert length >= len(head)
        assert (head + left)[:length] == (head + right)[:length]
        assert (head + left)[: length + 1] != (head + right)[: length + 1] or length in (
            len(head + left),
            len(head + right),
        )


class TestCheckpoints:
    @pytest.fixture
    def work(self, tmp_path):
        for step in (2, 4, 10):
            folder = tmp_path / f"checkpoint-{step}"
            (folder / "inner").mkdir(parents=True)
            (folder / "optimizer.pt").write_bytes(b"12345")
            (folder / "inner" / "state").write_bytes(b"1")
            seal_checkpoint(folder)
        return tmp_path

    def test_latest_by_number(self, work):
        assert find_checkpoint(work).name == "checkpoint-10"

    @pytest.mark.parametrize("harm", ["unsealed", "short", "missing", "torn seal"])
    def test_a_torn_one_is_passed_over(self, work, harm):
        last = work / "checkpoint-10"
        if harm == "unsealed":
            (last / "complete.json").unlink()
        elif harm == "short":
            (last / "optimizer.pt").write_bytes(b"1234")
        elif harm == "missing":
            (last / "inner" / "state").unlink()
        else:
            (last / "complete.json").write_text('{"optim')
        assert find_checkpoint(work).name == "checkpoint-4"

    def test_none(self, tmp_path):
        assert find_checkpoint(tmp_path) is None


class TestWorkFolder:
    def test_a_second_job_with_the_same_one_waits(self, tmp_path):
        work, entered = tmp_path / "training" / "abc", []

        def job(name: str) -> None:
            with alone_in(work):
                entered.append(name)
                time.sleep(0.3)
                entered.append(name)

        jobs = [threading.Thread(target=job, args=(name,)) for name in "abc"]
        for thread in jobs:
            thread.start()
        for thread in jobs:
            thread.join()
        assert sorted(entered[::2]) == ["a", "b", "c"]
        assert entered[::2] == entered[1::2]
        assert list(work.parent.iterdir()) == []

    def test_another_is_free(self, tmp_path):
        with alone_in(tmp_path / "a"), alone_in(tmp_path / "b"):
            assert {path.name for path in tmp_path.iterdir()} == {"a.flock", "b.flock"}

    def test_a_link_is_not_followed(self, tmp_path):
        (tmp_path / "a.flock").symlink_to(tmp_path / "elsewhere")
        with (
            pytest.raises(ValueError, match=r"a\.flock: is no plain file"),
            alone_in(tmp_path / "a"),
        ):
            pass
        assert not (tmp_path / "elsewhere").exists()

    def test_a_file_system_without_locks_has_none(self, tmp_path, monkeypatch, caplog):
        def refuse(*_: object) -> None:
            raise OSError(errno.ENOSYS, "Function not implemented")

        monkeypatch.setattr("weak_to_strong.training.checkpoints.fcntl.flock", refuse)
        with alone_in(tmp_path / "a"):
            pass
        assert "cannot be locked on this file system" in caplog.text


class TestPublishFolder:
    def test_replaces_as_a_whole(self, tmp_path):
        target = tmp_path / "model"
        target.mkdir()
        (target / "old").touch()
        with publish_folder(target) as part:
            (part / "new").write_text("n")
            assert (target / "old").exists()
        assert [path.name for path in target.iterdir()] == ["new"]
        assert list(tmp_path.iterdir()) == [target]

    def test_a_failure_leaves_the_former(self, tmp_path):
        target = tmp_path / "model"
        target.mkdir()
        (target / "old").touch()
        with pytest.raises(RuntimeError), publish_folder(target) as part:  # noqa: PT012
            (part / "new").touch()
            raise RuntimeError
        assert [path.name for path in target.iterdir()] == ["old"]
        assert list(tmp_path.iterdir()) == [target]


class TestInitialModel:
    BASE = {"name": "tiny"}  # noqa: RUF012

    @pytest.fixture
    def init(self, tmp_path):
        config = {"r": 8, "lora_alpha": 16, "target_modules": ["v_proj", "q_proj"]}
        (tmp_path / "adapter_config.json").write_text(json.dumps(config))
        return {"kind": "lora", "base": "tiny", "path": str(tmp_path)}

    @pytest.fixture
    def settings(self):
        lora = {"r": 8, "alpha": 16, "target_modules": ["q_proj", "v_proj"]}
        return complete_settings("dpo", {**SETTINGS, "beta": 0.1, "lora": lora})

    def test_a_fitting_one(self, settings, init):
        check_init("dpo", settings, self.BASE, init)

    def test_missing(self, settings):
        with pytest.raises(ValueError, match="dpo: needs"):
            check_init("dpo", settings, self.BASE, None)

    def test_another_base(self, settings, init):
        with pytest.raises(ValueError, match="'other'"):
            check_init("dpo", settings, {"name": "other"}, init)

    def test_another_kind(self, settings, init):
        with pytest.raises(ValueError, match="adapter"):
            check_init("dpo", settings, self.BASE, {**init, "kind": "full"})

    @pytest.mark.parametrize(
        ("key", "value"), [("r", 4), ("alpha", 8), ("target_modules", ["q_proj"])]
    )
    def test_another_shape(self, settings, init, key, value):
        changed = replace(settings, lora=replace(settings.lora, **{key: value}))
        with pytest.raises(ValueError, match=f"lora.{key}"):
            check_init("dpo", changed, self.BASE, init)


class TestHistory:
    def test_keeps_updates_without_clocks(self):
        log = [
            {"loss": 1.0, "step": 1, "train_tokens_per_second": 3.0, "num_tokens": 9},
            {"train_runtime": 2.0, "step": 1},
        ]
        assert clean_history(log) == [{"loss": 1.0, "step": 1}]

    @pytest.mark.parametrize("loss", [float("nan"), float("inf")])
    def test_a_lost_loss_is_refused(self, loss):
        with pytest.raises(ValueError, match=r"learning_rate: .* step 2"):
            check_loss(loss, 2)

    def test_a_target_that_is_not_in_the_model_is_refused(self):
        modules = ["", "model", "model.layers.0.attn.o_proj", "model.layers.0.attn.qkv_proj"]
        check_targets(["o_proj", "attn.qkv_proj"], modules)
        with pytest.raises(ValueError, match="no 'q_proj'; its projections are o_proj, qkv_proj"):
            check_targets(["o_proj", "q_proj"], modules)

    def test_facts_count_every_pass(self):
        rows = encode(("Q", " b"), ("Q", " bc"))
        settings = complete_settings("sft", {**SETTINGS, "epochs": 3})
        facts = training_facts(rows, settings, 6, [{"loss": 2.0}, {"loss": 1.0}])
        assert (facts["tokens"], facts["supervised_tokens"]) == (33, 21)
        assert (facts["examples"], facts["steps"], facts["loss"]) == (2, 6, 1.5)
