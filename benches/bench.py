#!/usr/bin/env python3
"""Compares Relais with other servers and tools, row by row.

    benches/bench.py [--full] [--only ROW]... [--disk FOLDER] [--growth] [--write FILE]

It needs root, the release build (`make`), and the Debian packages that it names if they are missing;
rows that need them are skipped. The cases of a row take turns, one round is not counted, and the
medians of five rounds are compared (three if a run takes over 20 s). Contents are compared byte for
byte. Relais verifies every transfer and syncs what it stores. The ratio is to the best rival, with
its smallest and largest value in a round. A busy machine changes the ratios: run it on a quiet one.
"""

import argparse
import datetime
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import rows_files
import rows_network
import rows_sessions
import rows_transfers
from compare import HEADER, Row, measured, run_row
from servers import PROGRAMS

ROWS = sorted(
    rows_transfers.ROWS + rows_files.ROWS + rows_sessions.ROWS + rows_network.ROWS,
    key=lambda row: (int("".join(filter(str.isdigit, row.number))), row.number),
)
# Numbers of the rows that did not come to an end.
FAILED = []


class Bench:
    """Where rows work, and how large they are."""

    def __init__(self, work, place, scale=1.0):
        self.work, self.place, self.scale, self.made = work, place, scale, 0

    def fresh(self, name):
        """Returns a path of its own, which does not exist."""
        self.made += 1
        return self.work / f"{self.made:03}-{name}"

    def count(self, files):
        return max(1, int(files * self.scale))

    def size(self, mebibytes):
        return max(1, int(mebibytes * self.scale))

    def synced(self, server, *command):
        """Runs a command; on a disk a sync of the file system follows and is measured with it."""
        if self.place == "tmpfs":
            return measured([server] if server else [], command)
        script = 'where=$1; shift; "$@" && sync -f "$where"'
        return measured([server] if server else [], ["sh", "-c", script, "sh", self.work, *command])

    def linked(self, file):
        """Returns a folder of its own with a hard link to this file."""
        folder = self.fresh("linked")
        folder.mkdir()
        os.link(file, folder / file.name)
        return folder

    def clear(self):
        for left in self.work.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()


def missing_packages(row):
    paths = os.environ["PATH"] + ":/usr/sbin:/sbin"
    return sorted(package for program, package in row.needs.items() if not shutil.which(program, path=paths))


def run_rows(rows, folder, place, scale=1.0):
    """Runs rows and yields their results; rows without their rivals are named and skipped."""
    with tempfile.TemporaryDirectory(prefix="relais-bench.", dir=folder) as work:
        Path(work).chmod(0o755)
        bench = Bench(Path(work), place, scale)
        for row in rows:
            if missing := missing_packages(row):
                print(f"row {row.number} is skipped; it needs: apt-get install {' '.join(missing)}")
                continue
            try:
                yield run_row(row, bench)
            except (Exception, SystemExit) as failure:
                FAILED.append(row.number)
                print(f"row {row.number} failed: {failure or type(failure).__name__}", flush=True)
            bench.clear()


def about():
    version = subprocess.run([PROGRAMS / "ftpmaster", "--version"], capture_output=True, text=True)
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    today, cores = datetime.date.today().isoformat(), os.cpu_count()
    return f"{version.stdout.strip()}, commit {commit.stdout.strip()}, {today}, {cores} processors"


def growth(write):
    """Runs the rows of growth at three sizes; prints the cost of a file relative to the middle one."""
    write("| row | work | files x 0.1 | x 1 | x 10 | cost per file, x 10 to x 1 |")
    write("|---|---|---|---|---|---|")
    for row in rows_files.GROWTH.values():
        seconds = []
        for scale in 0.1, 1, 10:
            for result in run_rows([row], "/dev/shm", "tmpfs", scale):
                seconds.append(result.median("Relais"))
        if len(seconds) == 3:
            ratio = seconds[2] / seconds[1] / 10
            cells = " | ".join(f"{each:.3f} s" for each in seconds)
            write(f"| {row.number} | {row.title} | {cells} | {ratio:.2f}, at most 1.2 |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--full", action="store_true", help="all rows, not only the subset of `make bench`")
    parser.add_argument("--only", action="append", metavar="ROW", help="only this row; can be repeated")
    parser.add_argument("--disk", metavar="FOLDER", help="also run the rows of files in this folder, on a disk")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies sizes and numbers of files")
    parser.add_argument("--growth", action="store_true", help="run the rows of growth at three sizes instead")
    parser.add_argument("--write", metavar="FILE", help="also write the table to this file")
    options = parser.parse_args()
    if not (PROGRAMS / "ftpslave").exists():
        sys.exit("build the programs first: make")
    if unknown := set(options.only or ()) - {row.number for row in ROWS}:
        sys.exit(f"no such row: {', '.join(sorted(unknown))}")
    if options.write:
        Path(options.write).write_text("# Results of the comparisons\n\n")

    def write(line):
        print(line, flush=True)
        if options.write:
            with open(options.write, "a") as results:
                results.write(line + "\n")

    write(f"{about()}\n")
    if options.growth:
        growth(write)
    else:
        run_table(options, write)
    if FAILED:
        sys.exit(f"failed: {', '.join(FAILED)}")


def run_table(options, write):
    for line in HEADER:
        write(line)
    chosen = [row for row in ROWS if wanted(row, options)]
    for result in run_rows(chosen, "/dev/shm", "tmpfs", options.scale):
        for line in result.lines():
            write(line)
    if options.disk:
        on_disk = [row for row in chosen if row.disk_limit]
        for result in run_rows(on_disk, options.disk, "disk", options.scale):
            for line in result.lines():
                write(line)


def wanted(row: Row, options):
    if options.only:
        return row.number in options.only
    return options.full or row.quick


if __name__ == "__main__":
    main()
