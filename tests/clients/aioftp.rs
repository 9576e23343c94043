//! Python's aioftp, which uses EPSV and MLSD.

use crate::site::{EVERY_LOGIN, EVERY_TLS, Site, Tls, assert_same, file, python};

const SCRIPT: &str = r#"
import asyncio, pathlib, ssl, sys
import aioftp

host, port, tls, user, password = sys.argv[1], int(sys.argv[2]), *sys.argv[3:6]
context = ssl._create_unverified_context()

async def main():
    options = {"ssl": context} if tls == "Implicit" else {}
    async with aioftp.Client.context(host, port, user, password, **options) as client:
        await client.download("large.bin", "got", write_into=True)
        names = [path.name async for path, _ in client.list("docs")]
        assert "ümläut.txt" in names, names
        await client.make_directory("aio")
        await client.upload("got", "aio/sent", write_into=True)
        stat = await client.stat("aio/sent")
        assert stat["size"] == "3000001", stat
        await client.rename("aio/sent", "aio/moved")
        async with client.download_stream("aio/moved", offset=2999990) as stream:
            assert await stream.read() == pathlib.Path("got").read_bytes()[2999990:]
        if pathlib.Path("docs").exists():
            await client.upload("docs", "aio", write_into=False)
        await client.remove("aio")

asyncio.run(main())
"#;

#[test]
fn downloads_uploads_and_lists() {
    for login in EVERY_LOGIN {
        let site = Site::start(login);
        // This version knows no explicit TLS. It encrypts data connections before its command.
        for tls in EVERY_TLS.into_iter().filter(|tls| *tls != Tls::Explicit) {
            python(&site, tls, SCRIPT);
            let got = std::fs::read(site.local("got")).unwrap();
            assert_same(&got, &file("large.bin"), &format!("{login:?} {tls:?}"));
            assert!(!site.slave.root.join("aio").exists(), "the folder was removed");
        }
    }
}
