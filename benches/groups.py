"""Control groups: what processes use, also those that have ended without being waited for."""

import itertools
import os
import time
from pathlib import Path

TOP = Path("/sys/fs/cgroup")
NUMBERS = itertools.count()


class ControlGroup:
    """A control group of this program, of version 1 (one tree for each controller) or 2."""

    def __init__(self, controller):
        tree = TOP / controller
        self.folder = (tree if tree.is_dir() else TOP) / f"relais-bench-{os.getpid()}-{next(NUMBERS)}"
        self.folder.mkdir()

    def take(self, pid):
        """Moves a process into the group; its later children are in it too."""
        (self.folder / "cgroup.procs").write_text(str(pid))

    def join(self):
        """Moves the calling process into the group."""
        self.take(os.getpid())

    def processor_seconds(self):
        """Returns the processor time of all processes that are or were in the group."""
        usage = self.folder / "cpuacct.usage"
        if usage.exists():
            return int(usage.read_text()) / 1e9
        fields = dict(line.split() for line in (self.folder / "cpu.stat").read_text().splitlines())
        return int(fields["usage_usec"]) / 1e6

    def bytes(self):
        """Returns the memory of the processes, also the kernel's for their sockets."""
        names = ("memory.usage_in_bytes", "memory.current")
        return next(int(f.read_text()) for name in names if (f := self.folder / name).exists())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        # The kernel refuses to remove a group while its last process ends.
        for _ in range(100):
            try:
                self.folder.rmdir()
                return
            except OSError:
                time.sleep(0.1)
