"""Rows over long and slow lines: hosts with 20 ms between them one way, or with a rate."""

from compare import Case, Row, Sample, measured, same_file, same_tree
from network import NEEDS, Network
from rows_sessions import SHORT_SESSIONS
from rows_transfers import CURL, LFTP
from samples import flat_names, large_file, many_files
from rivals import free_port
from servers import Nginx, Relais, Rsyncd, Vsftpd

# Two ends with 10 ms each way make a round trip of 40 ms.
LONG = (10, 0)
ARIA2 = {"aria2c": "aria2"}


def long_line(bench, stack, servers):
    """Returns a client's host and those of servers, with a round trip of 40 ms between them."""
    hosts = stack.enter_context(Network(bench.fresh("network"), [LONG] * (servers + 1)))
    return hosts[0], hosts[1:]


def cluster(bench, stack, hosts, roots, **options):
    """Starts a master on the first host, and a slave for each folder on the hosts in turn."""
    relais = Relais(bench.fresh("relais"), roots, tls="never", hosts=hosts, **options)
    stack.enter_context(relais).wait()
    return relais


def copies(bench, file, count):
    """Returns folders with the same file."""
    roots = [file.parent]
    while len(roots) < count:
        root = bench.fresh("copy")
        root.mkdir()
        measured([], ["cp", "-p", file, root])
        roots.append(root)
    return roots


def small_cases(bench, stack):
    client, servers = long_line(bench, stack, 1)
    root, local = bench.fresh("root"), bench.fresh("local")
    many_files(root / "many", bench.count(1000), 4096, folders=10)
    relais = cluster(bench, stack, servers, [root])
    rsync = stack.enter_context(Rsyncd(bench.fresh("rsyncd"), root, servers[0]))
    ours = client.run(*relais.client(local, "get -r many"))
    theirs = client.run("rsync", "-a", rsync.url("many"), local)

    def check():
        same_tree(root / "many", local / "many")

    return [
        Case("Relais", lambda: measured([relais], ours), check),
        Case("rsync -a", lambda: measured([rsync], theirs), check),
    ]


def long_get_cases(bench, stack, slaves):
    client, servers = long_line(bench, stack, slaves)
    root, local = bench.fresh("root"), bench.fresh("local")
    file, got = large_file(root, bench.size(1024)), local / "file"
    # The master is on the host of the last slave.
    hosts = [servers[-1], *servers[:-1]]
    relais = cluster(bench, stack, hosts, copies(bench, file, slaves))
    nginx = stack.enter_context(Nginx(bench.fresh("nginx"), root, servers[0]))
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root, servers[0]))

    def case(name, server, *command):
        return Case(name, lambda: measured([server], client.run(*command)), lambda: same_file(file, got))

    pget = f"set net:socket-buffer 0; pget -n4 {vsftpd.url('file')} -o {got}"
    return [
        case("Relais", relais, *relais.client(local, "get file")),
        case("aria2 -x4, nginx", nginx, "aria2c", "-q", "-x4", "-s4", "--allow-overwrite", "-d", local,
             "-o", "file", nginx.url("file")),
        case("lftp pget -n4, vsftpd", vsftpd, "lftp", "-c", pget),
    ]


def long_put_cases(bench, stack):
    client, servers = long_line(bench, stack, 1)
    local, ours, theirs = bench.fresh("local"), bench.fresh("ours"), bench.fresh("theirs")
    file = large_file(local, bench.size(1024))
    ours.mkdir()
    uploads = theirs / "up"
    uploads.mkdir(parents=True)
    uploads.chmod(0o777)
    relais = cluster(bench, stack, servers, [ours])
    account = relais.add_user("bench")
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), theirs, servers[0]))

    def remove_ours():
        measured([], ["cmp", file, ours / "file"])
        measured([relais], client.run(*relais.client(local, "rm file", options=account)))

    put = client.run(*relais.client(local, "put file", options=account))
    curl = client.run("curl", "-sST", file, vsftpd.url("up/file"))
    return [
        Case("Relais", lambda: measured([relais], put), remove_ours),
        Case("curl, vsftpd", lambda: measured([vsftpd], curl), lambda: same_file(file, uploads / "file")),
    ]


def stripe_cases(bench, stack):
    """The client's line has 1 Gbit/s, that of each slave 200 Mbit/s."""
    limits = [(0, 1000), (0, 0)] + [(0, 200)] * 4
    hosts = stack.enter_context(Network(bench.fresh("network"), limits))
    client, master, slaves = hosts[0], hosts[1], hosts[2:]
    root, local = bench.fresh("root"), bench.fresh("local")
    file, got = large_file(root, bench.size(1024)), local / "file"
    four = cluster(bench, stack, [master, *slaves], copies(bench, file, 4))
    one = cluster(bench, stack, [master, slaves[0]], [bench.linked(file)])

    def case(name, server):
        command = client.run(*server.client(local, "get file"))
        return Case(name, lambda: measured([server], command), lambda: same_file(file, got))

    return [case("from four slaves", four), case("from one slave", one)]


def metalink_cases(bench, stack):
    """aria2 by the master's Metalink: the client's line has 1 Gbit/s, each slave's 200 Mbit/s."""
    limits = [(0, 1000), (0, 0)] + [(0, 200)] * 4
    hosts = stack.enter_context(Network(bench.fresh("network"), limits))
    client, master, slaves = hosts[0], hosts[1], hosts[2:]
    root, local = bench.fresh("root"), bench.fresh("local")
    file, got = large_file(root, bench.size(1024)), local / "file"
    local.mkdir()

    def case(name, hosts, roots):
        options = ["--http", free_port()]
        server = cluster(bench, stack, hosts, roots, slave_options=options, master_options=options)
        url = f"http://{server.address}:{options[1]}/file?meta4"
        # The first request has the hashes computed.
        curl = ["curl", "-sSf", "--retry", "5", "-o", "/dev/null", url]
        measured([], client.run(*curl))
        aria2 = ["aria2c", "-q", "--no-conf", "--follow-metalink=mem", "--allow-overwrite=true",
                 "-s4", "-k1M", "-d", local, url]
        return Case(name, lambda: measured([server], client.run(*aria2)), lambda: same_file(file, got))

    return [
        case("from four slaves", [master, *slaves], copies(bench, file, 4)),
        case("from one slave", [master, slaves[0]], [bench.linked(file)]),
    ]


def short_cases(bench, stack):
    client, servers = long_line(bench, stack, 1)
    root, local = bench.fresh("root"), bench.fresh("local")
    flat_names(root, 10)
    relais = cluster(bench, stack, servers, [root])
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root, servers[0]))
    local.mkdir(exist_ok=True)

    def repeated(server, command):
        script = f'n={SHORT_SESSIONS}; while [ $n -gt 0 ]; do "$@" || exit; n=$((n - 1)); done'
        sample = measured([server], client.run("sh", "-c", script, "sh", *command))
        return Sample(sample.value / SHORT_SESSIONS * 1000, sample.server, sample.client)

    return [
        Case("Relais", lambda: repeated(relais, relais.client(local, "ls"))),
        Case("lftp + vsftpd", lambda: repeated(vsftpd, ["lftp", "-c", f"open {vsftpd.url()}; cls"])),
    ]


FTP = {**Vsftpd.needs, **LFTP, **NEEDS}
SEGMENTED = {**FTP, **Nginx.needs, **ARIA2}
ROWS = [
    Row("6", "1,000 x 4 KiB, 40 ms round trip", 0.5, small_cases, {**NEEDS, **Rsyncd.needs}, quick=True),
    Row("7a", "get 1 GiB from 3 slaves, 40 ms round trip", 0.6,
        lambda b, s: long_get_cases(b, s, 3), SEGMENTED, quick=True),
    Row("7b", "get 1 GiB from 1 slave, 40 ms round trip", 1.0,
        lambda b, s: long_get_cases(b, s, 1), SEGMENTED),
    Row("8", "get 1 GiB, 4 slaves x 200 Mbit/s", 0.27, stripe_cases, NEEDS),
    Row("8b", "aria2 by Metalink, 1 GiB, 4 slaves x 200 Mbit/s", 0.3, metalink_cases,
        {**NEEDS, **CURL, **ARIA2}),
    Row("9", "put 1 GiB, 40 ms round trip", 0.5, long_put_cases, {**FTP, **CURL}),
    Row("10b", "session: start, redirect, list, end, 40 ms round trip", 0.35, short_cases, FTP, "ms"),
]
