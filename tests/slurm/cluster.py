"""A real SLURM cluster on this machine: several slurmd on loopback, accounting, placeholder GPUs.

    python tests/slurm/cluster.py start [DIR]
    python tests/slurm/cluster.py status [DIR]
    python tests/slurm/cluster.py stop [DIR]

DIR (default: /tmp/w2s-slurm) takes all of its state: logs, spool, database, process ids. Needs root
and Debian's packages of SLURM, which `start` installs if they are missing. It writes /etc/slurm,
where Snakemake's job step looks, and refuses if another cluster's configuration lies there; `stop`
ends what `start` began, by process id, and removes the configuration.

The GPUs are links to /dev/null: SLURM counts and assigns them, nothing computes on them.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import yaml

PACKAGES = (
    *("slurmctld", "slurmd", "slurm-client", "slurm-wlm-basic-plugins"),
    *("munge", "slurmdbd", "mariadb-server"),
)
PROGRAMS = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "sacct", "munged", "mariadbd")
CONFIGURATION = Path("/etc/slurm")
FILES = ("slurm.conf", "gres.conf", "slurmdbd.conf")
MARK = "# Test cluster of tests/slurm/cluster.py; state in "
CLUSTER_NAME = "w2stest"
DEFAULT_STATE = "/tmp/w2s-slurm"


class ClusterError(RuntimeError):
    """The cluster cannot be had; the message is one line that says why and what to do."""


@dataclass(frozen=True)
class Node:
    """A slurmd; memory in MiB. Declared, not measured: the sum may exceed the machine's."""

    name: str
    partition: str
    cpus: int
    memory_mb: int
    gpus: int = 0
    gpu_type: str = "a100"


NODES = (
    Node("gpu01", "gpu", cpus=4, memory_mb=24_000, gpus=2),
    Node("gpu02", "gpu", cpus=4, memory_mb=24_000, gpus=2),
    Node("cpu01", "cpu", cpus=4, memory_mb=16_000),
)


def command(*arguments: str, timeout: float = 20) -> str:
    """Standard output of a client command, which may not wait for a dead controller.

    Raises:
        ClusterError: it failed or took more than `timeout` seconds.
    """
    try:
        done = subprocess.run(arguments, capture_output=True, text=True, timeout=timeout)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{' '.join(arguments)}: {error}") from error
    if done.returncode:
        raise ClusterError(f"{' '.join(arguments)}: {done.stderr.strip() or done.returncode}")
    return done.stdout


def _search_path() -> str:
    """PATH with the folders of daemons, which a user's often lacks."""
    return f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"


def missing_programs() -> list[str]:
    return [name for name in PROGRAMS if not shutil.which(name, path=_search_path())]


def install() -> None:
    """Install Debian's packages of SLURM, if a program is missing.

    Raises:
        ClusterError: they cannot be installed.
    """
    if os.geteuid() != 0:
        raise ClusterError("the SLURM test cluster needs root: its daemons write /etc/slurm")
    if not missing_programs():
        return
    if not shutil.which("apt-get"):
        raise ClusterError(
            f"SLURM cannot be installed: no apt-get here; install {', '.join(PROGRAMS)} by hand"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--no-install-recommends", *PACKAGES]):
        done = subprocess.run(
            ["apt-get", "-y", "-qq", *arguments], env=environment, capture_output=True, text=True
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
            raise ClusterError(
                f"SLURM cannot be installed: `apt-get {arguments[0]}` failed: {last}"
            )
    if missing := missing_programs():
        raise ClusterError(f"SLURM cannot be installed: still no {', '.join(missing)}")


def owner_of_configuration() -> Path | None:
    """State folder of the test cluster that /etc/slurm belongs to; None if nothing is there.

    Raises:
        ClusterError: it belongs to something else.
    """
    owner = None
    for file in (CONFIGURATION / name for name in FILES):
        if file.exists():
            first = file.read_text(encoding="utf-8").partition("\n")[0]
            if not first.startswith(MARK):
                raise ClusterError(
                    f"{file} is another cluster's configuration: it is left alone, and the test "
                    "cluster needs a machine without one"
                )
            owner = Path(first.removeprefix(MARK))
    return owner


def _free_ports(count: int) -> list[int]:
    """Ports nobody listens on; another program may still take one before its daemon does."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]
    finally:
        for listener in sockets:
            listener.close()


class Cluster:
    """A cluster whose state lies in one folder; a later process may take it over by that folder."""

    def __init__(self, state: str | Path = DEFAULT_STATE, nodes: tuple[Node, ...] = NODES) -> None:
        self.state = Path(state).resolve()
        self.nodes = nodes

    @property
    def site_file(self) -> Path:
        """What W2S_SITE names: the cluster as the profile's site file describes it."""
        return self.state / "site.yaml"

    # Processes

    def _pid_file(self, name: str) -> Path:
        return self.state / "pids" / name

    def process(self, name: str) -> psutil.Process | None:
        """The daemon that `start` began. None if it has ended, even if its id is in use again."""
        try:
            pid, started = self._pid_file(name).read_text().split()
            process = psutil.Process(int(pid))
            if process.create_time() != float(started) or process.status() == "zombie":
                return None
            return process
        except (FileNotFoundError, ValueError, psutil.Error):
            return None

    def _start(self, name: str, *arguments: str, **options) -> None:
        """Start a daemon in the foreground of a session of its own, and note its process id."""
        program = shutil.which(arguments[0], path=_search_path())
        with (self.state / "logs" / f"{name}.log").open("ab") as log:
            daemon = subprocess.Popen(
                [program, *arguments[1:]],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **options,
            )
        started = psutil.Process(daemon.pid).create_time()
        self._pid_file(name).write_text(f"{daemon.pid} {started}\n")

    def _end(self, *names: str) -> None:
        """End daemons, which may do so at the same time."""
        processes = [process for name in names if (process := self.process(name))]
        _end_processes(processes, 10)
        for name in names:
            self._pid_file(name).unlink(missing_ok=True)

    def _wait(self, name: str, ready, seconds: float = 30) -> None:
        """Wait until `ready()` is true; a daemon that has ended meanwhile says why in its log."""
        end = time.monotonic() + seconds
        while True:
            if ready():
                return
            if self.process(name) is None or time.monotonic() > end:
                log = self.state / "logs" / f"{name}.log"
                lines = log.read_text(errors="replace").strip().splitlines() or ["nothing"]
                raise ClusterError(f"{name} did not get ready; {log} ends: {lines[-1]}")
            time.sleep(0.2)

    # Life

    def start(self) -> None:
        """Install, configure and start everything; return when every node is idle.

        Raises:
            ClusterError: not possible here, or a cluster is there already. Nothing is left running.
        """
        install()
        owner = owner_of_configuration()
        if owner is not None and Cluster(owner).running():
            raise ClusterError(
                f"a test cluster runs already: `python tests/slurm/cluster.py stop {owner}` ends it"
            )
        self._clear_state()
        for folder in ("pids", "logs", "controller", "gpus", "database"):
            (self.state / folder).mkdir(parents=True)
        try:
            self._configure()
            self._start_munge()
            self._start_accounting()
            self._start_controller()
            for node in self.nodes:
                self.start_node(node.name)
            self._wait("slurmctld", self.idle, 60)
        except BaseException:
            self.stop()
            raise

    def _clear_state(self) -> None:
        """Remove what an earlier cluster left in the folder, and nothing else's files.

        Raises:
            ClusterError: the folder has something else.
        """
        if self.state.exists() and any(self.state.iterdir()):
            if not (self.state / "pids").is_dir():
                raise ClusterError(f"{self.state} is no test cluster: name an empty folder")
            shutil.rmtree(self.state)

    def _configure(self) -> None:
        database, accounting, controller, *slurmds = _free_ports(3 + len(self.nodes))
        host = socket.gethostname().split(".")[0]
        lines = [
            f"ClusterName={CLUSTER_NAME}",
            f"SlurmctldHost={host}(127.0.0.1)",
            f"SlurmctldPort={controller}",
            "SlurmUser=root",
            "SlurmdUser=root",
            "AuthType=auth/munge",
            f"StateSaveLocation={self.state}/controller",
            f"SlurmdSpoolDir={self.state}/spool-%n",
            f"SlurmctldPidFile={self.state}/pids/slurmctld.slurm",
            f"SlurmdPidFile={self.state}/pids/%n.slurm",
            # What works without cgroups and task affinity, as in a container.
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "MpiDefault=none",
            # Memory is watched each second: a job that uses more than it asked for is killed.
            "JobAcctGatherType=jobacct_gather/linux",
            "JobAcctGatherFrequency=task=1",
            "JobAcctGatherParams=OverMemoryKill",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU_Memory",
            # Nodes are as large as declared, not as the machine.
            "SlurmdParameters=config_overrides",
            "SchedulerParameters=bf_interval=5,sched_min_interval=100000",
            "ReturnToService=1",
            "KillWait=5",
            "MinJobAge=3600",
            # A requeued job waits for the old credential's end, by default two minutes.
            "AuthInfo=cred_expire=5",
            "GresTypes=gpu",
            "AccountingStorageType=accounting_storage/slurmdbd",
            "AccountingStorageHost=127.0.0.1",
            f"AccountingStoragePort={accounting}",
            "AccountingStorageTRES=gres/gpu",
            "AccountingStoreFlags=job_comment",
        ]
        gpus = []
        for node, port in zip(self.nodes, slurmds, strict=True):
            gres = f" Gres=gpu:{node.gpu_type}:{node.gpus}" if node.gpus else ""
            lines.append(
                f"NodeName={node.name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} "
                f"CPUs={node.cpus} RealMemory={node.memory_mb}{gres} State=UNKNOWN"
            )
            if node.gpus:
                folder = self.state / "gpus" / node.name
                folder.mkdir()
                for number in range(node.gpus):
                    (folder / f"gpu{number}").symlink_to("/dev/null")
                gpus.append(
                    f"NodeName={node.name} Name=gpu Type={node.gpu_type} "
                    f"File={folder}/gpu[0-{node.gpus - 1}] Flags=nvidia_gpu_env"
                )
        partitions = list(dict.fromkeys(node.partition for node in self.nodes))
        for partition in partitions:
            names = ",".join(node.name for node in self.nodes if node.partition == partition)
            # The default is the one without GPUs: what lands on a GPU node has asked for it.
            default = "YES" if partition == partitions[-1] else "NO"
            lines.append(f"PartitionName={partition} Nodes={names} Default={default} State=UP")
        self._database_port = database
        dbd = [
            f"DbdHost={host}",
            "DbdAddr=127.0.0.1",
            f"DbdPort={accounting}",
            "SlurmUser=root",
            "AuthType=auth/munge",
            f"PidFile={self.state}/pids/slurmdbd.slurm",
            "StorageType=accounting_storage/mysql",
            "StorageHost=127.0.0.1",
            f"StoragePort={database}",
            "StorageUser=slurm",
            "StoragePass=slurm",
            "StorageLoc=slurm_acct_db",
        ]
        CONFIGURATION.mkdir(exist_ok=True)
        for name, content in zip(FILES, (lines, gpus, dbd), strict=True):
            file = CONFIGURATION / name
            file.touch()
            # slurmdbd refuses a file that others may read.
            file.chmod(0o600 if name == "slurmdbd.conf" else 0o644)
            file.write_text("\n".join([f"{MARK}{self.state}", *content, ""]), encoding="utf-8")
        self.site_file.write_text(yaml.safe_dump(self.site(), sort_keys=False), encoding="utf-8")

    def site(self) -> dict:
        """The cluster in the keys of profiles/slurm/site.yaml."""
        gpu_nodes = [node for node in self.nodes if node.gpus]
        gpu_node = gpu_nodes[0]
        cpu_node = next(node for node in self.nodes if not node.gpus)
        return {
            "gpu": {
                "partition": gpu_node.partition,
                "model": gpu_node.gpu_type,
                "memory_gb": 80,
                "per_node": gpu_node.gpus,
                "cpus_per_gpu": gpu_node.cpus // gpu_node.gpus,
                "mem_gb_per_gpu": gpu_node.memory_mb // gpu_node.gpus // 1000,
                "max_nodes": len(gpu_nodes),
                "runtime": 60,
            },
            "cpu": {
                "partition": cpu_node.partition,
                "mem_gb": 2,
            },
        }

    def _start_munge(self) -> None:
        """Authentication; a munged that answers already is used and not ended."""
        if _succeeds("munge", "-n"):
            return
        for folder in ("/run/munge", "/var/lib/munge", "/var/log/munge"):
            Path(folder).mkdir(exist_ok=True)
            shutil.chown(folder, "munge", "munge")
        Path("/run/munge").chmod(0o755)
        if not Path("/etc/munge/munge.key").exists():
            command("mungekey", "--create")
            shutil.chown("/etc/munge/munge.key", "munge", "munge")
        self._start(
            *("munged", "munged", "--foreground"), user="munge", group="munge", extra_groups=[]
        )
        self._wait("munged", lambda: _succeeds("munge", "-n"))

    def _start_accounting(self) -> None:
        data = self.state / "database"
        command(
            *("mariadb-install-db", "--no-defaults", f"--datadir={data}", "--user=root"),
            *("--skip-test-db", "--auth-root-authentication-method=normal"),
            timeout=60,
        )
        setup = self.state / "database.sql"
        setup.write_text(
            "CREATE DATABASE IF NOT EXISTS slurm_acct_db;\n"
            "CREATE USER IF NOT EXISTS 'slurm'@'127.0.0.1' IDENTIFIED BY 'slurm';\n"
            "GRANT ALL ON slurm_acct_db.* TO 'slurm'@'127.0.0.1';\n"
        )
        self._start(
            *("mariadbd", "mariadbd", "--no-defaults", f"--datadir={data}", "--user=root"),
            *(f"--socket={data}/socket", f"--pid-file={data}/pid", "--bind-address=127.0.0.1"),
            *(f"--port={self._database_port}", f"--init-file={setup}", "--skip-name-resolve"),
            # slurmdbd asks for these; small, for what a test writes.
            *("--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900"),
        )
        self._wait("mariadbd", lambda: _listens(self._database_port))
        self._start("slurmdbd", "slurmdbd", "-D")
        self._wait("slurmdbd", lambda: _succeeds("sacctmgr", "-n", "show", "cluster"))
        command("sacctmgr", "-i", "add", "cluster", CLUSTER_NAME)

    def _start_controller(self) -> None:
        self._start("slurmctld", "slurmctld", "-D")
        self._wait("slurmctld", lambda: _succeeds("scontrol", "ping"))

    def start_node(self, name: str) -> None:
        """Start a node's slurmd, for the first time or again."""
        self._start(name, "slurmd", "-D", "-N", name)

    def stop_node(self, name: str) -> None:
        """Kill a node's slurmd and the jobs on it at once, as when its power fails."""
        process = self.process(name)
        if process is not None:
            mine = [process, *self._step_processes(name)]
            _end_processes(mine, 0)
        self._pid_file(name).unlink(missing_ok=True)

    def _step_processes(self, node: str | None = None) -> list[psutil.Process]:
        """Processes of this cluster's jobs, on a node or on all, and the step daemons over them."""
        processes = {}
        for process in psutil.process_iter():
            try:
                variables = process.environ()
                if variables.get("SLURM_CLUSTER_NAME") != CLUSTER_NAME:
                    continue
                if node in (None, variables.get("SLURMD_NODENAME")):
                    parent = process.parent()
                    if parent is not None and parent.name() == "slurmstepd":
                        processes[parent.pid] = parent
                    processes[process.pid] = process
            except psutil.Error:
                continue
        return list(processes.values())

    def idle(self) -> bool:
        """Whether every node waits for work."""
        try:
            states = dict(
                line.split() for line in command("sinfo", "-hN", "-o", "%N %t").splitlines()
            )
        except ClusterError:
            return False
        return states == {node.name: "idle" for node in self.nodes}

    def running(self) -> bool:
        """Whether any daemon of the cluster runs; munged does not count."""
        names = [file.name for file in (self.state / "pids").glob("*")]
        return any(self.process(name) for name in names if name != "munged")

    def status(self) -> str:
        """One line for each daemon, and SLURM's view of the nodes and jobs."""
        if not self.running():
            raise ClusterError(f"no test cluster runs in {self.state}")
        pids = [file.name for file in sorted((self.state / "pids").glob("*")) if not file.suffix]
        lines = [f"{name}: {'runs' if self.process(name) else 'has ended'}" for name in pids]
        return "\n".join([*lines, command("sinfo", "-N", "-l"), command("squeue")])

    def stop(self) -> None:
        """End the jobs, then every daemon that `start` began, last started first."""
        if self.process("slurmctld"):
            _succeeds("scancel", "--user", "root")
            end = time.monotonic() + 15
            while time.monotonic() < end and _output("squeue", "-h").strip():
                time.sleep(0.3)
        _end_processes(self._step_processes(), 2)
        self._end("slurmctld", *(node.name for node in self.nodes))
        self._end("slurmdbd")
        self._end("mariadbd", "munged")
        try:
            if owner_of_configuration() == self.state:
                for name in FILES:
                    (CONFIGURATION / name).unlink(missing_ok=True)
        except ClusterError as error:
            print(error, file=sys.stderr)


def _output(*arguments: str) -> str:
    try:
        return command(*arguments, timeout=10)
    except ClusterError:
        return ""


def _succeeds(*arguments: str) -> bool:
    try:
        command(*arguments, timeout=10)
    except ClusterError:
        return False
    return True


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _end_processes(processes: list[psutil.Process], seconds: float) -> None:
    """SIGTERM, and SIGKILL for what is left after `seconds`; at 0 seconds only SIGKILL."""
    first = signal.SIGTERM if seconds else signal.SIGKILL
    for process in processes:
        try:
            process.send_signal(first)
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(processes, timeout=seconds or 5)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(alive, timeout=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("action", choices=("start", "status", "stop"))
    parser.add_argument("state", nargs="?", default=DEFAULT_STATE, metavar="DIR")
    arguments = parser.parse_args()
    cluster = Cluster(arguments.state)
    try:
        if arguments.action == "start":
            cluster.start()
            print(f"ready; export W2S_SITE={cluster.site_file}")
        elif arguments.action == "status":
            print(cluster.status())
        else:
            cluster.stop()
    except ClusterError as error:
        print(error, file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
