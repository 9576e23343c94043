//! Python's ftplib, driven by a script.

use crate::site::{EVERY_LOGIN, EVERY_TLS, Site, Tls, assert_same, file, python};

const SCRIPT: &str = r#"
import ftplib, hashlib, io, socket, ssl, sys

host, port, tls, user, password = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
context = ssl._create_unverified_context()

class Implicit(ftplib.FTP_TLS):
    """FTP over TLS from the first byte, which ftplib has no class for."""
    def connect(self, *args, **options):
        self.sock = socket.create_connection((host, port), 20)
        self.af, self.host = self.sock.family, host
        self.sock = context.wrap_socket(self.sock, server_hostname=host)
        self.file = self.sock.makefile("r", encoding=self.encoding)
        self.welcome = self.getresp()
        return self.welcome

if tls == "Clear":
    ftp = ftplib.FTP(timeout=20)
elif tls == "Explicit":
    ftp = ftplib.FTP_TLS(context=context, timeout=20)
else:
    ftp = Implicit(context=context, timeout=20)
ftp.connect(host, port)
if tls == "Implicit":
    ftplib.FTP.login(ftp, user, password)
else:
    ftp.login(user, password)
if tls != "Clear":
    ftp.prot_p()
assert ftp.pwd() == "/"
got = io.BytesIO()
ftp.retrbinary("RETR large.bin", got.write)
part = io.BytesIO()
ftp.retrbinary("RETR large.bin", part.write, rest=1000000)
assert part.getvalue() == got.getvalue()[1000000:]
open("got", "wb").write(got.getvalue())
facts = dict(ftp.mlsd("docs"))
assert facts["ümläut.txt"]["size"] == "70000", facts
listed = sorted(name.rsplit("/")[-1] for name in ftp.nlst("docs"))
assert listed == sorted(n for n in facts if n not in (".", ".."))
assert ftp.size("large.bin") == 3000001
assert len(ftp.voidcmd("MDTM large.bin").split()[1]) >= 14
name = "up-" + tls
assert ftp.mkd(name) == "/" + name
ftp.cwd(name)
ftp.storbinary("STOR file", io.BytesIO(got.getvalue()))
ftp.storbinary("APPE file", io.BytesIO(b"the end"))
ftp.storlines("STOR lines", io.BytesIO(b"one\r\ntwo\nthree"))
lines = []
ftp.retrlines("RETR lines", lines.append)
assert lines == ["one", "two", "three"], lines
ftp.rename("lines", "renamed")
ftp.delete("renamed")
try:
    ftp.cwd("/nowhere")
    raise SystemExit("a missing folder was entered")
except ftplib.error_perm as e:
    assert str(e).startswith("550"), e
conn, size = ftp.ntransfercmd("RETR /large.bin")
conn.recv(1000)
ftp.abort() if tls == "Clear" else ftp.putcmd("ABOR")
conn.close()
while True:
    reply = ftp.getmultiline() if tls != "Clear" else "226"
    if reply[0] == "2":
        break
ftp.sendcmd("NOOP") if tls != "Clear" else None
ftp.close()
"#;

#[test]
fn all_methods() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        for tls in EVERY_TLS {
            python(&site, tls, SCRIPT);
            let what = format!("{login:?} {tls:?}");
            assert_same(&std::fs::read(site.local("got")).unwrap(), &file("large.bin"), &what);
            let stored = site.served(&format!("up-{tls:?}/file"));
            assert_same(&stored, &[file("large.bin"), b"the end".to_vec()].concat(), &what);
        }
        assert_ne!(site.addr(Tls::Clear), site.addr(Tls::Implicit));
    }
}
