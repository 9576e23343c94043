"""Rows of sessions: short ones, idle ones, redirects, and changes of many clients."""

import ftplib
import socket
import sys
import time

from compare import Case, Row, Sample, measured, same_file
from groups import ControlGroup
from rivals import TOP, descendants, pss
from rows_transfers import CURL, LFTP, relais_with
from samples import flat_names, large_file
from servers import LOOPBACK, Etcd, Nginx, Vsftpd

sys.path.insert(0, str(TOP / "tests"))
import other_client  # noqa: E402  (a client of the native protocol, in Python)

SHORT_SESSIONS = 20
IDLE = 1000
REDIRECTS = 2000
CHANGES = 64


def short_cases(bench, stack):
    """Sessions that start, are redirected, list a small folder and end, one after another."""
    root, local = bench.fresh("root"), bench.fresh("local")
    flat_names(root, 10)
    relais = relais_with(bench, stack, root)
    vsftpd = stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root))
    local.mkdir()

    def repeated(server, command):
        script = f'n={SHORT_SESSIONS}; while [ $n -gt 0 ]; do "$@" || exit; n=$((n - 1)); done'
        sample = measured([server], ["sh", "-c", script, "sh", *command])
        return Sample(sample.value / SHORT_SESSIONS * 1000, sample.server, sample.client)

    theirs = ["lftp", "-c", f"open {vsftpd.url()}; cls"]
    return [
        Case("Relais", lambda: repeated(relais, relais.client(local, "ls"))),
        Case("lftp + vsftpd", lambda: repeated(vsftpd, theirs)),
    ]


def idle_servers(bench, stack):
    root = bench.fresh("root")
    flat_names(root, 10)
    relais = relais_with(bench, stack, root, slave_options=["--sessions-per-worker", "2000"])
    return relais, stack.enter_context(Vsftpd(bench.fresh("vsftpd"), root))


def open_native(relais, count):
    server = other_client.Server(f"{relais.address}:{relais.port}")
    return [server.session() for _ in range(count)]


def open_ftp(vsftpd, count):
    sessions = []
    for _ in range(count):
        client = ftplib.FTP()
        client.connect(vsftpd.address, vsftpd.port, 30)
        client.login()
        sessions.append(client)
    return sessions


def close(sessions):
    for session in sessions:
        getattr(session, "stream", session).close()
    time.sleep(1)


def idle_cases(bench, stack, memory):
    """Memory of an idle session; `memory` returns a function that reads a server's."""
    relais, vsftpd = idle_servers(bench, stack)

    def case(name, process, opened):
        read = memory(stack, process)

        def run():
            before = read()
            sessions = opened(IDLE)
            time.sleep(2)
            after = read()
            close(sessions)
            return Sample((after - before) / IDLE)

        return Case(name, run)

    slave = relais.processes[1]
    return [
        case("Relais", slave, lambda count: open_native(relais, count)),
        case("vsftpd", vsftpd.processes[0], lambda count: open_ftp(vsftpd, count)),
    ]


def proportional(_, process):
    return lambda: pss(process.pid)


def charged(stack, process):
    group = stack.enter_context(ControlGroup("memory"))
    for pid in descendants(process.pid):
        group.take(pid)
    return lambda: group.bytes() / 1024


def beside_idle_cases(bench, stack):
    """The same download with and without 10,000 idle sessions, of two slaves alike."""
    root, local = bench.fresh("root"), bench.fresh("local")
    file = large_file(root, bench.size(1024))
    options = ["--sessions-per-worker", "8000"]
    alone = relais_with(bench, stack, root, slave_options=options)
    busy = relais_with(bench, stack, bench.linked(file), slave_options=options)
    sessions = open_native(busy, max(10, int(10_000 * min(1, bench.scale))))
    stack.callback(close, sessions)
    got = local / "file"

    def case(name, cluster):
        command = cluster.client(local, "get file")
        return Case(name, lambda: measured([cluster], command), lambda: same_file(file, got))

    return [case("beside 10,000 idle sessions", busy), case("without them", alone)]


def redirect_cases(bench, stack):
    """The server's processor time of a new connection that is sent elsewhere."""
    root = bench.fresh("root")
    flat_names(root, 10)
    relais = relais_with(bench, stack, root)
    nginx = stack.enter_context(Nginx(bench.fresh("nginx"), root))

    master = stack.enter_context(ControlGroup("cpuacct"))
    master.take(relais.master.pid)

    def timed(group, action):
        before = group.processor_seconds()
        for _ in range(REDIRECTS):
            action()
        return Sample((group.processor_seconds() - before) / REDIRECTS * 1e6)

    def redirect():
        kind, _ = other_client.log_in((LOOPBACK, relais.port))
        assert kind == "slaves", kind

    def redirect_http():
        with socket.create_connection((LOOPBACK, nginx.redirector)) as connection:
            connection.sendall(b"GET /file HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            answer = b""
            while some := connection.recv(4096):
                answer += some
        assert answer.startswith(b"HTTP/1.1 307"), answer

    return [
        Case("Relais' master", lambda: timed(master, redirect)),
        Case("nginx", lambda: timed(nginx.group, redirect_http)),
    ]


def change_cases(bench, stack):
    """Microseconds of a change: 64 clients, each one change after another."""
    root, local = bench.fresh("root"), bench.fresh("local")
    flat_names(root, 1)
    relais = relais_with(bench, stack, root, slave_options=["--sessions-per-worker", "100"])
    etcd = stack.enter_context(Etcd(bench.fresh("etcd")))
    each = bench.count(100)
    body = bench.fresh("body")
    body.write_text('{"key": "cmVsYWlz", "value": "MDEyMzQ1Njc4OWFiY2RlZg=="}')
    turn = [0]

    def ours():
        turn[0] += 1
        scripts = []
        for client in range(CHANGES):
            script = bench.work / f"script-{client}"
            names = (f"mkdir t{turn[0]}-{client}-{n}" for n in range(each))
            script.write_text("\n".join(names) + "\n")
            scripts.append(["sh", "-c", 'in=$1; shift; exec "$@" <"$in"', "sh", script,
                            *relais.client(local)])
        sample = measured([relais], *scripts)
        return Sample(sample.value / (CHANGES * each) * 1e6, sample.server, sample.client)

    def theirs():
        total = str(CHANGES * each)
        url = f"http://{LOOPBACK}:{etcd.port}/v3/kv/put"
        command = ["h2load", "--h1", "-c", str(CHANGES), "-n", total, "-d", body, url]
        sample = measured([etcd], command)
        return Sample(sample.value / (CHANGES * each) * 1e6, sample.server, sample.client)

    return [Case("Relais", ours), Case("etcd, by its JSON gateway", theirs)]


FTP = Vsftpd.needs
ROWS = [
    Row("10a", "session: start, redirect, list, end", 0.22, short_cases, {**FTP, **LFTP}, "ms", quick=True),
    Row("11a", "1,000 idle sessions: PSS each", 0.05, lambda b, s: idle_cases(b, s, proportional),
        FTP, "KiB", quick=True, rounds=3),
    Row("11b", "1,000 idle sessions: control group memory each", 0.2,
        lambda b, s: idle_cases(b, s, charged), FTP, "KiB", rounds=3),
    Row("12", "get 1 GiB beside 10,000 idle sessions", 1.1, beside_idle_cases),
    Row("14a", "master CPU of a redirect with its connection", 3.0, redirect_cases, Nginx.needs, "µs"),
    Row("14b", "a change of 64 clients", 1.0, change_cases, {**Etcd.needs, **CURL}, "µs"),
]

