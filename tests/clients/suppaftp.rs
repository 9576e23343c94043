//! The crate suppaftp, in the clear.

use std::io::Cursor;

use suppaftp::{FtpStream, Mode};

use crate::harness::content;
use crate::site::{EVERY_LOGIN, Login, Site, assert_same, file};

#[test]
fn reads_writes_resumes_and_lists() {
    for login in EVERY_LOGIN {
        // Without TLS an account may log in from this host only.
        let site = Site::start(login);
        for mode in [Mode::Passive, Mode::ExtendedPassive] {
            let mut ftp = FtpStream::connect(site.ftp.to_string()).unwrap();
            ftp.set_mode(mode);
            let (user, password) = site.user();
            ftp.login(user, password).unwrap();
            ftp.transfer_type(suppaftp::types::FileType::Binary).unwrap();
            let got = ftp.retr_as_buffer("large.bin").unwrap().into_inner();
            assert_same(&got, &file("large.bin"), "got");
            assert_eq!(ftp.size("large.bin").unwrap(), got.len());
            ftp.mdtm("large.bin").unwrap();
            let names = ftp.nlst(Some("docs")).unwrap();
            assert!(names.iter().any(|name| name.contains("ümläut.txt")), "{names:?}");
            assert!(ftp.list(Some("docs")).unwrap().len() >= 2);
            assert!(ftp.mlsd(Some("docs")).unwrap().len() >= 2);
            ftp.mkdir("new").unwrap();
            ftp.cwd("new").unwrap();
            let (first, second) = (content(1, 100_000), content(2, 50_000));
            assert_eq!(ftp.put_file("file", &mut Cursor::new(&first)).unwrap(), 100_000);
            ftp.append_file("file", &mut Cursor::new(&second)).unwrap();
            assert_same(&site.served("new/file"), &[first, second].concat(), "appended");
            ftp.rename("file", "moved").unwrap();
            ftp.rm("moved").unwrap();
            ftp.cdup().unwrap();
            ftp.rmdir("new").unwrap();
            ftp.quit().unwrap();
        }
        if login == Login::Account {
            let mut ftp = FtpStream::connect(site.ftp.to_string()).unwrap();
            assert!(ftp.login("ann", "wrong").is_err());
        }
    }
}
