//! The table: lines, and the codes of their replies.

/// A line and the code of its last reply in four states.
pub struct Row {
    pub line: &'static str,
    /// Before USER, after USER, for a user that may read, and for one that may write.
    pub codes: [u16; 4],
    /// Commands before it, whose replies do not matter.
    pub before: &'static [&'static str],
    /// Whether a data connection is opened before it.
    pub has_data: bool,
    /// Whether the connection is not used for further rows.
    pub is_last: bool,
}

impl Row {
    const fn after(mut self, before: &'static [&'static str]) -> Self {
        self.before = before;
        self
    }

    const fn with_data(mut self) -> Self {
        self.has_data = true;
        self
    }

    const fn last(mut self) -> Self {
        self.is_last = true;
        self
    }
}

/// The codes of all four states.
const fn each(line: &'static str, codes: [u16; 4]) -> Row {
    Row { line, codes, before: &[], has_data: false, is_last: false }
}

/// The same code in every state.
const fn always(line: &'static str, code: u16) -> Row {
    each(line, [code; 4])
}

/// The same code for both users, and 530 before the login.
const fn users(line: &'static str, code: u16) -> Row {
    each(line, [530, 530, code, code])
}

/// 530 before the login, 550 for a user that may only read.
const fn writer(line: &'static str, code: u16) -> Row {
    each(line, [530, 530, 550, code])
}

/// Rows in the order in which they are sent: later ones see what earlier ones have changed.
pub const ROWS: &[Row] = &[
    // RFC 959, section 5.4: no such command, one that is not offered, an over-long line.
    always("XYZZY", 500),
    always("", 500),
    always("ACCT x", 502),
    always("CCC", 502),
    always("SMNT /", 502),
    // Login.
    each("USER reader", [331, 331, 503, 503]).last(),
    always("USER", 501),
    each("PASS wrong", [503, 530, 503, 503]).last(),
    each("PASS", [503, 530, 503, 503]).last(),
    each("PASS the password of reader", [503, 230, 503, 503]).last(),
    always("REIN x", 501),
    always("REIN", 220).last(),
    always("QUIT x", 501),
    always("QUIT", 221).last(),
    each("HOST localhost", [220, 503, 503, 503]),
    always("HOST", 501),
    always("HOST a b", 501),
    // Information.
    always("NOOP", 200),
    always("NOOP x", 501),
    always("FEAT", 211),
    always("FEAT x", 501),
    always("HELP", 214),
    always("HELP RETR", 214),
    always("HELP XYZZY", 501),
    always("SYST", 215),
    always("SYST x", 501),
    always("CLNT test", 200),
    always("CLNT", 501),
    always("LANG", 200),
    always("LANG en", 200),
    always("LANG xx", 504),
    always("LANG a b", 501),
    users("STAT", 211),
    users("STAT f", 213),
    users("STAT dir", 213),
    users("STAT none", 550),
    always("STAT -R", 504),
    // Options and parameters.
    always("OPTS UTF8 ON", 200),
    always("OPTS UTF8 OFF", 504),
    always("OPTS MLST type;", 200),
    always("OPTS HASH", 200),
    always("OPTS HASH MD5", 200),
    always("OPTS HASH X", 504),
    always("OPTS X", 501),
    always("OPTS", 501),
    users("TYPE A", 200),
    users("TYPE L 8", 200),
    users("TYPE I", 200),
    always("TYPE E", 504),
    always("TYPE X", 501),
    always("TYPE", 501),
    users("STRU F", 200),
    always("STRU R", 504),
    always("STRU X", 501),
    always("STRU", 501),
    users("MODE S", 200),
    always("MODE Z", 504),
    always("MODE X", 501),
    always("MODE", 501),
    // Security, on a connection in the clear.
    each("AUTH TLS", [234, 234, 503, 503]).last(),
    always("AUTH X", 504),
    always("AUTH", 501),
    always("PBSZ 0", 503),
    always("PBSZ x", 501),
    always("PBSZ", 501),
    always("PROT P", 503),
    always("PROT S", 536),
    always("PROT X", 504),
    always("PROT", 501),
    // Addresses.
    users("PASV", 227),
    always("PASV x", 501),
    users("EPSV", 229),
    users("EPSV 1", 229),
    users("EPSV 2", 522),
    always("EPSV 3", 522),
    always("EPSV x", 501),
    users("PORT 127,0,0,1,200,0", 200),
    users("PORT 127,0,0,1,0,21", 504),
    users("PORT 192,0,2,1,200,0", 501),
    always("PORT 1,2,3", 501),
    always("PORT", 501),
    users("EPRT |1|127.0.0.1|50000|", 200),
    users("EPRT |1|192.0.2.1|50000|", 501),
    users("EPRT |2|::1|50000|", 522),
    always("EPRT |3|x|1|", 522),
    always("EPRT x", 501),
    always("EPRT", 501),
    users("EPSV ALL", 200).last(),
    users("PASV", 503).after(&["EPSV ALL"]).last(),
    users("PORT 127,0,0,1,200,0", 503).after(&["EPSV ALL"]).last(),
    // Folders.
    users("PWD", 257),
    always("PWD x", 501),
    users("XPWD", 257),
    always("XPWD x", 501),
    users("CWD dir", 250),
    users("CWD /dir/../dir/.", 250),
    users("CWD none", 550),
    users("CWD f", 550),
    users("CWD ..", 550),
    users("CWD .relais", 550),
    always("CWD", 501),
    users("XCWD dir", 250),
    always("XCWD", 501),
    users("CDUP", 250).after(&["CWD dir"]),
    users("CDUP", 550),
    always("CDUP x", 501),
    users("XCUP", 250).after(&["CWD dir"]),
    always("XCUP x", 501),
    // Facts.
    users("SIZE f", 213),
    users("SIZE none", 550),
    users("SIZE dir", 550),
    always("SIZE", 501),
    users("MDTM f", 213),
    users("MDTM none", 550),
    always("MDTM", 501),
    users("MLST", 250),
    users("MLST f", 250),
    users("MLST none", 550),
    users("AVBL", 213),
    users("AVBL dir", 213),
    users("AVBL none", 550),
    users("HASH f", 213),
    users("HASH none", 550),
    users("HASH dir", 553),
    always("HASH", 501),
    users("XCRC f", 250),
    users("XCRC \"f\" 0 4", 250),
    users("XCRC none", 550),
    always("XCRC \"f\" 4 0", 501),
    always("XCRC", 501),
    users("XMD5 f", 250),
    users("XMD5 none", 550),
    always("XMD5", 501),
    users("XSHA256 f", 250),
    users("XSHA256 none", 550),
    always("XSHA256", 501),
    // Listings.
    users("LIST", 226).with_data(),
    users("LIST -la", 226).with_data(),
    users("LIST dir", 226).with_data(),
    users("LIST *", 226).with_data(),
    users("LIST none", 550).with_data(),
    users("LIST", 425),
    always("LIST -lR", 504),
    users("NLST", 226).with_data(),
    users("NLST none", 550).with_data(),
    users("NLST", 425),
    always("NLST -R", 504),
    users("MLSD", 226).with_data(),
    users("MLSD dir", 226).with_data(),
    users("MLSD none", 550).with_data(),
    users("MLSD f", 501).with_data(),
    users("MLSD", 425),
    // Downloads.
    users("REST 2", 350),
    always("REST x", 501),
    always("REST", 501),
    users("RANG 1 2", 350),
    users("RANG 1 0", 350),
    users("RANG 2 1", 501),
    always("RANG 1", 501),
    always("RANG", 501),
    users("RETR f", 226).with_data(),
    users("RETR f", 226).with_data().after(&["TYPE A"]).last(),
    users("RETR f", 226).with_data().after(&["REST 3"]),
    users("RETR f", 226).with_data().after(&["RANG 1 3"]),
    users("RETR f", 226).with_data().after(&["RANG 100 200"]),
    users("HASH f", 554).after(&["RANG 100 200"]),
    users("APPE f", 503).with_data().after(&["RANG 1 3"]),
    users("STOU", 503).with_data().after(&["RANG 1 3"]),
    users("RETR f", 554).with_data().after(&["REST 100"]),
    users("RETR none", 550).with_data(),
    users("RETR dir", 550).with_data(),
    users("RETR .relais/x", 550).with_data(),
    users("RETR f", 425),
    always("RETR", 501),
    users("ABOR", 225),
    always("ABOR x", 501),
    // Changes.
    users("ALLO 10", 200),
    users("ALLO 10 R 5", 200),
    users("ALLO 9223372036854775807", 552),
    always("ALLO x", 501),
    always("ALLO", 501),
    // Fewer bytes than announced.
    writer("STOR new", 426).with_data().after(&["ALLO 10"]),
    writer("STOR new", 226).with_data(),
    writer("STOR new", 226).with_data().after(&["TYPE A"]).last(),
    writer("STOR none/new", 550).with_data(),
    writer("STOR dir", 550).with_data(),
    users("STOR .relais/x", 550).with_data(),
    users("STOR a\u{85}b", 553).with_data(),
    users("STOR new", 425),
    always("STOR", 501),
    writer("APPE new", 226).with_data(),
    writer("APPE dir", 550).with_data(),
    users("APPE new", 425),
    always("APPE", 501),
    writer("STOU", 226).with_data(),
    writer("STOU hint", 226).with_data(),
    users("STOU", 425),
    writer("STOU none/x", 550).with_data(),
    writer("MKD made", 257),
    writer("MKD made", 550),
    writer("MKD none/made", 550),
    users("MKD .relais", 550),
    always("MKD", 501),
    writer("XMKD made/inner", 257),
    always("XMKD", 501),
    writer("RMD made", 550),
    users("RMD none", 550),
    users("RMD f", 550),
    users("RMD /", 550),
    always("RMD", 501),
    writer("XRMD made/inner", 250),
    always("XRMD", 501),
    writer("RMD made", 250),
    writer("DELE victim", 250),
    users("DELE none", 550),
    users("DELE dir", 550),
    always("DELE", 501),
    users("RNFR old", 350),
    users("RNFR none", 550),
    always("RNFR", 501),
    users("RNTO new", 503),
    writer("RNTO renamed", 250).after(&["RNFR old"]),
    users("RNTO renamed", 503).after(&["RNFR f", "NOOP"]),
    always("RNTO", 501),
    writer("MFMT 20200101000000 f", 213),
    users("MFMT 20200101000000 none", 550),
    always("MFMT 2020 f", 501),
    always("MFMT", 501),
    writer("MDTM 20200101000000 f", 213),
    each("SITE HELP", [530, 530, 214, 214]),
    users("SITE HELP X", 501),
    writer("SITE CHMOD 640 f", 200),
    users("SITE CHMOD 640 none", 550),
    always("SITE CHMOD 4755 f", 504),
    always("SITE CHMOD x f", 501),
    always("SITE CHMOD", 501),
    writer("SITE UTIME 202001010000 f", 200),
    writer("SITE UTIME f 20200101000000 20200101000000 20200101000000 UTC", 200),
    users("SITE UTIME 202001010000 none", 550),
    always("SITE UTIME x f", 501),
    always("SITE UTIME", 501),
    always("SITE X", 500),
    always("SITE", 501),
];
