"""Puts what was measured into words: Markdown that also reads well at a terminal."""

import os
import platform
import subprocess
import time
from pathlib import Path

from table import SCAUP

EXPLANATION = """\
One command measured everything on this page in one run: `tests/bench/run`. All programs use the same OpenSSH server on
loopback, whose files are in memory, over the same network path: a proxy that delays each byte by half of the round trip
time (RTT) in each direction, and that limits the bit rate where a row names a line. At RTT 0 there is no proxy, and
nothing counts the bytes. Each time is measured on a fresh mount; the figures are medians of {repetitions}. What took longer than
{limit:.0f} s was ended there (`>`), once. Times depend on the machine; round trips (time / RTT), messages (SFTP requests that
reach the server) and wire bytes hardly do. A goal in round trips allows a tenth of a round trip, each time, for the
machine's own work. A TCP handshake through the proxy takes no time, for all programs alike.

The `sftp` program copies a file that is not encrypted, over a connection that is already open. `rclone` runs with
`--vfs-cache-mode minimal`, so that closing a file waits for the server. `sshfs`, and `gocryptfs` on it, report content
as written when the server has it in memory; Scaup and `sftp put -f` wait for the server's disk. `sshfs` does not
encrypt what it stores.
"""


def machine():
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine())
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30)
    return f"{model}, {os.cpu_count()} cores, {memory:.0f} GiB of memory, Linux {platform.release()}"


def head(contenders, sizes, repetitions, limit):
    revision = subprocess.run(["git", "describe", "--always", "--dirty"], cwd=Path(__file__).parent, check=False,
                              stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout.strip()
    lines = ["# Benchmarks", "", EXPLANATION.format(repetitions=repetitions, limit=limit),
             f"- Date: {time.strftime('%Y-%m-%d')}", f"- Machine: {machine()}",
             f"- Scaup's source: {revision or 'not in git'}"]
    lines += [f"- {contender.name}: {contender.version()}" for contender in contenders]
    lines.append(
        f"- Sizes: a big file of {sizes.big_mib} MiB; a tree of {sizes.directories * sizes.files_each} files in "
        f"{sizes.directories} directories; a directory of {sizes.flat} files; {sizes.new} files made and {sizes.small} read, "
        f"of 4 KiB; {sizes.saves} saves; {sizes.random_reads} random reads, and a quarter of that by each of 16 readers")
    return "\n".join(lines) + "\n"


def judged(result):
    """Each goal of a row: its text, what was reached, and how that is called."""
    for goal in result.row.goals:
        try:
            reached, met = goal.judge(result)
            yield goal.text, reached, "met" if met else "**not met**"
        except LookupError as why:
            yield goal.text, str(why.args[0]), "**not shown**"


def goals(results):
    lines = ["## Goals", "", "| row | goal | reached | |", "|---|---|---|---|"]
    for result in results:
        lines += [f"| {result.row.key} | {text} | {reached} | {met} |" for text, reached, met in judged(result)]
    return "\n".join(lines) + "\n"


def row(result):
    title = f"{result.row.title}, {result.row.road}"
    lines = [f"### {result.row.key}: {title}", ""]
    steps = list(result.row.work.steps)
    rate, trips = result.row.volume is not None, result.row.road.rtt > 0
    columns = ["", "seconds", "× Scaup's"] + ["MB/s"] * rate + ["round trips"] * trips
    columns += ["messages", "MB received", "MB sent", "CPU s", "peak MiB"] + ["of it"] * own_figures(result)
    lines += [f"| {' | '.join(columns)} |", "|---|" + "---:|" * (len(columns) - 1)]
    failed = []
    for step in steps:
        for name, measured in result.of.items():
            if not isinstance(measured, dict):
                if step == steps[0]:
                    failed.append(f"{name} failed: {measured}")
                continue
            if step not in measured:
                continue
            cells = [f"{name}, {step}" if len(steps) > 1 else name] + figures(result, name, step, rate, trips)
            if own_figures(result):
                cells.append(", ".join(f"{what} {value:.3g}" for what, value in measured[step].figures.items()))
            lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *failed, *([""] if failed else [])]
    lines += [f"- {text}: {reached}, {met}" for text, reached, met in judged(result)]
    return "\n".join(lines) + "\n"


def own_figures(result):
    """Whether the work has measured something itself."""
    return any(step.figures for steps in result.of.values() if isinstance(steps, dict) for step in steps.values())


def figures(result, name, step, rate, trips):
    measured = result.of[name][step]
    over = "> " if measured.over else ""
    own = result.of.get(SCAUP)
    own = own[step] if isinstance(own, dict) and step in own else None
    times = f"{over}{measured.seconds / own.seconds:.2f}" if own and not own.over else "–"
    cells = [f"{over}{measured.seconds:.3f}", times]
    if rate:
        cells.append("–" if measured.over else f"{result.row.volume(result.sizes) / measured.seconds:.0f}")
    if trips:
        cells.append(f"{over}{result.round_trips(name, step):.1f}")
    cells.append(f"{measured.requests:.0f}")
    cells += ["–" if passed is None else f"{passed / 1e6:.2f}" for passed in (measured.received, measured.sent)]
    return cells + [f"{measured.cpu:.2f}", f"{measured.peak:.0f}"]
