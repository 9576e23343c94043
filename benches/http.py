#!/usr/bin/env python3
"""Compares the HTTP front ends of a slave and a master with nginx, with the same clients.

    benches/http.py [--rounds N] [--only ROW]...

It needs the release build (`make`), the Debian packages curl, nghttp2-client (h2load), nginx-light
and openssl, and 4 GiB in /dev/shm. The servers take turns. A ratio below 1 is in favour of
Relais; its spread is that of the rounds. Relais verifies and syncs what it stores; nginx
does neither.
"""

import argparse
import filecmp
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rivals import (
    TOP,
    NotStarted,
    free_port,
    measure,
    run,
    timed,
    wait_for_port,
    wait_until_idle,
    warm_memory,
    write_random,
)

FILES = 10_000
REDIRECTS = 20_000


class Relais:
    """A master and one slave, which serve HTTP and HTTPS."""

    name = "Relais"

    def __init__(self, work, root, certificate):
        self.http, self.https, self.redirector = free_port(), free_port(), free_port()
        master_port = free_port()
        self.processes = []
        state = work / "state"
        state.mkdir()
        loopback = "127.0.0.1"
        self.start("ftpmaster", "--listen", f"{loopback}:{master_port}", "--state", state / "master",
                   "--http", f"{loopback}:{self.redirector}")
        wait_for_port("ftpmaster", self.processes[-1], master_port)
        self.start("ftpslave", "0", "--root", root, "--state", state / "slave",
                   "--master", f"{loopback}:{master_port}",
                   "--cluster-key", state / "master/cluster.key",
                   "--http", f"{loopback}:{self.http}", "--https", f"{loopback}:{self.https}")
        for port in self.http, self.https, self.redirector:
            wait_for_port("ftpslave", self.processes[-1], port)
        wait_until_idle(self.processes[-1])

    def start(self, program, *options):
        path = TOP / "target/release" / program
        if not path.exists():
            sys.exit("build the programs first: make")
        command = ["env", "RUST_LOG=error", path, *options]
        self.processes.append(
            subprocess.Popen([str(word) for word in command], stdout=subprocess.DEVNULL)
        )

    def stop(self):
        for process in reversed(self.processes):
            process.terminate()
            process.wait()


class Nginx:
    """nginx with sendfile, TLS, its module for PUT, and a location that only redirects."""

    name = "nginx"

    def __init__(self, work, root, certificate):
        self.http, self.https, self.redirector = free_port(), free_port(), free_port()
        config, temporary = work / "nginx.conf", work / "nginx"
        temporary.mkdir()
        shutil.chown(temporary, "www-data")
        cert, key = certificate
        config.write_text(f"""
            worker_processes auto; daemon off; pid {temporary}/pid; error_log stderr crit;
            user www-data;
            events {{ worker_connections 1024; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
                client_max_body_size 0; client_body_temp_path {temporary};
                server {{
                    listen 127.0.0.1:{self.http};
                    listen 127.0.0.1:{self.https} ssl;
                    ssl_certificate {cert}; ssl_certificate_key {key};
                    ssl_protocols TLSv1.2 TLSv1.3;
                    location / {{ root {root}; dav_methods PUT; }}
                }}
                server {{
                    listen 127.0.0.1:{self.redirector};
                    location / {{ return 307 http://127.0.0.1:{self.http}$request_uri; }}
                }}
            }}
        """)
        self.process = subprocess.Popen(["nginx", "-c", str(config)])
        for port in self.http, self.https, self.redirector:
            wait_for_port(self.name, self.process, port)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def get(scheme, server, root, work):
    got = work / "got"
    got.unlink(missing_ok=True)
    port = server.https if scheme == "https" else server.http
    url = f"{scheme}://127.0.0.1:{port}/file"
    seconds = timed(lambda: run("curl", "-sSfk", "-o", got, url))
    assert filecmp.cmp(root / "file", got, shallow=False), f"{server.name} sent other content"
    return seconds


def put(server, root, work):
    name = f"up/{time.monotonic_ns()}"
    warm_memory(work, 1536)
    url = f"http://127.0.0.1:{server.http}/{name}"
    seconds = timed(lambda: run("curl", "-sSf", "-o", "/dev/null", "-T", root / "file", url))
    stored = root / name
    assert filecmp.cmp(root / "file", stored, shallow=False), f"{server.name} stored other content"
    if server.name == "Relais":
        run("curl", "-sSf", "-X", "DELETE", url)
    else:
        stored.unlink()
    return seconds


def load(port, count, status, paths, work):
    """Requests paths over eight kept connections; returns the seconds."""
    urls = work / f"urls-{port}"
    urls.write_text("".join(f"http://127.0.0.1:{port}/{path}\n" for path in paths))
    command = ["h2load", "--h1", "-c", "8", "-n", str(count), "-i", str(urls)]
    begun = time.monotonic()
    done = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    seconds = time.monotonic() - begun
    wanted = {"2xx": f"{count} 2xx", "3xx": f"{count} 3xx"}[status]
    assert wanted in done, done
    return seconds


def paths():
    return [f"many/{number // 100}/{number}" for number in range(FILES)]


ROWS = {
    "get": ("GET of 1 GiB, curl, s", lambda *on: get("http", *on)),
    "get-tls": ("GET of 1 GiB by HTTPS, curl, s", lambda *on: get("https", *on)),
    "small": (
        "10,000 x 4 KiB over 8 kept connections, h2load, s",
        lambda server, root, work: load(server.http, FILES, "2xx", paths(), work),
    ),
    "put": ("PUT of 1 GiB, curl, s", put),
    "redirect": (
        "20,000 redirects over 8 kept connections, h2load, s",
        lambda server, root, work: load(server.redirector, REDIRECTS, "3xx", paths(), work),
    ),
}


def make_files(root):
    root.mkdir()
    write_random(root / "file", 1024)
    for path in paths():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(b"%4096d" % len(path))
    (root / "up").mkdir()
    (root / "up").chmod(0o777)


def make_certificate(work):
    cert, key = work / "cert.pem", work / "key.pem"
    subject = ["-subj", "/CN=localhost", "-days", "2"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    run("openssl", "req", "-x509", "-nodes", "-keyout", key, "-out", cert, *subject, *curve)
    return cert, key


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="append", choices=ROWS, metavar="ROW", help=", ".join(ROWS))
    args = parser.parse_args()
    for program in "curl", "h2load", "nginx", "openssl":
        if not shutil.which(program):
            sys.exit(f"{program} is missing")
    with tempfile.TemporaryDirectory(prefix="relais-bench.", dir="/dev/shm") as folder:
        work = Path(folder)
        work.chmod(0o755)
        root = work / "root"
        make_files(root)
        certificate = make_certificate(work)
        servers = []
        try:
            for kind in Relais, Nginx:
                servers.append(kind(work, root, certificate))
            rows = [ROWS[key] for key in args.only or ROWS]
            measure(servers, rows, args.rounds, root, work)
        except NotStarted as error:
            sys.exit(str(error))
        finally:
            for server in servers:
                server.stop()


if __name__ == "__main__":
    main()
