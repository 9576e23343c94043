//! Tests of the harness's proxy: a fault strikes at the exact byte, on which other tests rely.

use crate::harness::{FakeServer, Fault, Proxy, RawClient, block, get, header};

/// Starts a slave with one file of 10 bytes in blocks of 4.
fn server() -> FakeServer {
    FakeServer::standalone(|_| {
        let digest = relais_proto::Digest([5; 32]);
        let mut bytes =
            FakeServer::encoded(&[relais_proto::Reply::ContentHeader(header(10, 0, 4))]);
        [&b"0123"[..], b"4567", b"89"].iter().for_each(|b| bytes.extend(block(b)));
        bytes.extend(FakeServer::encoded(&[relais_proto::Reply::End { digest }]));
        bytes
    })
}

/// Returns the content received before the end of the connection, and whether its end was received.
fn received(proxy: &Proxy) -> (Vec<u8>, bool) {
    let mut wire = RawClient::connect(proxy.addr());
    wire.send(&[get("f")]);
    let mut content = Vec::new();
    loop {
        match wire.block_bytes() {
            Some((bytes, end)) => {
                content.extend(bytes);
                if end {
                    return (content, true);
                }
            }
            None => return (content, false),
        }
    }
}

#[test]
fn a_cut_lets_exactly_n_bytes_of_content_pass() {
    let server = server();
    for n in 0..=10_u8 {
        let proxy = Proxy::to(server.addr);
        proxy.fault_at_content(n.into(), Fault::Cut);
        assert_eq!(received(&proxy), (b"0123456789"[..n.into()].to_vec(), false), "cut at {n}");
        assert!(proxy.struck());
    }
    let proxy = Proxy::to(server.addr);
    proxy.fault_at_content(11, Fault::Cut);
    assert_eq!(received(&proxy), (b"0123456789".to_vec(), true));
    assert!(!proxy.struck());
    assert_eq!(proxy.take_content_bytes(), 10);
}

#[test]
fn a_stall_passes_all_once_it_is_released() {
    let server = server();
    for n in 0..=10 {
        let proxy = Proxy::to(server.addr);
        proxy.fault_at_content(n, Fault::Stall);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| received(&proxy));
            proxy.wait_struck();
            assert_eq!(proxy.take_content_bytes(), n);
            proxy.release();
            assert_eq!(reader.join().unwrap(), (b"0123456789".to_vec(), true));
        });
    }
}

#[test]
fn a_flip_turns_one_bit_of_content() {
    let server = server();
    for n in 0..10_u8 {
        let proxy = Proxy::to(server.addr);
        proxy.fault_at_content(n.into(), Fault::FlipBit);
        let mut expected = b"0123456789".to_vec();
        expected[usize::from(n)] ^= 1;
        assert_eq!(received(&proxy), (expected, true), "flipped at {n}");
    }
}

#[test]
fn a_stall_at_any_byte_changes_nothing() {
    let server = server();
    for n in 0..60 {
        let proxy = Proxy::to(server.addr);
        proxy.fault_down(n, Fault::Stall);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| received(&proxy));
            proxy.wait_struck();
            proxy.release();
            assert_eq!(reader.join().unwrap(), (b"0123456789".to_vec(), true), "stalled at {n}");
        });
    }
}
