use super::*;

/// Returns the lines of an input, in pieces of each size.
fn lines(input: &[u8]) -> Vec<Result<Vec<u8>, LineError>> {
    let all = |size: usize| {
        let mut buffer = LineBuffer::default();
        let mut found = Vec::new();
        for piece in input.chunks(size) {
            buffer.push(piece);
            found.extend(std::iter::from_fn(|| buffer.next_line()));
        }
        found
    };
    let whole = all(input.len().max(1));
    for size in 1..=3 {
        assert_eq!(all(size), whole, "in pieces of {size}");
    }
    whole
}

fn ok(line: &[u8]) -> Result<Vec<u8>, LineError> {
    Ok(line.to_vec())
}

#[test]
fn lines_end_with_crlf_or_lf() {
    assert_eq!(lines(b"NOOP\r\nPWD\n\r\nQUIT"), [ok(b"NOOP"), ok(b"PWD"), ok(b"")]);
    assert_eq!(lines("CWD  é \r\n".as_bytes()), [ok("CWD  é ".as_bytes())]);
}

#[test]
fn bad_characters_fail_one_line() {
    for bad in [&b"RETR a\0b"[..], b"RETR a\rb", b"RETR a\r\0", b"RETR a\r\r", b"\0"] {
        let input = [bad, b"\r\nNOOP\r\n"].concat();
        assert_eq!(lines(&input), [Err(LineError::BadCharacter), ok(b"NOOP")], "{bad:?}");
    }
}

#[test]
fn over_long_line_fails_once() {
    let longest = vec![b'x'; LINE_MAX];
    assert_eq!(lines(&[&longest[..], b"\r\n"].concat()), [ok(&longest)]);
    let long = vec![b'x'; 10 * LINE_MAX + 1];
    let input = [&long[..], b"\r\nNOOP\r\n"].concat();
    assert_eq!(lines(&input), [Err(LineError::TooLong), ok(b"NOOP")]);
}

#[test]
fn memory_of_an_unfinished_line_is_bounded() {
    let mut buffer = LineBuffer::default();
    for _ in 0..1000 {
        buffer.push(&[b'x'; 1000]);
        assert_eq!(buffer.next_line(), None);
        assert!(buffer.pending_len() <= LINE_MAX);
        assert!(buffer.line.capacity() + buffer.input.capacity() <= 4 * LINE_MAX);
    }
    buffer.push(b"\nNOOP\n");
    assert_eq!(buffer.next_line(), Some(Err(LineError::TooLong)));
    assert_eq!(buffer.next_line(), Some(ok(b"NOOP")));
    assert!(buffer.is_empty());
}

#[test]
fn telnet_commands_are_removed() {
    for (input, line) in [
        // ABOR as clients send it, and as it arrives if the kernel keeps the urgent byte.
        (&b"\xff\xf4\xff\xf2ABOR\r\n"[..], &b"ABOR"[..]),
        (b"\xff\xf4\xf2ABOR\r\n", b"ABOR"),
        (b"\xff\xf4\xffABOR\r\n", b"ABOR"),
        (b"\xff\xfb\x0aNOOP\r\n", b"NOOP"),
        (b"NO\xff\xfd\x01OP\r\xff\xf1\n", b"NOOP"),
        (b"\xff\xfe\xff\xff\xfc\xffNOOP\n", b"NOOP"),
        (b"RETR \xff\xff\r\n", b"RETR \xff"),
        (b"RETR \xf2\x80\x80\x80\r\n", b"RETR \xf2\x80\x80\x80"),
    ] {
        assert_eq!(lines(input), [ok(line)], "{input:?}");
    }
}

#[test]
fn a_broken_telnet_command_fails_one_line() {
    // A client that sends Latin-1: "DELE \u{ff}a" must not delete "a".
    assert_eq!(lines(b"DELE \xffa\r\nNOOP\r\n"), [Err(LineError::BadCharacter), ok(b"NOOP")]);
    assert_eq!(lines(b"DELE a\xff\r\nNOOP\r\n"), [Err(LineError::BadCharacter), ok(b"NOOP")]);
    assert_eq!(lines(b"DELE a\xff\nNOOP\r\n"), [Err(LineError::BadCharacter), ok(b"NOOP")]);
}

#[test]
fn clear_drops_lines_and_state() {
    for input in [&b"NOOP\r\nQUIT"[..], b"QUIT\r", b"QUIT\0", b"\xff\xfb"] {
        let mut buffer = LineBuffer::default();
        buffer.push(input);
        assert!(!buffer.is_empty());
        assert_ne!(buffer.next_line(), Some(ok(b"QUIT")));
        buffer.clear();
        assert!(buffer.is_empty());
        buffer.push(b"PWD\r\n");
        assert_eq!(buffer.next_line(), Some(ok(b"PWD")));
    }
}

#[test]
fn pending_bytes_are_counted() {
    let mut buffer = LineBuffer::default();
    buffer.push(b"NOOP\r\nPWD\r\nQU");
    assert_eq!(buffer.pending_len(), 13);
    assert_eq!(buffer.next_line(), Some(ok(b"NOOP")));
    assert_eq!(buffer.pending_len(), 7);
    assert_eq!(buffer.next_line(), Some(ok(b"PWD")));
    assert_eq!(buffer.next_line(), None);
    assert_eq!(buffer.pending_len(), 2);
}

#[test]
fn lines_that_are_put_back_come_first() {
    let mut buffer = LineBuffer::default();
    buffer.push(b"third\r\nfour");
    buffer.put_back([Ok(b"first".to_vec()), Err(LineError::TooLong)].into());
    assert_eq!(buffer.pending_len(), 6 + 1 + 11);
    let mut lines = || buffer.next_line();
    assert_eq!(lines(), Some(Ok(b"first".to_vec())));
    assert_eq!(lines(), Some(Err(LineError::TooLong)));
    assert_eq!(lines(), Some(Ok(b"third".to_vec())));
    assert_eq!(lines(), None);
    buffer.put_back([Ok(b"USER injected".to_vec())].into());
    buffer.clear();
    assert!(buffer.is_empty() && buffer.next_line().is_none());
}
