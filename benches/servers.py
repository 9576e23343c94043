"""The servers that the comparisons run: a Relais cluster and its rivals, on loopback."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time

from groups import ControlGroup
from rivals import TOP, free_port, wait_for_port

LOOPBACK = "127.0.0.1"
PROGRAMS = TOP / "target/release"


class Server:
    """Processes that end with the block."""

    def __init__(self):
        self.processes = []
        self.group = ControlGroup("cpuacct")

    def processor_time(self):
        """Returns the processor seconds of all its processes, also of those that have ended."""
        return self.group.processor_seconds()

    def start(self, *command, port=None, host=None):
        """Starts a process on a host, and waits until it listens on a port."""
        placed = host.run(*command) if host else command
        process = subprocess.Popen(
            [str(word) for word in placed],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "RUST_LOG": "error"},
            preexec_fn=self.group.join,
        )
        self.processes.append(process)
        if port and host:
            wait_on_host(host, port)
        elif port:
            wait_for_port(str(command[0]), process, port)
        return process

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in reversed(self.processes):
            process.send_signal(signal.SIGTERM)
        for process in reversed(self.processes):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                print(f"process {process.pid} does not stop; it is killed", file=sys.stderr)
                process.kill()
                process.wait()
        self.group.__exit__()


def wait_on_host(host, port):
    probe = host.run("bash", "-c", f"exec 3<>/dev/tcp/{host.address}/{port}")
    for _ in range(300):
        if subprocess.run(probe, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    raise SystemExit(f"no server listens on port {port} of {host.name}")


class Relais(Server):
    """A master and its slaves, each with its own folder."""

    def __init__(self, work, roots, slave_options=(), master_options=(), tls="remote", hosts=None):
        super().__init__()
        self.work, self.tls = work, tls
        work.mkdir(parents=True)
        self.port = free_port()
        self.hosts = hosts or []
        self.address = self.hosts[0].address if self.hosts else LOOPBACK
        self.slave_options = slave_options
        listen = ["--listen", f"{self.address}:{self.port}"]
        self.start_on(0, PROGRAMS / "ftpmaster", *listen, "--state", self.state,
                      "--tls", tls, *master_options, port=self.port)
        for root in roots:
            self.add_slave(root)

    @property
    def state(self):
        return self.work / "master"

    @property
    def master(self):
        return self.processes[0]

    def start_on(self, index, *command, port=None):
        host = self.hosts[index % len(self.hosts)] if self.hosts else None
        return self.start(*command, port=port, host=host)

    def add_slave(self, root):
        """Starts a further slave, without waiting."""
        index = len(self.processes)
        return self.start_on(
            index, PROGRAMS / "ftpslave", "0", "--root", root,
            "--state", self.work / f"slave-{index}", "--master", f"{self.address}:{self.port}",
            "--cluster-key", self.state / "cluster.key", "--tls", self.tls, *self.slave_options,
        )

    def ask(self, command, *options):
        """Returns the command line of an operator's command."""
        where = ["--master", f"{self.address}:{self.port}", "--state", self.state, "--tls", self.tls]
        line = [PROGRAMS / "ftpmaster", command, *where, *options]
        return self.hosts[0].run(*line) if self.hosts else line

    def status(self):
        command = [str(word) for word in self.ask("status", "--json")]
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout) if done.stdout else {"slaves": [], "number": 0}

    def wait(self, files=None, hashed=True, changes=0, patience=900):
        """Waits until all slaves are in service with these files, and so many changes are numbered."""
        wanted = len(self.processes) - 1
        until = time.monotonic() + patience
        while time.monotonic() < until:
            status = self.status()
            slaves, number = status["slaves"], status["number"]
            ready = all(is_ready(slave, files, hashed, number) for slave in slaves)
            if len(slaves) == wanted and number >= changes and ready:
                return
            time.sleep(0.05)
        raise SystemExit(f"the slaves are not ready: {self.status()}")

    def add_user(self, name):
        """Adds an account that may write; returns the client's options for it."""
        password = self.work / "password"
        password.write_text("a password for measurements")
        command = [PROGRAMS / "ftpmaster", "user", "add", name, "--rights", "write", "--state", self.state,
                   "--password-file", password]
        subprocess.run([str(word) for word in command], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
        time.sleep(2)  # Running servers load accounts within a second.
        return ["-u", name, "--password-file", password, "--insecure"]

    def client(self, local, *commands, options=()):
        """Returns the command line of a client that runs these commands in a local folder."""
        script = [word for command in commands for word in ("-c", command)]
        local.mkdir(exist_ok=True)
        return ["env", f"XDG_STATE_HOME={self.work}/client", "RUST_LOG=error",
                PROGRAMS / "ftpclient", f"{self.address}:{self.port}", "--tls", self.tls,
                "-d", local, *options, *script]


def is_ready(slave, files, hashed, number):
    return (
        slave["state"] == "in-service"
        and slave["number"] == number
        and slave["missing"] == 0
        and (files is None or slave["files"] == files)
        and (not hashed or slave["unhashed"] == 0)
    )


class Vsftpd(Server):
    """vsftpd for anonymous users, who may write."""

    name, needs = "vsftpd", {"vsftpd": "vsftpd"}

    def __init__(self, work, root, host=None):
        super().__init__()
        work.mkdir(parents=True)
        self.port, empty = free_port(), work / "empty"
        self.address = host.address if host else LOOPBACK
        empty.mkdir()
        settings = {
            "listen": "YES", "listen_address": self.address, "listen_port": self.port,
            "background": "NO", "anonymous_enable": "YES", "no_anon_password": "YES",
            "anon_root": root, "local_enable": "NO", "write_enable": "YES",
            "anon_upload_enable": "YES", "anon_mkdir_write_enable": "YES",
            "anon_other_write_enable": "YES", "anon_umask": "022", "seccomp_sandbox": "NO",
            "max_clients": 0, "max_per_ip": 0, "secure_chroot_dir": empty, "xferlog_enable": "NO",
        }
        config = work / "vsftpd.conf"
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        self.start("vsftpd", config, port=self.port, host=host)

    def url(self, path=""):
        return f"ftp://{self.address}:{self.port}/{path}"


class Nginx(Server):
    """nginx with sendfile and TLS, and a location that only redirects."""

    needs = {"nginx": "nginx-light", "openssl": "openssl", "curl": "curl"}

    def __init__(self, work, root, host=None):
        super().__init__()
        work.mkdir(parents=True)
        shutil.chown(work, "www-data")
        self.port, self.tls_port, self.redirector = free_port(), free_port(), free_port()
        self.address = host.address if host else LOOPBACK
        cert, key, config = work / "cert.pem", work / "key.pem", work / "nginx.conf"
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
             "-nodes", "-subj", "/CN=bench", "-days", "2", "-keyout", key, "-out", cert],
            check=True, stderr=subprocess.DEVNULL)
        config.write_text(f"""
            worker_processes auto; daemon off; pid {work}/pid; error_log stderr crit;
            user www-data;
            events {{ worker_connections 4096; }}
            http {{
                access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
                client_body_temp_path {work}/body; proxy_temp_path {work}/proxy;
                fastcgi_temp_path {work}/fastcgi; uwsgi_temp_path {work}/uwsgi;
                scgi_temp_path {work}/scgi;
                server {{
                    listen {self.address}:{self.port};
                    listen {self.address}:{self.tls_port} ssl;
                    ssl_certificate {cert}; ssl_certificate_key {key};
                    location / {{ root {root}; }}
                }}
                server {{
                    listen {self.address}:{self.redirector};
                    location / {{ return 307 http://{self.address}:{self.port}$request_uri; }}
                }}
            }}
        """)
        self.start("nginx", "-c", config, port=self.port, host=host)

    def url(self, path="", scheme="http"):
        port = self.tls_port if scheme == "https" else self.port
        return f"{scheme}://{self.address}:{port}/{path}"


class Rsyncd(Server):
    """rsync's own server with one writable module."""

    needs = {"rsync": "rsync"}

    def __init__(self, work, root, host=None):
        super().__init__()
        work.mkdir(parents=True)
        self.port = free_port()
        self.address = host.address if host else LOOPBACK
        config = work / "rsyncd.conf"
        config.write_text(
            f"port = {self.port}\naddress = {self.address}\nuse chroot = no\n[root]\npath = {root}\n"
            f"read only = no\nuid = {os.getuid()}\ngid = {os.getgid()}\n")
        self.start("rsync", "--daemon", "--no-detach", "--config", config,
                   "--log-file", work / "log", port=self.port, host=host)

    def url(self, path=""):
        return f"rsync://{self.address}:{self.port}/root/{path}"


class Xrootd(Server):
    """XRootD's data server, which does not run as root."""

    needs = {"xrootd": "xrootd-server", "xrdcp": "xrootd-client"}

    def __init__(self, work, root):
        super().__init__()
        work.mkdir(parents=True)
        shutil.chown(work, "nobody", "nogroup")
        self.port = free_port()
        config = work / "xrootd.cf"
        config.write_text(
            f"all.role server\nxrd.port {self.port}\nall.export /\noss.localroot {root}\n"
            f"all.adminpath {work}\nall.pidpath {work}\nxrd.protocol xrootd *\n")
        self.start("xrootd", "-R", "nobody", "-c", config, "-l", work / "log", port=self.port)

    def url(self, path=""):
        return f"root://{LOOPBACK}:{self.port}//{path}"


class Etcd(Server):
    """One etcd node, whose data is on the same file system as the work folder."""

    needs = {"etcd": "etcd-server", "h2load": "nghttp2-client"}

    def __init__(self, work):
        super().__init__()
        self.port, peer = free_port(), free_port()
        url = f"http://{LOOPBACK}:{self.port}"
        self.start("etcd", "--data-dir", work, "--log-level", "error",
                   "--listen-client-urls", url, "--advertise-client-urls", url,
                   "--listen-peer-urls", f"http://{LOOPBACK}:{peer}",
                   "--initial-advertise-peer-urls", f"http://{LOOPBACK}:{peer}",
                   "--initial-cluster", f"default=http://{LOOPBACK}:{peer}", port=self.port)
