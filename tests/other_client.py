#!/usr/bin/env python3
"""A small Relais client written from docs/protocol.md alone, with Python's standard library.

It proves that docs/protocol.md is enough. It logs in at a master (or a standalone slave), follows the redirect,
lists a folder, gets a file with resume, copies a file and sets attributes. It must use nothing of Relais except
the protocol.

    other_client.py [--ca FILE] HOST:PORT ls [PATH]
    other_client.py [--ca FILE] HOST:PORT get PATH LOCAL [--stop-after BYTES]
    other_client.py [--ca FILE] HOST:PORT stat PATH...
    other_client.py [--ca FILE] HOST:PORT cp FROM TO [--if-digest HEX]
    other_client.py [--ca FILE] HOST:PORT set PATH [--mode OCTAL] [--mtime SECONDS]
    other_client.py [--ca FILE] HOST:PORT probe

probe sends messages that no client of version 1 sends, and checks that the server answers as specified.
With --ca all connections are encrypted, and FILE is the certificate of the servers' authority. Each
command prints one JSON object. `get` writes LOCAL.part and LOCAL.part.json first. --stop-after stops
after that many bytes, with status 5; the same command without it resumes there. If the module blake3
is installed, the digest is checked before the file gets its name; else `verified` is false, and the
caller compares `digest`. Status: 0 done, 1 refused or damaged, 2 usage, 3 no server reached, 5 cut,
can be resumed.
"""

import argparse
import json
import os
import socket
import ssl
import struct
import sys
import time
from decimal import Decimal

try:
    import blake3
except ImportError:
    blake3 = None

HELLO, LOGIN, TICKET, LIST, GET = 0x01, 0x02, 0x03, 0x10, 0x13
WELCOME, REDIRECT, OPENED, WAIT, ASK_MASTER, ERROR = 0x81, 0x82, 0x83, 0x84, 0x85, 0x8F
ELSEWHERE, ALONE = 0x9B, 0x9C
ENTRIES, DONE, HEADER, BLOCK, END = 0x90, 0x91, 0x93, 0x94, 0x95
MASTER, SLAVE, STANDALONE = 0, 1, 2
CONTROL_CAP, BLOCK_CAP = 65536, 4194304
SILENCE, CONNECT_TIME, PATIENCE = 5, 3, 900
ALL = 2**64 - 1
CHANGED, BUSY, NO_SLAVE, DRAINING, BAD_REQUEST, UNSUPPORTED, TIMED_OUT = 6, 12, 13, 14, 15, 17, 18
PING, PONG, LATER, IGNORABLE = 0x16, 0x98, 0x2F, 0x3F
STAT_MANY, ENTRY_RESULTS = 0x18, 0x9D
SET_ATTRIBUTES, COPY, COMMITTED = 0x27, 0x28, 0x9A
ANY = b"\0"


class Refused(Exception):
    """The server answered with an error."""

    def __init__(self, code, message, retry_after):
        super().__init__(f"error {code}: {printable(message)}")
        self.code, self.retry_after = code, retry_after


class Broken(Exception):
    """The server violates the protocol."""


class Cut(Exception):
    """The transfer was cut, or --stop-after was reached; it can be resumed."""


def printable(text):
    return "".join(c if c.isprintable() else "?" for c in text)


def check_path(path):
    """Checks the rules of section 7 that a client must know before it sends a path."""
    if path and any(not is_part(part) for part in path.split("/")):
        raise SystemExit(f"bad name: {printable(path)}")
    if len(path.encode()) > 4095:
        raise SystemExit("the path is too long")


def is_part(part):
    control = any(ord(c) < 32 or 127 <= ord(c) < 160 for c in part)
    return part not in ("", ".", "..") and len(part.encode()) <= 255 and "/" not in part and not control


# Fields


def text(value):
    raw = value if isinstance(value, bytes) else value.encode()
    return struct.pack(">H", len(raw)) + raw


def mark(epoch, number):
    return struct.pack(">IQ", epoch, number)


class Fields:
    """Reads a payload from its first field to its last."""

    def __init__(self, payload):
        self.payload, self.at = payload, 0

    def take(self, count):
        if count > len(self.payload) - self.at:
            raise Broken("a frame is too short for its fields")
        self.at += count
        return self.payload[self.at - count : self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def flag(self):
        value = self.number("B")
        if value > 1:
            raise Broken(f"flag {value}")
        return value == 1

    def raw(self, cap):
        length = self.number("H")
        if length > cap:
            raise Broken(f"{length} bytes where {cap} are allowed")
        return self.take(length)

    def text(self, cap):
        try:
            return self.raw(cap).decode()
        except UnicodeDecodeError as error:
            raise Broken("a text is not UTF-8") from error

    def count(self, cap):
        count = self.number("H")
        if count > cap:
            raise Broken(f"{count} values where {cap} are allowed")
        return count

    def mark(self):
        return self.number("I"), self.number("Q")

    def option(self, read):
        return read() if self.flag() else None

    def address(self):
        family = self.number("B")
        if family not in (4, 6):
            raise Broken(f"address family {family}")
        ip = socket.inet_ntop(*((socket.AF_INET, self.take(4)) if family == 4 else (socket.AF_INET6, self.take(16))))
        return ip, self.number("H")

    def endpoint(self):
        slave = self.take(16)
        return slave, [self.address() for _ in range(self.count(8))]

    def optional(self):
        """Optional fields by tag. The caller ignores tags that it does not know."""
        fields, values, last = Fields(self.raw(65535)), {}, -1
        while not fields.done():
            tag = fields.number("B")
            if tag <= last:
                raise Broken(f"optional field {tag} after {last}")
            values[tag], last = Fields(fields.raw(65535)), tag
        return values

    def entry(self, may_be_root=False):
        entry = {"name": self.text(255), "kind": self.number("B"), "mode": self.number("H"), "size": self.number("Q")}
        entry["mtime"] = [self.number("q"), self.number("I")]
        entry["version"] = None
        if version := self.optional().get(1):
            entry["version"] = version.mark()
            version.finish()
        if entry["kind"] > 1 or not (is_part(entry["name"]) or may_be_root and not entry["name"]):
            raise Broken("a bad entry")
        entry["kind"] = "folder" if entry["kind"] else "file"
        return entry

    def done(self):
        return self.at == len(self.payload)

    def finish(self):
        if not self.done():
            raise Broken("a frame has bytes after its last field")


# Connections


# The TLS context, if connections are encrypted.
TLS = None


def trust(authority):
    """Encrypts all further connections, with servers that this authority has certified."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Certificates have the names of section 1, not host names.
    context.check_hostname = False
    context.load_verify_locations(authority)
    context.set_alpn_protocols(["relais"])
    return context


class Connection:
    def __init__(self, address):
        if address[1] == 0 or address[0] in ("0.0.0.0", "::"):
            raise Broken(f"{address} is not an address to connect to")
        self.address = address
        self.stream = socket.create_connection(address, CONNECT_TIME)
        self.stream.settimeout(SILENCE)
        self.stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if TLS is not None:
            self.stream = TLS.wrap_socket(self.stream)
            names = {name for kind, name in self.stream.getpeercert().get("subjectAltName", ()) if kind == "DNS"}
            if not names & {"master.relais.internal", "slave.relais.internal"}:
                raise Broken(f"the certificate of {address} is for {names}")

    def send(self, *frames):
        self.stream.sendall(b"".join(struct.pack(">IB", len(payload), kind) + payload for kind, payload in frames))

    def exactly(self, count):
        got = bytearray()
        while len(got) < count:
            some = self.stream.recv(min(count - len(got), 65536))
            if not some:
                raise ConnectionError("the server closed the connection")
            got += some
        return bytes(got)

    def frame(self):
        length, kind = struct.unpack(">IB", self.exactly(5))
        if length > (BLOCK_CAP if kind == BLOCK else CONTROL_CAP):
            raise Broken(f"a frame of type {kind:#x} announced {length} bytes")
        payload = self.exactly(length)
        # A frame of an ignorable type is skipped; this version has none.
        return self.frame() if kind & 0x30 == 0x30 else (kind, payload)

    def answer(self, *kinds):
        """Reads the next frame other than a keepalive; it must be of one of these types."""
        until = time.monotonic() + PATIENCE
        while True:
            kind, payload = self.frame()
            if kind == ERROR:
                fields = Fields(payload)
                refused = Refused(fields.number("H"), fields.text(1024), fields.number("H"))
                fields.finish()
                raise refused
            if kind == WAIT:
                if len(payload) != 1 or payload[0] > 4 or time.monotonic() > until:
                    raise Broken("a bad Wait, or no end of them")
                continue
            if kind == ALONE:
                if len(payload) != 8:
                    raise Broken("a bad Alone")
                continue
            if kind == ELSEWHERE:
                # A better client connects to one of the named holders.
                raise Refused(ELSEWHERE, "this slave does not have the content yet; try again in a moment", 0)
            if kind not in kinds:
                raise Broken(f"an unexpected frame of type {kind:#x}")
            return kind, Fields(payload)


def hello():
    return HELLO, b"RELA" + struct.pack(">BHHQ", 0, 1, 1, 0) + text("other_client 1")


def read_welcome(connection):
    _, fields = connection.answer(WELCOME)
    version, role = fields.number("H"), fields.number("B")
    fields.take(16)
    fields.number("Q")
    fields.text(1024)
    fields.finish()
    if version != 1 or role not in (MASTER, SLAVE, STANDALONE):
        raise Broken(f"version {version}, role {role}")
    return role


def read_opened(fields):
    fields.take(16)
    fields.mark()
    fields.flag()
    fields.finish()


def log_in(address, avoid=()):
    """The result of a login: an open session, a ticket with slaves, or the master's address."""
    connection = Connection(address)
    login = text("") + text(b"") + mark(0, 0) + struct.pack(">H", len(avoid)) + b"".join(avoid) + b"\0"
    connection.send(hello(), (LOGIN, login))
    read_welcome(connection)
    kind, fields = connection.answer(REDIRECT, OPENED, ASK_MASTER)
    if kind == OPENED:
        read_opened(fields)
        return "session", connection
    connection.stream.close()
    if kind == ASK_MASTER:
        return "master", fields.text(1024)
    ticket = fields.raw(8192)
    latest = fields.mark()
    slaves = [fields.endpoint() for _ in range(fields.count(17))]
    fields.finish()
    if not slaves or any(not addresses for _, addresses in slaves):
        raise Broken("a redirect to nowhere")
    return "slaves", (ticket, latest, slaves)


def show_ticket(address, ticket, latest):
    connection = Connection(address)
    connection.send(hello(), (TICKET, text(ticket) + mark(*latest)))
    read_welcome(connection)
    _, fields = connection.answer(OPENED)
    read_opened(fields)
    return connection


def host_port(name):
    host, _, port = name.rpartition(":")
    if not host or not port.isdigit():
        raise Broken(f"{printable(name)} is not HOST:PORT")
    return host.strip("[]"), int(port)


class Server:
    """Opens sessions, and remembers which slaves have failed."""

    def __init__(self, name):
        self.first, self.failed, self.current = host_port(name), [], None

    def session(self):
        kind, found = log_in(self.first, self.failed[-64:])
        if kind == "master":
            kind, found = log_in(host_port(found), self.failed[-64:])
            if kind == "master":
                raise Broken("the servers redirect in a circle")
        if kind == "session":
            self.current = None
            return found
        ticket, latest, slaves = found
        trouble = None
        for slave, addresses in slaves:
            for address in addresses:
                try:
                    connection = show_ticket(address, ticket, latest)
                except (OSError, Refused, Broken) as error:
                    trouble = error
                    continue
                self.current = slave
                return connection
        raise trouble

    def note_failure(self):
        if self.current and self.current not in self.failed:
            self.failed.append(self.current)


# Commands


def list_folder(server, path):
    connection = server.session()
    connection.send((LIST, text(path) + text("") + struct.pack(">I", 0)))
    entries, last = [], b""
    while True:
        kind, fields = connection.answer(ENTRIES, DONE)
        if kind == DONE:
            fields.mark()
            fields.finish()
            return {"command": "ls", "ok": True, "entries": entries, "slave": "%s:%d" % connection.address}
        while not fields.done():
            entry = fields.entry()
            if entry["name"].encode() <= last:
                raise Broken("names are not in order")
            last = entry["name"].encode()
            entries.append(entry)


def stat_many(server, paths):
    """Requests several entries at once; each has its own answer."""
    connection = server.session()
    connection.send((STAT_MANY, struct.pack(">H", len(paths)) + b"".join(text(path) for path in paths)))
    results = []
    while True:
        kind, fields = connection.answer(ENTRY_RESULTS, DONE)
        if kind == DONE:
            fields.mark()
            fields.finish()
            if len(results) != len(paths):
                raise Broken(f"{len(results)} results for {len(paths)} paths")
            return {"command": "stat", "ok": True, "entries": results}
        for _ in range(fields.count(1024)):
            if fields.flag():
                results.append({"error": fields.number("H"), "message": printable(fields.text(1024))})
                fields.number("H")
            else:
                entry = fields.entry(may_be_root=True)
                results.append(entry | {"digest": fields.option(lambda: fields.take(32).hex())})
        fields.finish()


def committed(connection):
    _, fields = connection.answer(COMMITTED)
    result = {"version": fields.mark(), "copies": fields.number("H")}
    fields.mark()
    result["digest"] = fields.option(lambda: fields.take(32).hex())
    fields.flag()
    fields.finish()
    return result


def copy(server, source, target, digest):
    """Copies a file on the server; a file at the target is replaced."""
    wanted = ANY if digest is None else b"\1" + bytes.fromhex(digest)
    connection = server.session()
    connection.send((COPY, os.urandom(16) + text(source) + text(target) + wanted + ANY + struct.pack(">H", 0)))
    result = committed(connection)
    if digest is not None and result["digest"] not in (None, digest):
        raise Broken("the copy has another digest than the requested one")
    return {"command": "cp", "ok": True} | result


def set_attributes(server, path, mode, mtime):
    """Sets permission bits, time of last modification, or both."""
    fields = []
    if mtime is not None:
        seconds = mtime // 1
        fields.append((1, struct.pack(">qI", int(seconds), int((mtime - seconds) * 10**9))))
    if mode is not None:
        fields.append((2, struct.pack(">H", mode)))
    optional = b"".join(struct.pack(">BH", tag, len(value)) + value for tag, value in fields)
    connection = server.session()
    connection.send((SET_ATTRIBUTES, os.urandom(16) + text(path) + ANY + text(optional)))
    return {"command": "set", "ok": True} | committed(connection)


def read_header(connection, wanted_offset):
    _, fields = connection.answer(HEADER)
    header = {name: fields.number("Q") for name in ("size", "offset", "length")}
    header["block_size"] = fields.number("I")
    fields.number("q")
    fields.number("I")
    fields.number("H")
    fields.option(fields.mark)
    header["digest"] = fields.option(lambda: fields.take(32).hex())
    header["identity"] = fields.take(16).hex()
    fields.finish()
    right = header["offset"] == wanted_offset and header["length"] == header["size"] - wanted_offset
    if not right or header["size"] >= 2**63 or not 1 <= header["block_size"] <= BLOCK_CAP:
        raise Broken("the header does not match the request")
    return header


class Part:
    """The bytes received so far, and the content to which they belong."""

    def __init__(self, local):
        self.path, self.note, self.content = local + ".part", local + ".part.json", {}
        try:
            with open(self.note) as note:
                self.content = json.load(note)
        except (OSError, ValueError):
            pass
        if not self.content or self.have() > self.content["size"]:
            self.drop()

    def have(self):
        return os.path.getsize(self.path) if os.path.exists(self.path) else 0

    def wanted(self):
        if self.content.get("digest"):
            return b"\1" + bytes.fromhex(self.content["digest"])
        if self.content.get("identity"):
            return b"\2" + bytes.fromhex(self.content["identity"])
        return b"\0"

    def learn(self, header):
        if self.content and self.content["size"] != header["size"]:
            return False
        if self.content.get("digest") and header["digest"] and self.content["digest"] != header["digest"]:
            raise Broken("the header has another digest than the requested one")
        known = self.content.get("digest") or header["digest"]
        self.content = {"size": header["size"], "digest": known, "identity": header["identity"]}
        with open(self.note, "w") as note:
            json.dump(self.content, note)
        return True

    def drop(self):
        self.content = {}
        for name in (self.path, self.note):
            if os.path.exists(name):
                os.remove(name)


def receive(connection, path, part, stop_after):
    """Requests the missing bytes. Returns the digest in End, or None if the download must restart."""
    offset = part.have()
    connection.send((GET, text(path) + struct.pack(">QQ", offset, ALL) + part.wanted()))
    header = read_header(connection, offset)
    if not part.learn(header):
        return None
    left, moved = header["length"], 0
    with open(part.path, "ab") as file:
        while left:
            _, fields = connection.answer(BLOCK)
            if len(fields.payload) != min(header["block_size"], left):
                raise Broken("a block of the wrong length")
            file.write(fields.payload)
            left -= len(fields.payload)
            moved += len(fields.payload)
            if stop_after is not None and moved >= stop_after:
                raise Cut("stopped after --stop-after bytes")
    _, fields = connection.answer(END)
    digest = fields.take(32).hex()
    fields.finish()
    if part.content["digest"] not in (None, digest):
        raise Broken("End has another digest than Header")
    return digest


def digest_of(path):
    if blake3 is None:
        return None
    hasher = blake3.blake3()
    with open(path, "rb") as file:
        while data := file.read(1 << 20):
            hasher.update(data)
    return hasher.hexdigest()


def fetch(server, path, part, stop_after):
    """Fetches all missing bytes, from several slaves if needed. Returns digest, offset and last slave."""
    began = part.have()
    for _ in range(10):
        connection = server.session()
        try:
            digest = receive(connection, path, part, stop_after)
            if digest:
                return digest, began, connection.address
            began = 0
            part.drop()
        except Refused as error:
            if error.code == CHANGED:
                began = 0
                part.drop()
            elif error.code in (DRAINING, TIMED_OUT):
                server.note_failure()
            else:
                raise
        except OSError:
            server.note_failure()
        finally:
            connection.stream.close()
    raise Cut("every attempt was cut or found other content")


def get(server, path, local, stop_after):
    part = Part(local)
    digest, began, address = fetch(server, path, part, stop_after)
    ours = digest_of(part.path)
    if ours not in (None, digest):
        part.drop()
        raise Broken("the content does not match its digest")
    os.replace(part.path, local)
    os.remove(part.note)
    size = os.path.getsize(local)
    result = {"command": "get", "ok": True, "remote": "/" + path, "local": local, "bytes": size, "resumed_from": began}
    return result | {"digest": digest, "verified": ours is not None, "slave": "%s:%d" % address}


def expect_error(connection, code):
    try:
        connection.answer()
    except Refused as error:
        if error.code == code:
            return
        raise
    raise Broken("an answer instead of an error")


def probe(server):
    """A request of a later version is unsupported; an unexpected request ends the session."""
    connection = server.session()
    connection.send((IGNORABLE, b"skipped"), (LATER, b"an unknown request"), (PING, b""))
    expect_error(connection, UNSUPPORTED)
    connection.answer(PONG)
    connection.send(hello(), (PING, b""))
    expect_error(connection, BAD_REQUEST)
    if connection.stream.recv(1):
        raise Broken("the session continues after an unexpected request")
    return {"command": "probe", "ok": True, "slave": "%s:%d" % connection.address}


def run(arguments):
    global TLS
    TLS = trust(arguments.ca) if arguments.ca else None
    server = Server(arguments.server)
    if arguments.command == "probe":
        return probe(server)
    if arguments.command == "stat":
        paths = [path.strip("/") for path in arguments.paths]
        for path in paths:
            check_path(path)
        return stat_many(server, paths)
    if arguments.command == "cp":
        source, target = arguments.source.strip("/"), arguments.target.strip("/")
        check_path(source)
        check_path(target)
        return copy(server, source, target, arguments.if_digest)
    path = arguments.path.strip("/")
    check_path(path)
    if arguments.command == "ls":
        return list_folder(server, path)
    if arguments.command == "set":
        return set_attributes(server, path, arguments.mode, arguments.mtime)
    return get(server, path, arguments.local, arguments.stop_after)


def main():
    parser = argparse.ArgumentParser(description="A small Relais client, written from docs/protocol.md alone.")
    parser.add_argument("--ca", metavar="FILE")
    parser.add_argument("server", metavar="HOST:PORT")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("ls").add_argument("path", nargs="?", default="")
    commands.add_parser("stat").add_argument("paths", nargs="+")
    commands.add_parser("probe")
    copying = commands.add_parser("cp")
    copying.add_argument("source")
    copying.add_argument("target")
    copying.add_argument("--if-digest", metavar="HEX")
    setting = commands.add_parser("set")
    setting.add_argument("path")
    setting.add_argument("--mode", type=lambda octal: int(octal, 8))
    setting.add_argument("--mtime", type=Decimal, metavar="SECONDS")
    getting = commands.add_parser("get")
    getting.add_argument("path")
    getting.add_argument("local")
    getting.add_argument("--stop-after", type=int)
    try:
        print(json.dumps(run(parser.parse_args())))
        return 0
    except Cut as error:
        print(error, file=sys.stderr)
        return 5
    except Refused as error:
        print(error, file=sys.stderr)
        return 3 if error.code in (BUSY, NO_SLAVE) else 1
    except Broken as error:
        print(f"the server violates the protocol: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"no server reached: {error}", file=sys.stderr)
        return 3


if __name__ == "__main__":
    sys.exit(main())
