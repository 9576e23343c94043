//! Chunked bodies as clients and attackers send them, in pieces of any size.

use super::*;

/// Decodes in pieces; returns the data and the rest behind the body.
fn decode(bytes: &[u8], piece: usize) -> Result<(Vec<u8>, Option<Vec<u8>>), RequestError> {
    let mut decoder = ChunkedDecoder::default();
    let (mut data, mut input) = (Vec::new(), Vec::new());
    let mut pieces = bytes.chunks(piece);
    loop {
        let progress = decoder.decode(&input)?;
        input.drain(..progress.skip);
        data.extend(input.drain(..progress.data));
        if progress.has_ended {
            input.extend(pieces.flatten());
            return Ok((data, Some(input)));
        }
        if progress.data == 0 {
            match pieces.next() {
                Some(piece) => input.extend(piece),
                None => return Ok((data, None)),
            }
        }
    }
}

#[test]
fn bodies_end_with_the_last_chunk() {
    for (text, data) in [
        ("0\r\n\r\nGET", ""),
        ("5\r\nhello\r\n0\r\n\r\nGET", "hello"),
        ("5;a=b\r\nhello\r\n000\r\n\r\nGET", "hello"),
        ("A ; a=\"b\"\r\n0123456789\r\n1\r\nx\r\n0\r\nX: y\r\nZ:\r\n\r\nGET", "0123456789x"),
        ("2\r\n\r\n\r\n0\r\n\r\nGET", "\r\n"),
    ] {
        for piece in [1, 2, 3, 100] {
            let decoded = decode(text.as_bytes(), piece).unwrap();
            assert_eq!(decoded, (data.into(), Some(b"GET".to_vec())), "{text:?} {piece}");
        }
    }
}

#[test]
fn incomplete_bodies_do_not_end() {
    let text = "5\r\nhello\r\n0\r\nX: y\r\n\r\n";
    for len in 0..text.len() {
        assert_eq!(decode(&text.as_bytes()[..len], 7).unwrap().1, None, "{len}");
    }
}

#[test]
fn malformed_chunks_are_rejected() {
    let long = "1".to_owned() + &";".repeat(limits::CHUNK_LINE) + "\r\n";
    let trailers = "0\r\n".to_owned() + &"X: y\r\n".repeat(limits::TRAILERS / 6 + 1);
    let trailer = "0\r\nX: ".to_owned() + &"y".repeat(limits::TRAILERS);
    for text in [
        "\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "1 \r\n",
        "1 x\r\n",
        "1_0\r\n",
        "5\nhello",
        "5\rhello",
        "5\r\r\nhello",
        "5\r\nhello0\r\n",
        "5\r\nhello\n",
        "5\r\nhello\rx",
        "5\r\nhello!\r\n",
        "0\r\n\n",
        "0\r\nX: y\n\r\n",
        "5;\0\r\n",
        "0\r\n\u{1}: y\r\n",
        "10000000000000000\r\n",
        "00000000000000001\r\n",
        &long,
        &trailers,
        &trailer,
    ] {
        assert!(decode(text.as_bytes(), 1).is_err(), "{text:?}");
        assert!(decode(text.as_bytes(), 9999).is_err(), "{text:?}");
    }
}

#[test]
fn encoded_chunks_are_decoded() {
    let mut body = Vec::new();
    for data in [&b"a"[..], &[7; 300]] {
        body.extend(ChunkedEncoder::head(data.len()));
        body.extend(data);
        body.extend(ChunkedEncoder::DATA_END);
    }
    body.extend(ChunkedEncoder::END);
    let (data, rest) = decode(&body, 50).unwrap();
    assert_eq!((data.len(), rest), (301, Some(Vec::new())));
}
