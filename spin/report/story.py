"""The run's story on one page of Markdown, for the page of its artifact in the Prefect UI and for a person there."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any, Final

from spin.core.approximation import Approximation
from spin.core.errors import ConfigError
from spin.core.gate import AUTO, Evidence, best, judge
from spin.report import figures
from spin.report.advice import advise
from spin.report.alarm import alarms
from spin.report.figures import difference, level, outcome, told
from spin.report.markdown import bullets, code, escape, section, table
from spin.report.provenance import prompt_count, protocol, time_shares, time_spent
from spin.report.reading import Run
from spin.report.request import Cell, Column, Comparison, ScoreRow
from spin.report.safety import looked_at
from spin.report.scoring import convergence
from spin.report.stages import StageState, stage_states
from spin.report.subjects import DENOISING
from spin.report.verdict import OPPONENTS, Pick

BETTER: Final = "\N{BLACK UP-POINTING TRIANGLE}"
WORSE: Final = "\N{BLACK DOWN-POINTING TRIANGLE}"
_MARKS: Final = {"better": f" {BETTER}", "worse": f" {WORSE}", "same": ""}
_LEGEND: Final = f"Paired over prompts, with 95 % intervals per metric, unadjusted; {BETTER} better, {WORSE} worse."
ITERATION_HEADER: Final = ("iterations", "beta", "lr", "steps", "pairs a step", "pairs read")
_LOSS_WORDS: Final = {"better": "falls", "worse": "rises", "same": figures.INDISTINCT}


def tell(*, run: Run, rows: Sequence[ScoreRow], evidence: Sequence[Evidence], verdict: str) -> str:
    """Markdown; what is not known yet is left out."""
    states = stage_states(run)
    parts = [
        f"# Run {escape(run.name)}",
        _progress(run, states),
        escape(verdict),
        bullets([f"Left out: {escape(notice)}" for notice in run.notices]),
        _alarm(rows),
        _scores(run, rows),
        _held_out(run, rows),
        _gate(run, evidence),
        _config(run),
        _data(run),
        _safety(run),
        _files(run),
        _commands(run),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _progress(run: Run, states: Sequence[StageState]) -> str:
    done, left = [state for state in states if state.done], [state for state in states if not state.done]
    stopped = run.record.get("stopped") or {}
    labels = {state.name: state.label for state in states}
    if stopped:
        word = f"Stopped by the gate after {escape(labels.get(stopped['after'], stopped['after']))}."
    else:
        word = "Finished." if done and not left else "Under way." if done else "Begun."
    lines = [f"**{word}** {len(done)} of {len(states)} stages are done{_named(done)}."]
    if stopped:
        lines.append(f"The best model is {escape(labels.get(stopped['best'], stopped['best']))}.")
    elif left:
        lines.append(f"Next: {escape(left[0].label)}, {escape(left[0].state)}.")
    spent = time_spent(run)
    if sum(row.seconds for row in spent) > 0:
        shares = ", ".join(f"{kind} {figures.share(part)}" for kind, _, part in time_shares(spent))
        lines.append(f"Time spent: {figures.duration(sum(row.seconds for row in spent))} ({shares}).")
    return " ".join(lines)


def _named(states: Sequence[StageState]) -> str:
    return f" ({', '.join(escape(state.label) for state in states)})" if states else ""


def _scores(run: Run, rows: Sequence[ScoreRow]) -> str:
    columns = [cell.column for cell in rows[0].cells if cell.column.kind != "average"] if rows else []
    if not columns:
        return ""
    header = ["model", *(escape(column.title) + (" (lower)" if column.lower_is_better else "") for column in columns)]
    means = [[escape(row.label), *(_mean(cell) for cell in row.cells if cell.column in columns)] for row in rows]
    count, how = prompt_count(run), protocol(run)
    said = f"Means over {count} held-out prompts" if count else "Held-out rows"
    said += (f" ({escape(how)})" if how else "") + "; the best of each column is bold."
    compared = [_differences(rows, opponent, pick) for opponent, pick in OPPONENTS]
    legend = _LEGEND if any(compared) else ""
    return section("Iterations", said, table(header, means), *compared, legend, _reach(rows))


def _alarm(rows: Sequence[ScoreRow]) -> str:
    """Where a judge may have been won without better pictures."""
    return section("Reward-hacking alarm", bullets([escape(alarm.whole) for alarm in alarms(rows)]))


def _reach(rows: Sequence[ScoreRow]) -> str:
    """Prompts won, and what their number can show, for the last model."""
    pair, lines = advise(rows)
    shown = [escape(line.sentence) for line in lines]
    return f"{escape(pair)}, by judge (win rates with Wilson's interval):\n\n{bullets(shown)}" if shown else ""


def _mean(cell: Cell) -> str:
    shown = level(cell.column, cell.mean.value if cell.mean else None)
    return f"**{shown}**" if cell.best else shown


def _differences(rows: Sequence[ScoreRow], opponent: str, pick: Pick) -> str:
    """A row per model, a column per judge; the held-out loss has a section of its own."""
    lines, titles = [], []
    for row in rows:
        found = [(cell.column, pick(row, cell)) for cell in row.cells]
        judged = [(column, comparison) for column, comparison in found if column.kind == "judge"]
        other = next((comparison.opponent for _, comparison in judged if comparison is not None), None)
        if other is not None:
            titles = [escape(column.title) for column, _ in judged]
            lines.append([escape(f"{row.label} minus {other}"), *(_shown(*pair) for pair in judged)])
    return table([f"against {opponent}", *titles], lines) if lines else ""


def _shown(column: Column, comparison: Comparison | None) -> str:
    if comparison is None:
        return figures.NOTHING
    return told(column, comparison) + _MARKS[outcome(column, comparison)]


def _held_out(run: Run, rows: Sequence[ScoreRow]) -> str:
    """The paper's own criterion, which needs no judge."""
    cells = rows[0].cells if rows else ()
    column = next((cell.column for cell in cells if cell.column.metric == DENOISING), None)
    lines = []
    for stage in run.stages if column is not None else ():
        found = convergence(run, stage)
        if found is not None and column is not None:
            opponent, theirs, compared = found
            fine = replace(column, digits=column.digits + 2)  # models differ by a hundredth of their loss
            mine, change = level(fine, theirs + compared.difference.value), difference(fine, compared.difference)
            word = _LOSS_WORDS[outcome(column, compared)]
            lines.append([escape(stage.label), mine, f"{level(fine, theirs)} ({escape(opponent)})", change, word])
    header = ["model", "loss", "of the model before", "change", ""]
    return section("Held-out denoising loss", table(header, lines) if lines else "")


def _gate(run: Run, evidence: Sequence[Evidence]) -> str:
    """What the rules say of each model, and what was decided."""
    settings = _settings(run, "gate")
    metric = str(settings.get("metric", AUTO))
    decided = {stage["name"]: stage["gate"] for stage in run.record.get("stages") or [] if stage.get("gate")}
    try:
        verdicts = [(shown, judge(shown, metric)) for shown in evidence]
        champion = best(evidence, metric) if evidence else ""
    except ConfigError as error:
        return section("Gate", escape(str(error)))
    if not verdicts:
        return ""
    lines = []
    for shown, verdict in verdicts:
        line = f"{escape(shown.label)}: the rules say **{verdict.decision}**. {escape(' '.join(verdict.reasons))}"
        made = decided.get(shown.stage)
        lines.append(line + (f" Decided by {escape(made['by'])}: **{made['decision']}**." if made else ""))
    labels = {stage.name: stage.label for stage in run.stages}
    note = f"By these rules the best model so far is **{escape(labels[champion])}**."
    off = "The gate is off; this is what its rules would say." if settings.get("mode", "off") == "off" else ""
    return section("Gate", off, bullets(lines), note)


def _config(run: Run) -> str:
    facts, sft, sampling = [], _settings(run, "sft"), _settings(run, "sampling")
    if run.record.get("base"):
        facts.append(f"base model {code(_base(run))}, digest {code(str(run.record['base'].get('digest'))[:12])}")
    facts.append(f"seed {run.record.get('seed')}, config {code(str(run.record.get('config_hash')))}")
    if sft.get("steps"):
        facts.append(
            f"SFT first: {figures.count(sft['steps'])} steps of {sft.get('batch_size')} images, lr {sft.get('lr')}"
        )
    if "guidance_scale" in sampling:
        steps, guidance = sampling.get("num_inference_steps"), sampling["guidance_scale"]
        facts.append(f"the opponent draws in {steps} steps at guidance {guidance:g}{_left_out(sampling)}")
    lines = list(iteration_lines(run))
    return section("Config", bullets(facts), table(ITERATION_HEADER, lines) if lines else "")


def _left_out(sampling: Mapping[str, Any]) -> str:
    """What its sampling leaves out, in words; records may be older than these settings."""
    interval = sampling.get("guidance_interval")
    found = Approximation(None if interval is None else (interval[0], interval[1]), sampling.get("reuse_every", 1))
    return f", approximated: {found}" if found.settings else ""


def iteration_lines(run: Run) -> Iterator[list[str]]:
    """Neighbours with equal settings share a line."""
    train, asked = _settings(run, "train"), (run.record.get("config") or {}).get("iterations")
    if not isinstance(asked, int) or not {"beta", "lr", "steps"} <= train.keys():
        return
    pairs = train.get("batch_size")
    settings = {
        number: tuple(_at(train[key], number) for key in ("beta", "lr", "steps")) for number in range(1, asked + 1)
    }
    for (beta, lr, steps), group in groupby(settings, key=settings.__getitem__):
        numbers = list(group)
        span = f"{numbers[0]} to {numbers[-1]}" if len(numbers) > 1 else f"{numbers[0]}"
        read = figures.count(steps * pairs) if isinstance(pairs, int) else figures.NOTHING
        yield [span, f"{beta:g}", f"{lr:g}", figures.count(steps), str(pairs or figures.NOTHING), read]


def _at(value: Any, number: int) -> Any:
    """One value for all iterations, or the list's."""
    return value[number - 1] if isinstance(value, list | tuple) else value


def _data(run: Run) -> str:
    settings, counts, away = _settings(run, "data"), run.record.get("prompts"), run.record.get("quarantined") or {}
    if counts is None:
        return section("Data", "Not prepared yet.")
    where = code(str(settings["path"])) if settings.get("path") else f"target {escape(str(settings.get('target')))}"
    facts = [f"source: {escape(str(settings.get('source')))}, {where}"]
    facts.append(", ".join(f"{figures.count(count)} {escape(split)} rows" for split, count in counts.items()))
    why = ", ".join(f"{escape(reason)}: {count}" for reason, count in away.items())
    facts.append(f"set aside in quarantine: {figures.count(sum(away.values()))}" + (f" ({why})" if why else ""))
    if dropped := run.record.get("dropped"):
        rules = ", ".join(f"{escape(rule)}: {figures.count(count)}" for rule, count in dropped.items())
        facts.append(f"left out by rule, not bad: {rules}")
    if buckets := run.record.get("buckets"):
        sizes = ", ".join(f"{escape(size)}: {figures.count(count)}" for size, count in buckets.items())
        facts.append(f"train rows by height and width in pixels: {sizes}")
    return section("Data", bullets(facts))


def _safety(run: Run) -> str:
    lines = [escape(looked.sentence) for looked in looked_at(run)]
    return section("Safety", bullets(lines)) if lines else ""


def _files(run: Run) -> str:
    folder, root = run.folder, run.folder.root.path
    made = [(stage.get("label") or stage["name"], stage.get("checkpoint")) for stage in run.record.get("stages") or []]
    lines = [f"{escape(str(label))}: {code(str(root / path))}" for label, path in made if path]
    known = [("report", folder.report), ("contact sheet", folder.contact_sheet), ("record", folder.record)]
    lines += [f"{name}: {code(str(path))}" for name, path in known if path.exists()]
    return section("Files", bullets(lines))


def _commands(run: Run) -> str:
    """What a person would type next; absolute paths, as nobody knows where they stand."""
    played = [int(stage.name[-2:]) for stage in run.stages if stage.plays]
    shard = [("make one shard again", ("sample-shard", run.folder.path.name, str(played[-1]), "0"))] if played else []
    commands = [
        ("what stands", ("status", run.folder.path.name)),
        ("the whole report", ("report", run.folder.path.name)),
        *shard,
    ]
    root = ("--root", str(run.folder.root.path))
    lines = [f"{meaning}: {code(shlex.join(('spin-diffusion', *words, *root)))}" for meaning, words in commands]
    again = "go on, or do it again: the run's own command, or a run of the same name in the UI; what stands is kept"
    return section("Next", bullets([*lines, again]))


def _base(run: Run) -> str:
    return str(_settings(run, "model").get("base") or run.record["base"].get("path"))


def _settings(run: Run, name: str) -> Mapping[str, Any]:
    return (run.record.get("config") or {}).get(name) or {}
