"""How shards spread over 1 to 16 workers: with W workers, W times the shards in the same time.

    python -m benchmarks.scaling cpu        # twenty minutes, each number of workers once

Shards that only sleep stand for shards that only a GPU works on: what is left is Prefect, the joiner and the start of
processes, by the same `join`, `serve` and pools as in a real run. A shard sleeps for 20 s: 512 images of Stable
Diffusion 1.5 take 23 s at the 22 images a second of DPM-Solver++ 20 on an H200.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from benchmarks.command import measure
from benchmarks.measuring import Measured, Timed, machine
from benchmarks.profiles import Profile

SHARDS_PER_WORKER: Final = 25  # of 200 in the first iteration of sd15-paper, on eight GPUs
_PROGRAM: Final = (
    "import sys, json; from benchmarks.sleeping import sleep_parent, deploy_sleep; deploy_sleep(int(sys.argv[4]));"
    "print('seconds', sleep_parent(sys.argv[1], json.loads(sys.argv[2]), float(sys.argv[3])))"
)


def scaling(profile: Profile, folder: Path) -> Measured:
    load: list[float] = []
    timed: list[Timed] = []
    for workers in profile.workers:
        load.append(os.getloadavg()[0])
        seconds = _with_workers(folder / f"workers-{workers}", workers, profile.slept)
        timed.append(Timed(name_of(workers), workers * SHARDS_PER_WORKER, 0.0, [seconds]))
        print(f"{name_of(workers)}: {seconds:.1f} s", file=sys.stderr, flush=True)
    alone = timed[0].seconds[0]
    facts = {f"efficiency, {each.name}": round(alone / each.seconds[0], 3) for each in timed}
    slept = SHARDS_PER_WORKER * profile.slept
    facts["share outside shard bodies, 1 worker"] = round((alone - slept) / alone, 3)
    facts["seconds of a shard"] = profile.slept
    return Measured("scaling", profile.name, "", "shard", timed, facts=facts, machine=machine("cpu"), load=load)


def name_of(workers: int) -> str:
    return f"{workers} worker{'s' * (workers > 1)}"


def _with_workers(root: Path, workers: int, slept: float) -> float:
    """Seconds that the shards of so many workers take them, each worker's own in one child flow run."""
    groups = [list(range(w * SHARDS_PER_WORKER, (w + 1) * SHARDS_PER_WORKER)) for w in range(workers)]
    with _served(root, workers) as environment:
        place = root / "shards"
        place.mkdir()
        words = [sys.executable, "-c", _PROGRAM, str(place), json.dumps(groups), str(slept), str(workers)]
        said = subprocess.run(words, env=environment, capture_output=True, text=True, check=True).stdout
    return float(said.rsplit("seconds", 1)[1])


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


if __name__ == "__main__":
    measure(scaling, __doc__)
