"""Hosts on one machine: network namespaces, joined by a switch with delays and rates."""

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rivals import NotStarted

HERE = Path(__file__).resolve().parent
NEEDS = {"ip": "iproute2", "cc": "gcc"}


@dataclass(frozen=True)
class Host:
    """A namespace with one address."""

    name: str
    address: str

    def run(self, *command):
        """Returns the command line that runs a command on this host."""
        return ["ip", "netns", "exec", self.name, *command]


class Network:
    """Hosts with limits: pairs of a delay in ms, one way, and a rate in Mbit/s, 0 for no limit.

    Between two hosts the delays of both add up.
    """

    def __init__(self, work, limits):
        work.mkdir(parents=True)
        program, prefix = work / "switch", f"relais-{os.getpid()}-"
        subprocess.run(["cc", "-O2", "-o", program, HERE / "switch.c"], check=True)
        self.hosts = [Host(f"{prefix}{n}", f"10.89.0.{n}") for n in range(1, len(limits) + 1)]
        specs = [f"{delay},{rate}" for delay, rate in limits]
        self.switch = subprocess.Popen(
            [str(program), prefix, *specs], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if self.switch.stdout.readline() != "ready\n":
            raise NotStarted("the switch between the hosts does not start")

    def __enter__(self):
        return self.hosts

    def __exit__(self, *_):
        self.switch.stdin.close()
        self.switch.wait(20)
