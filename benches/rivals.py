"""What the benchmarks beside other servers share: processes, ports, rounds and ratios."""

import os
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
MIB = 1 << 20


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class NotStarted(Exception):
    """A server does not listen."""


def wait_for_port(name, process, port):
    until = time.monotonic() + 30
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise NotStarted(f"{name} does not start")


def descendants(pid):
    """Returns a process and all processes below it, without those that end meanwhile."""
    found = [pid]
    try:
        children = " ".join(file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/children"))
    except (FileNotFoundError, ProcessLookupError):
        children = ""
    for child in children.split():
        found += descendants(int(child))
    return found


def pss(pid):
    """Returns the proportional memory of a process tree, in KiB."""
    total = 0
    for one in descendants(pid):
        try:
            text = Path(f"/proc/{one}/smaps_rollup").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # It has ended.
        total += sum(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total


def processor(pid):
    """Returns the processor time of a process tree, in seconds."""
    ticks = 0
    for one in descendants(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def run(*words):
    subprocess.run([str(word) for word in words], check=True, stdout=subprocess.DEVNULL)


def timed(action):
    begun = time.monotonic()
    action()
    return time.monotonic() - begun


def write_random(path, mebibytes):
    with open(path, "wb") as file:
        for _ in range(mebibytes):
            file.write(os.urandom(MIB))


def warm_memory(work, mebibytes):
    """Fills memory and frees it again, so that the next file gets pages that the host backs.

    A virtual machine pays for the first use of a page, which takes longer than all work of a server.
    """
    path = work / "warm"
    block = bytes(MIB)
    with open(path, "wb", buffering=0) as file:
        for _ in range(mebibytes):
            file.write(block)
    path.unlink()


def wait_until_idle(process):
    """Waits until the slave has taken up and hashed the files, which it does after its start."""
    until = time.monotonic() + 300
    while time.monotonic() < until:
        before = processor(process.pid)
        time.sleep(2)
        if processor(process.pid) - before < 0.05:
            return
    sys.exit("the slave is not idle after its start")


def measure(servers, rows, rounds, root, work):
    """Prints each row: the servers' medians, and the ratio of the first one to the best rival."""
    print(f"{'':48}" + "".join(f"{server.name:>12}" for server in servers) + "   ratio to the best")
    for title, action in rows:
        results = {server.name: [] for server in servers}
        for turn in range(rounds + 1):
            first = turn % len(servers)
            for server in servers[first:] + servers[:first]:
                result = action(server, root, work)
                if turn > 0:
                    results[server.name].append(result)
        medians = {name: statistics.median(times) for name, times in results.items()}
        line = f"{title:48}" + "".join(f"{medians[server.name]:12.3f}" for server in servers)
        rivals = [server.name for server in servers[1:]]
        if rivals:
            best = min(rivals, key=medians.get)
            ratios = [ours / theirs for ours, theirs in zip(results[servers[0].name], results[best])]
            ratio = medians[servers[0].name] / medians[best]
            line += f"   {ratio:.2f} ({min(ratios):.2f} to {max(ratios):.2f}), {best}"
        print(line, flush=True)
