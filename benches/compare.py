"""Comparisons: cases that take turns, samples of time and processor time, medians and ratios."""

import resource
import shutil
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

# A row of which one run takes longer than this has three rounds instead of five.
LONG_RUN = 20


@dataclass
class Sample:
    """What one run took."""

    # The value that is compared: seconds, or the unit of the row.
    value: float
    # Processor seconds of the servers and of the clients.
    server: float | None = None
    client: float | None = None


@dataclass
class Case:
    """One way to do a row's work."""

    name: str
    # Does the work once and returns a Sample.
    run: callable
    # Checks what the run left, and removes it. Not measured.
    check: callable = lambda: None
    # Makes what the run needs. Not measured.
    prepare: callable = lambda: None


@dataclass
class Row:
    """A row of the table: the work, its limit, and what makes its cases."""

    number: str
    title: str
    # The most that Relais may need, as a ratio to the best rival.
    limit: float
    # Called with a Bench and an ExitStack; returns the cases, Relais first.
    cases: callable
    # The programs of other packages that the row needs: program and Debian package.
    needs: dict = field(default_factory=dict)
    unit: str = "s"
    # Whether `make bench` has it.
    quick: bool = False
    # Whether it also runs on a disk, and the limit there.
    disk_limit: float | None = None
    rounds: int = 5


@dataclass
class Result:
    """The samples of a row."""

    row: Row
    samples: dict
    place: str = "tmpfs"

    def median(self, name, of="value"):
        values = [getattr(sample, of) for sample in self.samples[name]]
        return None if None in values else statistics.median(values)

    def best_rival(self):
        return min(list(self.samples)[1:], key=self.median)

    def ratios(self):
        """Returns the ratio of the medians, the smallest and the largest ratio of a round."""
        ours, best = next(iter(self.samples)), self.best_rival()
        each = [a.value / b.value for a, b in zip(self.samples[ours], self.samples[best])]
        return self.median(ours) / self.median(best), min(each), max(each)

    def limit(self):
        return self.row.limit if self.place == "tmpfs" else self.row.disk_limit

    def lines(self):
        """Returns the row as lines of a Markdown table, one for each case."""
        ratio, least, most = self.ratios()
        verdict = "" if ratio <= self.limit() else ", **missed**"
        for position, name in enumerate(self.samples):
            cells = [self.row.number, f"{self.row.title} ({self.place})"] if position == 0 else ["", ""]
            cells += [name, f"{self.median(name):.3f} {self.row.unit}"]
            cells += [show(self.median(name, "server")), show(self.median(name, "client"))]
            if position == 0:
                cells.append(f"{ratio:.2f} ({least:.2f} to {most:.2f}), at most {self.limit()}{verdict}")
            else:
                cells.append("best" if name == self.best_rival() else "")
            yield "| " + " | ".join(cells) + " |"


HEADER = [
    "| row | work | with | median | server CPU s | client CPU s | ratio (spread), limit |",
    "|---|---|---|---|---|---|---|",
]


def show(number):
    return "" if number is None else f"{number:.2f}"


def run_row(row, bench):
    """Runs a row; a round before the others is not counted."""
    with ExitStack() as stack:
        cases = row.cases(bench, stack)
        samples, rounds, turn = {case.name: [] for case in cases}, row.rounds, 0
        while turn <= rounds:
            first = turn % len(cases)
            for case in cases[first:] + cases[:first]:
                case.prepare()
                sample = case.run()
                case.check()
                if turn > 0:
                    samples[case.name].append(sample)
                elif row.unit == "s" and sample.value > LONG_RUN:
                    rounds = min(rounds, 3)
            turn += 1
        return Result(row, samples, bench.place)


def processor_time(servers):
    """Returns the processor seconds of servers."""
    return sum(server.processor_time() for server in servers)


def client_time():
    """Returns the processor seconds of all children that have ended and were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measured(servers, *commands, **options):
    """Runs commands at the same time; returns their common Sample."""
    server, client, begun = processor_time(servers), client_time(), time.monotonic()
    running = [
        subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL, **options)
        for command in commands
    ]
    statuses = [process.wait() for process in running]
    seconds = time.monotonic() - begun
    if any(statuses):
        failed = commands[next(i for i, status in enumerate(statuses) if status)]
        raise SystemExit(f"failed: {' '.join(str(word) for word in failed)}")
    return Sample(seconds, processor_time(servers) - server, client_time() - client)


def same_file(wanted, got):
    """Compares two files, and removes the second."""
    subprocess.run(["cmp", str(wanted), str(got)], check=True)
    Path(got).unlink()


def same_tree(wanted, got):
    """Compares two folders by names and contents, and removes the second."""
    subprocess.run(["diff", "-r", str(wanted), str(got)], check=True)
    shutil.rmtree(got)
