"""Measures one work with one contender: again and again, each time on a fresh mount, none longer than it may."""

import json
import os
import select
import signal
import statistics
import time
from dataclasses import dataclass, field

from server import Road

# Between mounting and measuring, and until the last messages are counted.
PAUSE = 0.5
# How long may take what is not measured, seconds.
ASIDE_LIMIT = 600


@dataclass
class Measured:
    """A step. Bytes and requests are `None` where nothing counts them."""

    seconds: float
    cpu: float
    memory: float  # MiB at the end
    peak: float  # MiB since it was mounted
    sent: int | None
    received: int | None
    requests: int | None
    over: bool = False  # it was ended at the limit
    figures: dict = field(default_factory=dict)  # what the step itself has measured


class Failed(Exception):
    """A step did not do what it should."""


def limited(body, limit):
    """Runs `body` in a process of its own for at most `limit` seconds.

    Answers the time it took, and its figures if it came to an end.
    """
    reader, writer = os.pipe()
    began = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        try:
            began = time.perf_counter()
            figures = body() or {}
            answer = {"seconds": time.perf_counter() - began, "figures": figures}
        except BaseException as error:  # whatever it is, the parent has to hear of it
            answer = {"error": f"{type(error).__name__}: {error}"}
        os.write(writer, json.dumps(answer).encode())
        os._exit(0)
    os.close(writer)
    answer = None
    try:
        ended, _, _ = select.select([reader], [], [], limit)
        took = time.perf_counter() - began
        answer = json.loads(os.read(reader, 1 << 16)) if ended else None
    finally:
        os.close(reader)
        if answer is None:
            # With all that it has started; what came to its end may have left a mount.
            os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    if answer is None:
        return took, None
    if "error" in answer:
        raise Failed(answer["error"])
    return answer["seconds"], answer["figures"]


class Bench:
    """The server and the data that all contenders work with."""

    def __init__(self, server, data, limit):
        self.server, self.data, self.limit = server, data, limit
        self.prepared, self.filled = set(), set()

    def on_a_mount(self, contender, body, road=Road(), believing=True):
        port = self.server.lay(road)
        try:
            contender.mount(port, believing)
            return body()
        finally:
            # What waits to be sent needs no delay any more.
            self.server.lay(Road())
            contender.unmount()

    def fill(self, contender, work):
        """Has the contender bring the data to the server that the work needs there."""
        for name in (*work.there, *work.here):
            self.data.make(name)
        if contender.name not in self.prepared:
            contender.prepare()
            self.prepared.add(contender.name)
        for name in work.there:
            if (contender.root, name) not in self.filled:
                self.aside(contender, lambda contender, data, name=name: contender.bring(data.directory / name, name))
                self.filled.add((contender.root, name))

    def aside(self, contender, body):
        """Does what is not measured, over no road, on a mount of its own."""
        _, figures = self.on_a_mount(contender, lambda: limited(lambda: body(contender, self.data), ASIDE_LIMIT))
        if figures is None:
            raise Failed(f"preparing it takes longer than {ASIDE_LIMIT} s")

    def step(self, contender, road, body):
        time.sleep(PAUSE)
        counts, cpu = self.server.counts(), contender.cpu()
        seconds, figures = limited(body, self.limit)
        time.sleep(PAUSE)
        passed = self.server.counts().since(counts)
        return Measured(seconds=seconds, cpu=contender.cpu() - cpu,
                        memory=contender.memory("VmRSS:"), peak=contender.memory("VmHWM:"),
                        sent=None if road.is_direct else passed.sent,
                        received=None if road.is_direct else passed.received,
                        requests=passed.requests, over=figures is None, figures=figures or {})

    def once(self, contender, work, road):
        """Does the work once; answers each step."""
        def all_of(steps):
            for name, body in steps.items():
                measured[name] = self.step(contender, road, lambda: body(contender, self.data))

        def mount_and(body):
            contender.mount(port)
            return body(contender, self.data)

        measured = {}
        if work.prepare:
            self.aside(contender, work.prepare)
        if work.mounts:
            port = self.server.lay(road)
            for name, body in work.steps.items():
                try:
                    measured[name] = self.step(contender, road, lambda: mount_and(body))
                finally:
                    self.server.lay(Road())
                    contender.unmount()
        elif work.apart:
            for name, body in work.steps.items():
                self.on_a_mount(contender, lambda: all_of({name: body}), road, work.believing)
        else:
            self.on_a_mount(contender, lambda: all_of(work.steps), road, work.believing)
        if work.clean:
            self.aside(contender, work.clean)
        return measured

    def median(self, contender, work, road, repetitions):
        """Does the work several times; answers the median of each step's figures. What took too long is not tried again."""
        self.fill(contender, work)
        all_times = []
        for _ in range(repetitions):
            all_times.append(self.once(contender, work, road))
            if any(step.over for step in all_times[-1].values()):
                return all_times[-1]
        return {name: middle([once[name] for once in all_times]) for name in all_times[0]}


def middle(steps):
    def of(values):
        values = list(values)
        return None if None in values else statistics.median(values)

    fields = ("seconds", "cpu", "memory", "peak", "sent", "received", "requests")
    figures = {name: of(step.figures[name] for step in steps) for name in steps[0].figures}
    return Measured(**{name: of(getattr(step, name) for step in steps) for name in fields}, figures=figures)
