"""What became of an iteration's shards: their files, and the images that a flow run says it has made."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from spin.core.layout import RunsRoot, StageFolder
from spin.core.store import hash_file
from tests.live.serving import Server, wait

SHARDS = 3  # of TINY


@dataclass(frozen=True)
class Seen:
    """A file as it was found; a file that is made again is another one, even with the same bytes."""

    sha256: str
    modified_ns: int
    inode: int


def stage_of(root: Path, run: str) -> StageFolder:
    return RunsRoot(root).run(run).iteration(1)


def look(stage: StageFolder) -> dict[int, Seen]:
    paths = {shard: stage.samples(shard) for shard in range(SHARDS)}
    found = {shard: (path, path.stat()) for shard, path in paths.items() if path.exists()}
    return {shard: Seen(hash_file(path), stat.st_mtime_ns, stat.st_ino) for shard, (path, stat) in found.items()}


def sampled(server: Server, run: str, tasks: int) -> Counter[int]:
    """Images of each shard that a flow run made in all its executions, as the log lines of its `tasks` tasks tell."""
    lines: list[tuple[str, str]] = []

    def told() -> bool:  # the log follows the state
        lines[:] = re.findall(r"^k=1 shard (\d+)/\d+: (\d+) images", server.logs(run), re.MULTILINE)
        return len(lines) >= tasks

    wait(told, 60, lambda: f"{len(lines)} of {tasks} tasks told of their images")
    assert len(lines) == tasks
    found: Counter[int] = Counter()
    for shard, images in lines:
        found[int(shard)] += int(images)
    return +found  # without those that made none
