#!/usr/bin/env python3
"""Compares the FTP front end of a slave with vsftpd, Pure-FTPd and ProFTPD, with the same clients.

    benches/ftp.py [--rounds N] [--only ROW]...

It needs root (the rivals serve anonymous users from a bind mount), the release build (`make`), the
Debian packages curl and lftp, and 4 GiB in /dev/shm. The rivals are taken from PATH or from
--vsftpd, --pure-ftpd and --proftpd; one that is missing or does not start is named and skipped. The
servers take turns, and another one begins in each round. A round before the others is not counted.
A ratio below 1 is in favour of Relais; its spread is that of the rounds.
"""

import argparse
import filecmp
import ftplib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rivals import (
    MIB,
    TOP,
    NotStarted,
    free_port,
    measure,
    pss,
    run,
    timed,
    wait_for_port,
    wait_until_idle,
    warm_memory,
    write_random,
)

class Server:
    """A running server whose anonymous users read and write one folder."""

    def __init__(self, name, command, port):
        self.name, self.port = name, port
        self.process = subprocess.Popen(
            command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_port(name, self.process, port)
        except NotStarted:
            self.stop()
            raise

    def url(self, path):
        return f"ftp://127.0.0.1:{self.port}/{path}"

    def connect(self):
        client = ftplib.FTP()
        client.connect("127.0.0.1", self.port, 30)
        client.login()
        return client

    def remove(self, root, name):
        if self.name != "Relais":
            (root / name).unlink()
            return
        # A name that vanishes from its folder would be looked into during the next measurement.
        client = self.connect()
        client.delete(name)
        client.quit()

    def stop(self):
        for how in signal.SIGTERM, signal.SIGKILL:
            try:
                os.killpg(self.process.pid, how)
                self.process.wait(20)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                print(f"{self.name} does not stop; it is killed", file=sys.stderr)


def start_relais(work, root):
    slave = TOP / "target/release/ftpslave"
    if not slave.exists():
        sys.exit("build the programs first: make")
    port = free_port()
    env = ["env", "RUST_LOG=error"]
    options = ["0", "--standalone", "--root", root, "--state", work / "state"]
    limits = ["--sessions-per-worker", "2000"]
    command = [*env, slave, *options, *limits, "--ftp", f"127.0.0.1:{port}"]
    return Server("Relais", [str(word) for word in command], port)


def start_vsftpd(program, work, root):
    port, config, empty = free_port(), work / "vsftpd.conf", work / "empty"
    empty.mkdir()
    settings = {
        "listen": "YES", "listen_address": "127.0.0.1", "listen_port": port, "background": "NO",
        "anonymous_enable": "YES", "no_anon_password": "YES", "anon_root": root,
        "local_enable": "NO", "write_enable": "YES", "anon_upload_enable": "YES",
        "anon_other_write_enable": "YES", "anon_umask": "022", "seccomp_sandbox": "NO",
        "max_clients": 0, "max_per_ip": 0, "secure_chroot_dir": empty, "xferlog_enable": "NO",
    }  # fmt: skip
    config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return Server("vsftpd", [program, str(config)], port)


def start_pure_ftpd(program, _, root):
    # It serves the home folder of the user ftp.
    port = free_port()
    home = os.path.expanduser("~ftp")
    serve = f'mount --bind "$1" "{home}" && exec "$2" -S 127.0.0.1,{port} -e -M -H -c 2000 -C 2000 -L 200000:10'
    command = ["unshare", "-m", "sh", "-c", serve, "sh", str(root), program]
    return Server("Pure-FTPd", command, port)


def start_proftpd(program, work, root):
    port, config = free_port(), work / "proftpd.conf"
    config.write_text(f"""
        ServerType standalone
        DefaultServer on
        DefaultAddress 127.0.0.1
        Port {port}
        UseIPv6 off
        UseReverseDNS off
        User ftp
        Group nogroup
        MaxInstances none
        ControlsEngine off
        DelayEngine off
        PidFile {work}/proftpd.pid
        ScoreboardFile none
        SystemLog none
        TransferLog none
        WtmpLog off
        <Anonymous {root}>
            User ftp
            Group nogroup
            UserAlias anonymous ftp
            RequireValidShell off
        </Anonymous>
    """)
    return Server("ProFTPD", [program, "-n", "-c", str(config)], port)


def retrieve(server, root, work):
    got = work / "got"
    got.unlink(missing_ok=True)
    seconds = timed(lambda: run("curl", "-sS", "-o", got, server.url("file")))
    assert filecmp.cmp(root / "file", got, shallow=False), f"{server.name} sent other content"
    return seconds


def store(server, root, work):
    name = f"up/{time.monotonic_ns()}"
    warm_memory(work, 1536)
    seconds = timed(lambda: run("curl", "-sS", "-T", root / "file", server.url(name)))
    same = filecmp.cmp(root / "file", root / name, shallow=False)
    assert same, f"{server.name} stored other content"
    server.remove(root, name)
    return seconds


def mirror(server, root, work):
    local = work / "mirror"
    shutil.rmtree(local, ignore_errors=True)
    script = f"open {server.url('')}; mirror many {local}"
    seconds = timed(lambda: run("lftp", "-c", script))
    run("diff", "-r", root / "many", local)
    return seconds


def log_in(server, root, work):
    def once():
        client, names = server.connect(), []
        client.retrlines("LIST many/0", names.append)
        assert len(names) == 100, f"{server.name} listed {len(names)} names"
        client.quit()

    return timed(lambda: [once() for _ in range(1000)])


def list_names(server, root, work):
    client, names = server.connect(), 0

    def count(_):
        nonlocal names
        names += 1

    begun = time.monotonic()
    with client.transfercmd("LIST list") as data:
        text = b""
        received = []
        while text := data.recv(MIB):
            received.append(text)
    client.voidresp()
    seconds = time.monotonic() - begun
    names = b"".join(received).count(b"\n")
    assert names == 100_000, f"{server.name} listed {names} names"
    client.quit()
    return seconds


def idle_session(server, root, work):
    sessions = 200
    server.connect().quit()
    before = pss(server.process.pid)
    clients = [server.connect() for _ in range(sessions)]
    for client in clients:
        client.retrlines("LIST many/0", lambda _: None)
    used = (pss(server.process.pid) - before) / sessions
    for client in clients:
        client.quit()
    return used


ROWS = {
    "retr": ("RETR of 1 GiB, curl, s", retrieve),
    "stor": ("STOR of 1 GiB, curl, s", store),
    "mirror": ("lftp mirror of 10,000 x 4 KiB, s", mirror),
    "logins": ("1,000 logins, each with a LIST of 100 names, s", log_in),
    "list": ("LIST of 100,000 names, s", list_names),
    "idle": ("memory of an idle session, KiB of PSS", idle_session),
}


def make_files(root):
    root.mkdir()
    write_random(root / "file", 1024)
    for number in range(10_000):
        folder = root / "many" / str(number // 100)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / str(number)).write_bytes(os.urandom(4096))
    (root / "list").mkdir()
    for number in range(100_000):
        (root / "list" / f"name-{number:06}.txt").touch()
    (root / "up").mkdir()
    for folder in root, root / "up":
        shutil.chown(folder, "root")
    (root / "up").chmod(0o777)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    parser.add_argument("--vsftpd", default="vsftpd")
    parser.add_argument("--pure-ftpd", default="pure-ftpd")
    parser.add_argument("--proftpd", default="proftpd")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relais-bench.", dir="/dev/shm") as folder:
        work = Path(folder)
        work.chmod(0o755)
        root = work / "root"
        make_files(root)
        servers = []
        try:
            servers.append(start_relais(work, root))
            for program, start in (
                (args.vsftpd, start_vsftpd),
                (args.pure_ftpd, start_pure_ftpd),
                (args.proftpd, start_proftpd),
            ):
                add_rival(servers, program, start, work, root)
            wait_until_idle(servers[0].process)
            measure(servers, [ROWS[key] for key in args.only or ROWS], args.rounds, root, work)
        except NotStarted as error:
            sys.exit(str(error))
        finally:
            for server in servers:
                server.stop()


def add_rival(servers, program, start, work, root):
    try:
        found = shutil.which(program)
        if not found:
            raise NotStarted(f"{program} is missing")
        servers.append(start(found, work, root))
    except NotStarted as error:
        print(f"{error}; it is skipped", file=sys.stderr)


if __name__ == "__main__":
    main()
