"""Rows of large files: one client, many clients, encryption, scrubbing."""

import shutil

from compare import Case, Row, Sample, measured, same_file
from samples import large_file
from servers import Nginx, Relais, Rsyncd, Vsftpd, Xrootd

LFTP = {"lftp": "lftp"}
CURL = {"curl": "curl"}
B3SUM = {"b3sum": "b3sum"}


def relais_with(bench, stack, root, **options):
    """Starts a cluster of one slave on this folder, and waits until it has hashed it."""
    cluster = stack.enter_context(Relais(bench.fresh("relais"), [root], **options))
    cluster.wait()
    return cluster


def get_cases(bench, stack):
    root = bench.fresh("root")
    file, local = large_file(root, bench.size(1024)), bench.fresh("local")
    relais = relais_with(bench, stack, root)
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root))
    nginx = stack.enter_context(Nginx(bench.fresh("nginx"), root))
    rsync = stack.enter_context(Rsyncd(bench.fresh("rsyncd"), root))
    got = local / "file"
    cases = [
        ("Relais", relais, relais.client(local, "get file")),
        ("vsftpd + curl", vsftpd, ["curl", "-sSo", got, vsftpd.url("file")]),
        ("vsftpd + lftp", vsftpd, ["lftp", "-c", f"get {vsftpd.url('file')} -o {got}"]),
        ("nginx + curl", nginx, ["curl", "-sSo", got, nginx.url("file")]),
        ("rsync", rsync, ["rsync", "-a", rsync.url("file"), got]),
    ]
    if shutil.which("xrootd") and shutil.which("xrdcp"):
        xrootd = stack.enter_context(Xrootd(bench.fresh("xrootd"), root))
        cases.append(("xrdcp", xrootd, ["xrdcp", "--silent", "-f", xrootd.url("file"), got]))
    return [transfer(name, server, command, file, got) for name, server, command in cases]


def transfer(name, server, command, wanted, got):
    return Case(name, lambda: measured([server], command), lambda: same_file(wanted, got))


def get_tls_cases(bench, stack):
    root = bench.fresh("root")
    file, local = large_file(root, bench.size(1024)), bench.fresh("local")
    relais = relais_with(bench, stack, root, tls="always")
    nginx = stack.enter_context(Nginx(bench.fresh("nginx"), root))
    got = local / "file"
    curl = ["curl", "-sSko", got, nginx.url("file", "https")]
    return [
        transfer("Relais", relais, relais.client(local, "get file"), file, got),
        transfer("nginx + curl", nginx, curl, file, got),
    ]


def put_cases(bench, stack):
    local = bench.fresh("local")
    file = large_file(local, bench.size(1024))
    roots = [bench.fresh(name) for name in ("ours", "vsftpd-root", "rsync-root")]
    for root in roots:
        root.mkdir()
    # vsftpd does not let anonymous users write to its top folder.
    uploads = roots[1] / "up"
    uploads.mkdir()
    uploads.chmod(0o777)
    relais = relais_with(bench, stack, roots[0])
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), roots[1]))
    rsync = stack.enter_context(Rsyncd(bench.fresh("rsyncd"), roots[2]))

    def remove_ours():
        measured([], ["cmp", file, roots[0] / "file"])
        measured([relais], relais.client(local, "rm file"))

    def put(name, server, command, stored):
        return Case(name, lambda: measured([server], command), lambda: same_file(file, stored))

    lftp = f"open {vsftpd.url('up/')}; put {file}"
    return [
        Case("Relais", lambda: measured([relais], relais.client(local, "put file")), remove_ours),
        put("vsftpd + curl", vsftpd, ["curl", "-sST", file, vsftpd.url("up/file")], uploads / "file"),
        put("vsftpd + lftp", vsftpd, ["lftp", "-c", lftp], uploads / "file"),
        put("rsync", rsync, ["rsync", "-a", file, rsync.url("file")], roots[2] / "file"),
    ]


def server_time_cases(bench, stack):
    """The processor time of the servers for one download."""
    cases = get_cases(bench, stack)

    def only_server(case):
        return Case(case.name, lambda: Sample(case.run().server), case.check)

    return [only_server(case) for case in cases[:2]]


def crowd_cases(bench, stack):
    root, clients = bench.fresh("root"), 32
    file = large_file(root, bench.size(64))
    relais = relais_with(bench, stack, root)
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root))
    locals_ = [bench.fresh("local") for _ in range(clients)]
    for local in locals_:
        local.mkdir()

    def check():
        for local in locals_:
            same_file(file, local / "file")

    ours = [relais.client(local, "get file") for local in locals_]
    theirs = [["curl", "-sSo", local / "file", vsftpd.url("file")] for local in locals_]
    return [
        Case("Relais", lambda: measured([relais], *ours), check),
        Case("vsftpd + curl", lambda: measured([vsftpd], *theirs), check),
    ]


def scrub_cases(bench, stack):
    root = bench.fresh("root")
    for part in range(4):
        large_file(root / f"part-{part}", bench.size(1024))
    relais = relais_with(bench, stack, root)
    files = [root / f"part-{part}/file" for part in range(4)]
    return [
        Case("Relais", lambda: measured([relais], relais.ask("scrub"))),
        Case("b3sum", lambda: measured([], ["b3sum", *files])),
    ]


FTP = {**Vsftpd.needs, **CURL, **LFTP}
ROWS = [
    Row("1", "get 1 GiB, one slave", 0.65, get_cases, {**FTP, **Nginx.needs, **Rsyncd.needs}, quick=True),
    Row("2", "put 1 GiB", 0.85, put_cases, {**FTP, **Rsyncd.needs}, quick=True),
    Row("3", "server CPU seconds of row 1", 1.0, server_time_cases,
        {**FTP, **Nginx.needs, **Rsyncd.needs}, unit="CPU s"),
    Row("13", "32 clients x 64 MiB", 0.85, crowd_cases, FTP),
    Row("18a", "get 1 GiB by TLS", 0.65, get_tls_cases, Nginx.needs, quick=True),
    Row("21", "scrub of 4 GiB", 1.1, scrub_cases, B3SUM),
]
