"""What orchestration costs: per shard, of a whole run, of a resume, and how shards spread over workers.

    python -m benchmarks.orchestration            # all four, about half an hour on two cores, 7 GB of disk
    python -m benchmarks.orchestration --only resume
    python -m benchmarks.orchestration --only workers --workers 1 16

Shards that only sleep stand for shards that only a GPU works on: what is left is Prefect, the joiner and the start of
processes. The same `join`, `serve` and pools as in a real run. A shard sleeps for 20 s: 512 images of SD-1.5 take 23 s
at the 22 images a second of DPM-Solver++ 20 on an H200.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from prefect import flow, task

WORKERS: Final = (1, 2, 4, 8, 16)
SLEEP_SECONDS: Final = 20.0
_ONLINE_SECONDS: Final = 300.0  # for the workers to be there
SHARDS_PER_WORKER: Final = 12
LOCAL_SHARDS: Final = 40
RESUME_SHARDS: Final = 200
ROUNDS: Final = 5


@task(task_run_name="sleep shard {shard}")
def sleep_shard(folder: str, shard: int, seconds: float) -> None:
    """A shard whose work needs no core of this machine."""
    time.sleep(seconds)
    (Path(folder) / f"shard-{shard:05d}").touch()


@flow(name="sleep-shards", persist_result=False)
def sleep_shards(folder: str, shards: list[int], seconds: float) -> None:
    """A child flow run that carries a batch."""
    import flows.sample_shard  # noqa: F401  what a child of a run imports

    for shard in shards:
        sleep_shard(folder, shard, seconds)


@flow(name="sleep-parent", persist_result=False)
def sleep_parent(folder: str, groups: list[list[int]], seconds: float) -> float:
    """Seconds until every shard of every child stands."""
    from flows.joining import Call, Child, join

    def child(group: Sequence[int]) -> Child:
        parameters = {"folder": folder, "shards": list(group), "seconds": seconds}
        missing = lambda: [f"shard {s}" for s in group if not (Path(folder) / f"shard-{s:05d}").exists()]  # noqa: E731
        call = Call(f"sleep {group[0]}-{group[-1]}", parameters)
        return Child("sleep-shards/gpu", f"{folder} {group}", missing, lambda: call)

    start = time.perf_counter()
    join([child(group) for group in groups], max_attempts=1, tags=())
    return time.perf_counter() - start


def main() -> None:
    arguments = _arguments()
    measures: dict[str, Callable[[Path], dict[str, Any]]] = {
        "shard": per_shard, "run": whole_run, "resume": resume,
        "workers": lambda folder: scaling(folder, arguments.workers),
    }  # fmt: skip
    found: dict[str, Any] = {"load": os.getloadavg()[0], "cores": os.cpu_count()}
    with tempfile.TemporaryDirectory(prefix="orchestration-") as folder:
        _own_prefect(Path(folder))
        for name, measure in measures.items():
            if arguments.only in (None, name):
                found |= measure(Path(folder))
                found[f"{name}: load average after"] = os.getloadavg()[0]
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    for key, value in found.items():
        print(f"{key:<44} {value:.4g}" if isinstance(value, float) else f"{key:<44} {value}")


def per_shard(_folder: Path) -> dict[str, Any]:
    """A flow of tasks that do nothing: Prefect's share of each shard with the executor `local`."""

    @flow(name="empty-shards", persist_result=False)
    def empty(count: int) -> None:
        with tempfile.TemporaryDirectory() as place:
            for shard in range(count):
                sleep_shard(place, shard, 0.0)

    empty(1)  # the server starts
    rounds = []
    for _ in range(5):
        start = time.perf_counter()
        empty(LOCAL_SHARDS)
        rounds.append((time.perf_counter() - start) / LOCAL_SHARDS)
    return {"local: ms per shard, median of 5": 1000 * statistics.median(rounds)}


def whole_run(folder: Path) -> dict[str, Any]:
    """The miniature's demo: seconds of the flow that no room worked in."""
    from flows.spin_diffusion import spin_diffusion
    from spin.core.config import load_config
    from spin.core.config_identity import config_to_json
    from spin.core.layout import RunsRoot
    from spin.core.record import read_record

    root = folder / "demo"
    summary = spin_diffusion(config=config_to_json(load_config("miniature", overrides=[f"run.root={root}"])))
    record = read_record(RunsRoot(root).run("miniature"))
    inside = sum(row["seconds"] for row in record["stage_seconds"])
    total = summary.totals.seconds
    return {"demo: seconds": total, "demo: share outside rooms": (total - inside) / total}


def resume(folder: Path) -> dict[str, Any]:
    """A finished iteration is looked at again, with stamps of what was hashed before and without, in turn."""
    from benchmarks.standing_shards import standing_iteration

    made = standing_iteration(folder / "resume", RESUME_SHARDS)
    time.sleep(3)  # what was just written has no stamp
    seconds: dict[str, list[float]] = {"every byte hashed": [], "stamped": []}
    for _ in range(ROUNDS):
        made.forget()
        for rounds in seconds.values():
            start = time.perf_counter()
            found = made.resume()
            rounds.append(time.perf_counter() - start)
            if found != (0, True):
                raise RuntimeError(f"a finished iteration does not stand: {found}")
    told: dict[str, Any] = {"resume: shards": RESUME_SHARDS, "resume: GB": made.size_bytes() / 1e9}
    for name, rounds in seconds.items():
        told[f"resume, {name}: seconds, median of {ROUNDS}"] = statistics.median(rounds)
    told["resume, stamped: ms per shard"] = 1000 * statistics.median(seconds["stamped"]) / RESUME_SHARDS
    return told


def scaling(folder: Path, counts: Sequence[int]) -> dict[str, Any]:
    """The same sleep for each worker: with W workers W times the shards in the same time."""
    found: dict[str, Any] = {}
    for workers in counts:
        seconds = _with_workers(folder / f"workers-{workers}", workers)
        ideal = SHARDS_PER_WORKER * SLEEP_SECONDS
        found[f"workers {workers}: seconds, {SHARDS_PER_WORKER} x {SLEEP_SECONDS:.0f} s each"] = seconds
        found[f"workers {workers}: efficiency to {counts[0]}"] = found["_one"] / seconds if "_one" in found else 1.0
        found[f"workers {workers}: seconds over the sleep"] = seconds - ideal
        found.setdefault("_one", seconds)
    found.pop("_one")
    return found


def _with_workers(root: Path, workers: int) -> float:
    groups = [list(range(w * SHARDS_PER_WORKER, (w + 1) * SHARDS_PER_WORKER)) for w in range(workers)]
    with _served(root, workers) as environment:
        program = (
            "import sys, json; from benchmarks.orchestration import sleep_parent, deploy_sleep;"
            "deploy_sleep(int(sys.argv[4]));"
            "print('seconds', sleep_parent(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])))"
        )
        place = root / "shards"
        place.mkdir()
        words = [sys.executable, "-c", program, str(place), json.dumps(groups), str(SLEEP_SECONDS), str(workers)]
        said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    return float(said.rsplit("seconds", 1)[1])


def deploy_sleep(workers: int) -> None:
    """Register the sleeping child on the pool of the GPUs, and wait until its workers are there."""
    from prefect.client.orchestration import get_client
    from prefect.deployments.runner import RunnerDeployment
    from prefect.types.entrypoint import EntrypointType

    made = RunnerDeployment.from_flow(
        sleep_shards, "gpu", work_pool_name="spin-gpu", entrypoint_type=EntrypointType.MODULE_PATH
    )
    made.entrypoint = "benchmarks.orchestration.sleep_shards"
    made.apply()
    deadline = time.monotonic() + _ONLINE_SECONDS
    with get_client(sync_client=True) as client:
        while len(client.read_workers_for_work_pool("spin-gpu")) < workers:
            if time.monotonic() > deadline:
                raise RuntimeError(f"less than {workers} workers")
            time.sleep(1)


@contextmanager
def _served(root: Path, slots: int) -> Iterator[dict[str, str]]:
    """`spin-diffusion serve` with `slots` workers in spin-gpu; the environment of its clients."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT")}
    environment = {**kept, "PYTHONPATH": str(Path(__file__).parents[1])}
    script = Path(sys.executable).with_name("spin-diffusion")
    command = [str(script), "serve", "--port", str(port), "--slots", str(slots), "--set", f"run.root={root}"]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, start_new_session=True)
    note = root / ".prefect" / "server-url"
    try:
        while not note.exists():
            if server.poll() is not None:
                raise RuntimeError("serve ended")
            time.sleep(0.2)
        yield {**environment, "PREFECT_API_URL": note.read_text("utf-8").strip()}
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait()


def _own_prefect(folder: Path) -> None:
    from flows.environment import prepare_environment

    os.environ.pop("PREFECT_API_URL", None)
    prepare_environment(folder)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("shard", "run", "resume", "workers"))
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
