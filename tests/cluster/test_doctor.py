"""The doctor as a user calls it, with a Hub and a cluster that answer as real ones do."""

import json
import os
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import yaml

from weak_to_strong.cluster.doctor import examine
from weak_to_strong.cluster.machine_checks import MEND, OK, Finding

ROOT = Path(__file__).parents[2]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
PRESENT = "89abcdef0123456789abcdef0123456789abcdef"
ROWS = [{"question": f"q {number}", "answer": str(number)} for number in range(8)]
#: Error code of the Hub by name of a repository.
ERRORS = {"gated": (403, "GatedRepo"), "absent": (404, "RepoNotFound")}
TOKEN = "hf_aSecretOfThisTest"


@pytest.fixture(scope="module")
def hub():
    """Address of a server that answers HEAD requests for files as the Hub does."""

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self):
            _, _, name, *_ = self.path.split("/")
            status, error = ERRORS.get(name, (200, ""))
            if name == "moved" and COMMIT in self.path:
                status, error = 404, "RevisionNotFound"
            self.send_response(status)
            self.send_header("X-Repo-Commit", PRESENT if "/main/" in self.path else COMMIT)
            self.send_header("ETag", '"tag"')
            self.send_header("Content-Length", "12")
            if error:
                self.send_header("X-Error-Code", error)
            self.end_headers()

        def do_GET(self):
            if "slow" in self.path:
                time.sleep(60)
            found = "rows" in self.path
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(b"{}\n")

        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def configuration(folder: Path, hub: str) -> dict:
    """An experiment whose models are on the Hub and whose data lie in three kinds of places."""
    for name in ("train_1", "train_2"):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    names = ("small", "gated", "absent", "moved", "unpinned")
    models = {name: {"hub": f"owner/{name}", "revision": COMMIT} for name in names}
    models["unpinned"]["revision"] = None
    strong = [name for name in names if name != "small"]
    url = {"url": f"{hub}/rows.jsonl", "sha256": "0" * 64}
    return {
        "experiment": "doctor",
        "tasks": {
            "sums": {
                "loader": "table",
                "columns": {"question": "question", "answer": "answer"},
                "splits": {
                    "train_1": {"path": str(folder / "train_1.jsonl")},
                    "train_2": {"path": str(folder / "train_2.jsonl")},
                    "validation": {**url, "url": f"{hub}/gone.jsonl"},
                    "test": url,
                },
                "max_tokens": 64,
            }
        },
        "methods": {"weak": {"trainer": "none", "data": "none"}, "ceiling": None},
        "models": models,
        "chains": [{"task": "sums", "weak": "small", "strong": name} for name in strong],
        "engine": {"max_model_len": 512},
    }


def run(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Call the doctor in a folder, where no command of SLURM or NVIDIA is on PATH."""
    kept = ("HOME", "USER", "TMPDIR", "LANG")
    environment = {name: os.environ[name] for name in kept if name in os.environ}
    environment |= {"PATH": str(folder / "bin"), "PYTHONPATH": str(ROOT / "scripts"), **variables}
    return subprocess.run(
        [sys.executable, "-P", "-m", "weak_to_strong.cluster.doctor", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def lines(hub, tmp_path_factory) -> dict[str, str]:
    """The doctor's lines for an experiment on the Hub, by what they are about."""
    folder = tmp_path_factory.mktemp("doctor")
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(configuration(folder, hub)))
    done = run(folder, str(file), HF_ENDPOINT=hub, HF_TOKEN=TOKEN)
    assert done.returncode == 1, done.stdout + done.stderr
    assert TOKEN not in done.stdout + done.stderr
    rows = [line.split(None, 2) for line in done.stdout.splitlines() if line[:4].strip()]
    return {name: f"{state} {words}" for state, name, words in rows}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("models.small", "ok owner/small can be had"),
        ("models.gated", "mend owner/gated is gated: accept its terms on the Hub, then"),
        ("models.absent", "mend owner/absent is not on the Hub, or is private"),
        ("models.moved", f"mend owner/moved has no revision {COMMIT}; correct `models.moved`"),
        (
            "models.unpinned",
            "mend owner/unpinned can be had, and is not pinned; "
            f"set `models.unpinned.revision` to {PRESENT}",
        ),
        ("tasks.sums.splits.train_1", "ok "),
        ("tasks.sums.splits.test", "ok http://127.0.0.1"),
        ("tasks.sums.splits.validation", "mend the server answers 404"),
        ("torch", "ok 2."),
        ("SLURM", "ok sinfo is not here"),
    ],
)
def test_each_model_and_file_has_a_line(lines, name, line):
    assert lines[name].startswith(line)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read (No such file or directory); name it by CONFIG="),
        ("a: [", "is not YAML"),
        ("experiment: x\nexperiment: y\n", "the key `experiment` stands twice"),
        ("experiment: x\n", "config key"),
    ],
)
def test_a_wrong_configuration_is_one_line_among_the_others(tmp_path, content, words):
    file = tmp_path / "config.yaml"
    if content is not None:
        file.write_text(content)
    done = run(tmp_path, str(file))
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if " configuration " in line]
    assert line.startswith("mend")
    assert words in line
    assert any(line.startswith("ok    torch") for line in done.stdout.splitlines())
    assert "Traceback" not in done.stderr


SITE = """\
gpu: {partition: gpu, model: a100, memory_gb: 80, per_node: 4, cpus_per_gpu: 8, mem_gb_per_gpu: 100,
      max_nodes: 2, runtime: 2880}
cpu: {partition: cpu}
account: ours
"""
#: What the commands print, by their first words.
COMMANDS = {
    "sinfo": 'case "$*" in *Node*) echo "n1|64|515000|gpu:a100:4|idle";; *) echo gpu;; esac',
    "scontrol": 'case "$*" in *cpu*) echo "invalid" >&2; exit 1;; '
    '*) echo "PartitionName=gpu MaxNodes=UNLIMITED MaxTime=1-00:00:00 State=UP";; esac',
    "sacctmgr": "echo theirs",
}


@pytest.mark.slow
def test_the_site_file_is_compared_with_the_cluster(tmp_path):
    (tmp_path / "bin").mkdir()
    for name, script in COMMANDS.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    site = tmp_path / "site.yaml"
    site.write_text(SITE)
    done = run(ROOT, W2S_SITE=str(site), PATH=str(tmp_path / "bin"))
    assert done.returncode == 1
    slurm = [line for line in done.stdout.splitlines() if "SLURM" in line]
    for words in (
        "set gpu.runtime to 1440",
        "gpu.max_nodes is too large: nodes have 1, the site file asks 2",
        "there is no partition cpu; set cpu.partition to one of gpu",
        "ours is not yours; set `account` in the site file to one of yours (theirs)",
    ):
        assert sum(words in line for line in slurm) == 1, done.stdout
    assert all(line.startswith("mend") for line in slurm), done.stdout


def test_a_check_that_fails_or_hangs_is_a_finding():
    def fault():
        raise KeyError("x")

    def bad():
        raise ValueError("the disk is full; make room")

    findings = examine(
        {
            "good": lambda: Finding("good", OK, "is well"),
            "several": lambda: [Finding("one", OK, "x"), Finding("two", OK, "y")],
            "bad": bad,
            "fault": fault,
            "hanging": lambda: time.sleep(60),
        },
        0.5,
    )
    assert [finding.name for finding in findings] == [
        *("good", "one", "two", "bad", "fault", "hanging")
    ]
    assert findings[3] == Finding("bad", MEND, "the disk is full", "make room")
    assert findings[4].words == "KeyError: 'x'"
    assert (findings[5].state, findings[5].words) == (MEND, "no answer in 0 s")
