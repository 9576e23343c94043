"""Rows of many files: recursive transfers, adoption, joining, mirrors, removal, listings."""

import shutil
import subprocess
import time
from pathlib import Path

from compare import Case, Row, Sample, client_time, measured, same_tree
from rows_transfers import CURL, relais_with
from samples import flat_names, many_files
from servers import Relais, Rsyncd, Vsftpd

RSYNC = Rsyncd.needs


def pair(bench, stack, root, **options):
    relais = relais_with(bench, stack, root, **options)
    return relais, stack.enter_context(Rsyncd(bench.fresh("rsyncd"), root))


def get_cases(bench, stack, **options):
    root, local = bench.fresh("root"), bench.fresh("local")
    many_files(root / "many", bench.count(10_000), 4096)
    relais, rsync = pair(bench, stack, root, **options)

    def check():
        same_tree(root / "many", local / "many")

    return [
        Case("Relais", lambda: measured([relais], relais.client(local, "get -r many")), check),
        Case("rsync -a", lambda: bench.synced(rsync, "rsync", "-a", rsync.url("many"), local), check),
    ]


def get_tls_cases(bench, stack):
    return get_cases(bench, stack, tls="always")


def put_cases(bench, stack):
    local, ours, theirs = bench.fresh("local"), bench.fresh("ours"), bench.fresh("theirs")
    many_files(local / "many", bench.count(10_000), 4096)
    ours.mkdir()
    theirs.mkdir()
    relais = relais_with(bench, stack, ours)
    rsync = stack.enter_context(Rsyncd(bench.fresh("rsyncd"), theirs))

    def remove_ours():
        subprocess.run(["diff", "-r", local / "many", ours / "many"], check=True)
        measured([relais], relais.client(local, "rm -r many"))

    return [
        Case("Relais", lambda: measured([relais], relais.client(local, "put -r many")), remove_ours),
        Case("rsync -a", lambda: bench.synced(rsync, "rsync", "-a", local / "many", rsync.url()),
             lambda: same_tree(local / "many", theirs / "many")),
    ]


def mirror_cases(bench, stack):
    root, local, copy = bench.fresh("root"), bench.fresh("local"), bench.fresh("copy")
    many_files(root / "many", bench.count(100_000), 1024)
    relais, rsync = pair(bench, stack, root)
    measured([relais], relais.client(local, "mirror many mirrored"))
    again = ["rsync", "-a", rsync.url("many"), copy]
    measured([rsync], again)
    subprocess.run(["diff", "-rq", root / "many", local / "mirrored"], check=True)
    return [
        Case("Relais", lambda: measured([relais], relais.client(local, "mirror many mirrored"))),
        Case("rsync -a", lambda: measured([rsync], again)),
    ]


def list_cases(bench, stack):
    root, local = bench.fresh("root"), bench.fresh("local")
    flat_names(root / "names", bench.count(100_000))
    relais = relais_with(bench, stack, root)
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root))
    return [
        Case("Relais", lambda: measured([relais], relais.client(local, "ls names"))),
        Case("vsftpd + curl", lambda: measured([vsftpd], ["curl", "-sS", vsftpd.url("names/")])),
    ]


def stop(clusters):
    """Stops the clusters that a failed run has left."""
    while clusters:
        clusters.pop().__exit__()


def adopt_cases(bench, stack):
    """From the slave's start on a full folder until all its files are numbered and hashed."""
    root, copy = bench.fresh("root"), bench.fresh("copy")
    count, folders = many_files(root / "many", bench.count(100_000), 1024)
    changes = count + folders + 1  # with the folder `many`
    current = []
    stack.callback(stop, current)

    def prepare():
        shutil.rmtree(root / ".relais", ignore_errors=True)
        current.append(Relais(bench.fresh("relais"), []))

    def adopt():
        cluster = current[-1]
        begun = time.monotonic()
        cluster.add_slave(root)
        cluster.wait(files=count, changes=changes)
        return Sample(time.monotonic() - begun, cluster.processor_time())

    return [
        Case("Relais", adopt, lambda: current.pop().__exit__(), prepare),
        Case("rsync -a", lambda: bench.synced(None, "rsync", "-a", root / "many", copy),
             lambda: same_tree(root / "many", copy / "many")),
    ]


def join_cases(bench, stack):
    """From the start of an empty slave until it holds all files."""
    root, copy = bench.fresh("root"), bench.fresh("copy")
    count, folders = many_files(root / "many", bench.count(100_000), 1024)
    changes = count + folders + 1  # with the folder `many`
    current, seconds = [], []
    stack.callback(stop, current)

    def prepare():
        shutil.rmtree(root / ".relais", ignore_errors=True)
        current.append(Relais(bench.fresh("relais"), [root]))
        current[-1].wait(files=count, changes=changes)
        seconds.append(bench.fresh("second"))
        seconds[-1].mkdir()

    def join():
        cluster = current[-1]
        before, begun = cluster.processor_time(), time.monotonic()
        cluster.add_slave(seconds[-1])
        cluster.wait(files=count, hashed=False)
        return Sample(time.monotonic() - begun, cluster.processor_time() - before)

    def check():
        current.pop().__exit__()
        same_tree(root / "many", seconds[-1] / "many")

    rsync = stack.enter_context(Rsyncd(bench.fresh("rsyncd"), root))
    return [
        Case("Relais", join, check, prepare),
        Case("rsync -a", lambda: bench.synced(rsync, "rsync", "-a", rsync.url("many"), copy),
             lambda: same_tree(root / "many", copy / "many")),
    ]


def remove_cases(bench, stack):
    """From the command until the files are gone from both slaves."""
    sample, local, plain = bench.fresh("sample"), bench.fresh("local"), bench.fresh("plain")
    count, _ = many_files(sample / "many", bench.count(100_000), 1024)
    roots = [bench.fresh("first"), bench.fresh("second")]
    for root in roots:
        root.mkdir()
    plain.mkdir()
    relais = stack.enter_context(Relais(bench.fresh("relais"), roots))
    relais.wait()

    def prepare():
        measured([relais], relais.client(sample, "put -r many"))
        relais.wait(files=count, hashed=False)

    def remove():
        begun, before, client = time.monotonic(), relais.processor_time(), client_time()
        measured([relais], relais.client(local, "rm -r many"))
        while any((root / "many").exists() for root in roots):
            time.sleep(0.005)
        server = relais.processor_time() - before
        return Sample(time.monotonic() - begun, server, client_time() - client)

    return [
        Case("Relais", remove, prepare=prepare),
        Case("rm -rf", lambda: measured([], ["rm", "-rf", plain / "many"]),
             prepare=lambda: shutil.copytree(sample / "many", plain / "many")),
    ]


ROWS = [
    Row("4", "get -r 10,000 x 4 KiB, 100 folders", 0.45, get_cases, RSYNC, quick=True, disk_limit=0.9),
    Row("5", "put -r of the same", 0.9, put_cases, RSYNC, quick=True, disk_limit=0.9),
    Row("15", "ls of 100,000 names", 0.2, list_cases, {**Vsftpd.needs, **CURL}, quick=True),
    Row("16", "adopt 100,000 x 1 KiB", 2.0, adopt_cases, RSYNC, quick=True),
    Row("17", "an empty slave joins these", 1.0, join_cases, RSYNC, quick=True),
    Row("18b", "get -r by TLS; rsync in the clear", 0.6, get_tls_cases, RSYNC, quick=True),
    Row("19", "mirror of 100,000 files, nothing new", 0.15, mirror_cases, RSYNC, quick=True),
    Row("20", "rm -r of 100,000 files, on both slaves", 1.5, remove_cases),
]
GROWTH = {row.number: row for row in ROWS if row.number in ("4", "15", "16", "17", "19")}
