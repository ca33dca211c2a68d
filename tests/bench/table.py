"""What is measured, and what Scaup has to reach."""

from dataclasses import dataclass
from typing import Callable

import work
from server import Road

SCAUP, SSHFS, GOCRYPTFS, RCLONE, SFTP = "scaup", "sshfs", "gocryptfs on sshfs", "rclone crypt", "sftp"
MOUNTS = (SCAUP, SSHFS, GOCRYPTFS, RCLONE)
RIVALS = MOUNTS[1:]

# A goal in round trips forgives so much of one for the machine's own time, each time.
OWN_TIME = 0.1
# What a chunk of 32 KiB takes in a vault, bytes.
STORED_CHUNK = 32768 + 28
# Scaup's default --memory, MiB, and what it may take beyond.
MEMORY, BEYOND, IDLE = 128, 40, 30


@dataclass(frozen=True)
class Goal:
    text: str
    judge: Callable  # of a Result: what was reached, as text, and whether that is enough


@dataclass(frozen=True)
class Row:
    key: str
    title: str
    work: work.Work
    road: Road
    goals: tuple
    contenders: tuple = MOUNTS
    volume: Callable | None = None  # MB that pass, by the sizes: the report shows the rate


class Result:
    """What was measured in a row, by contender and step; a contender that failed has a sentence instead."""

    def __init__(self, row, sizes):
        self.row, self.sizes, self.of = row, sizes, {}

    def steps(self, contender):
        steps = self.of.get(contender)
        if not isinstance(steps, dict):
            raise LookupError(f"{contender} was not measured")
        return steps

    def step(self, contender, name):
        if name not in self.steps(contender):
            raise LookupError(f"{contender} did not come to {name}")
        return self.steps(contender)[name]

    def own(self, name):
        """Scaup's step, which must have come to its end."""
        step = self.step(SCAUP, name)
        if step.over:
            raise LookupError("ended at the limit")
        return step

    def round_trips(self, contender, name):
        return self.step(contender, name).seconds / (self.row.road.rtt / 1e3)


def times_faster(factor, than, step):
    """Than one, or than the fastest of several. What was ended at the limit would have taken longer still."""
    than = (than,) if isinstance(than, str) else than
    name = than[0] if len(than) == 1 else "the fastest of the others"

    def judge(result):
        rivals = [result.step(rival, step) for rival in than if isinstance(result.of.get(rival), dict)]
        if not rivals:
            raise LookupError(f"{name} was not measured")
        best = min(rivals, key=lambda rival: rival.seconds)
        reached = best.seconds / result.own(step).seconds
        return f"{'over ' if best.over else ''}{reached:.2f} times", reached >= factor

    return Goal(f"{step}: at least {factor} times as fast as {name}", judge)


def share_of_line(share, step):
    def judge(result):
        rate = result.row.volume(result.sizes) / result.own(step).seconds
        reached = rate / (result.row.road.mbit / 8)
        return f"{reached:.3f}", reached >= share

    return Goal(f"{step}: at least {share} of the line", judge)


def round_trips(most, step, figure=None, per=lambda sizes: 1):
    """The step's time, or that of a figure of its, in round trips, each of so many."""
    def judge(result):
        own = result.own(step)
        seconds = own.figures[figure] if figure else own.seconds
        reached = seconds / (result.row.road.rtt / 1e3) / per(result.sizes)
        return f"{reached:.2f}", reached <= most + OWN_TIME

    trips = "round trip" if most == 1 else "round trips"
    return Goal(f"{figure or step}: at most {most} {trips}{' each' if per(work.Sizes()) > 1 else ''}", judge)


def no_messages(step):
    def judge(result):
        requests = result.own(step).requests
        return f"{requests}", requests == 0

    return Goal(f"{step}: no message", judge)


def bytes_per_read(most, step):
    def judge(result):
        own = result.own(step)
        reached = own.received / own.figures["reads"] / STORED_CHUNK
        return f"{reached:.3f}", reached <= most

    return Goal(f"{step}: at most {most} times the chunks' bytes on the wire", judge)


def scales(factor, one, many):
    def judge(result):
        rates = [result.own(step).figures["reads"] / result.own(step).seconds for step in (one, many)]
        reached = rates[1] / rates[0]
        return f"{reached:.1f} times", reached >= factor

    return Goal(f"{many}: at least {factor} times the reads a second of {one}", judge)


def p95_during_copy(most):
    def judge(result):
        reached = result.own("copy and look").figures["p95"] / (result.row.road.rtt / 1e3)
        return f"{reached:.2f}", reached < most

    return Goal(f"a look during the copy: below {most} round trips at the 95th percentile", judge)


def copy_loses(share):
    def judge(result):
        reached = 1 - result.own("copy").seconds / result.own("copy and look").figures["copied"]
        return f"{reached:.3f}", reached < share

    return Goal(f"the copy loses less than {share}", judge)


def no_more_round_trips_than(rival, beyond, step):
    def judge(result):
        own, other = result.round_trips(SCAUP, step), result.round_trips(rival, step)
        return f"{own:.1f}, {rival} {other:.1f}", own <= other + beyond + OWN_TIME

    return Goal(f"{step}: at most {beyond} round trips more than {rival}", judge)


def memory(field, step, most):
    def judge(result):
        reached = getattr(result.own(step), field)
        return f"{reached:.1f} MiB", reached <= most

    return Goal(f"{step}: at most {most} MiB", judge)


def cpu_per_gb(most, step):
    def judge(result):
        reached = result.own(step).cpu / (result.row.volume(result.sizes) / 1e3)
        return f"{reached:.2f} s", reached <= most

    return Goal(f"{step}: at most {most} s of CPU for each GB", judge)


def less_cpu_than(rival, step):
    def judge(result):
        own, other = result.own(step).cpu, result.step(rival, step).cpu
        return f"{own:.2f} s, {rival} {other:.2f} s", own < other

    return Goal(f"{step}: less CPU than {rival} together", judge)


def big(sizes):
    return sizes.big_mib * (1 << 20) / 1e6


WITH_SFTP = (*MOUNTS, SFTP)
NEAR, ROAD, FAR = Road(), Road(20), Road(80)
LINE = Road(80, 100)

READING, WRITING = "Sequential read of a big file", "Sequential write of a big file, and fsync"

ROWS = (
    Row("read", READING, work.READ, NEAR, (
        times_faster(0.9, SFTP, "read"), times_faster(2, GOCRYPTFS, "read"), cpu_per_gb(2.0, "read"),
        less_cpu_than(GOCRYPTFS, "read")), WITH_SFTP, big),
    Row("read-20", READING, work.READ, ROAD, (times_faster(2, RCLONE, "read"),), WITH_SFTP, big),
    Row("read-80", READING, work.READ, FAR, (times_faster(5, SFTP, "read"),), WITH_SFTP, big),
    Row("read-line", READING, work.READ, LINE, (share_of_line(0.95, "read"),), WITH_SFTP, big),
    Row("write", WRITING, work.WRITE, NEAR, (times_faster(0.9, SFTP, "write"),), WITH_SFTP, big),
    Row("write-80", WRITING, work.WRITE, FAR, (times_faster(3, SFTP, "write"),), WITH_SFTP, big),
    Row("write-line", WRITING, work.WRITE, LINE, (share_of_line(0.9, "write"),), WITH_SFTP, big),
    Row("random", "Random reads of 4 KiB in a big file", work.RANDOM, FAR, (
        round_trips(1, "one reader", per=lambda sizes: sizes.random_reads),
        bytes_per_read(1.15, "one reader"), scales(12, "one reader", "16 readers"))),
    Row("first-byte", "The first and the last 4 KiB of a big file", work.FIRST, FAR, (
        round_trips(2, "first and last", "first"), round_trips(1, "first and last", "last"))),
    Row("tree", "`ls -lR` of a tree", work.TREE, FAR, (
        round_trips(15, "cold"), times_faster(20, GOCRYPTFS, "cold"), no_messages("warm"))),
    Row("flat", "`ls -l` of one large directory", work.FLAT, FAR, (round_trips(6, "cold"),)),
    Row("create", "Making many small files (`cp -r`), until they are on the server", work.CREATE, FAR, (
        times_faster(10, RIVALS, "create"),)),
    Row("save", "Saving as editors do: write beside, fsync, rename over", work.SAVE, FAR, (
        round_trips(6, "save", per=lambda sizes: sizes.saves),)),
    Row("git", "`git status` in a small clone", work.GIT, FAR, (times_faster(5, RIVALS, "status"),)),
    Row("remove", "`rm -rf` of a tree", work.REMOVE, FAR, (times_faster(5, RIVALS, "remove"),)),
    Row("small", "Reading many small files", work.SMALL, FAR, (times_faster(5, RIVALS, "read"),)),
    Row("look", "Looking at a file during a copy of a big one", work.LOOK, Road(40, 100), (
        p95_during_copy(2.5), copy_loses(0.1)), (SCAUP, SSHFS), big),
    Row("mount", "Mounting, until the first `ls` is answered", work.MOUNT, FAR, (
        no_more_round_trips_than(SSHFS, 3, "mount"),)),
    Row("memory", "Memory: after a second of nothing, and after reading, writing, listing", work.MEMORY, NEAR, (
        memory("memory", "idle", IDLE), memory("peak", "busy", MEMORY + BEYOND))),
)
