use super::element::Element;
use super::parse::parse;
use crate::limits::{ATTRIBUTES_MAX, BODY_MAX, DEPTH_MAX, ELEMENTS_MAX, NAMESPACES_MAX};

/// Reads a body; fails with the status.
fn read(body: &str) -> Result<Element, u16> {
    parse(body.as_bytes()).map_err(|error| error.status.code())
}

#[test]
fn names_have_the_namespace_of_their_prefix() {
    for (body, namespace, local) in [
        ("<a/>", "", "a"),
        ("<a xmlns='DAV:'/>", "DAV:", "a"),
        ("<D:a xmlns:D=\"DAV:\"/>", "DAV:", "a"),
        ("<D:a xmlns:D=\"&#68;AV&#x3a;\"></D:a>", "DAV:", "a"),
        (
            "<?xml version=\"1.0\" encoding=\"utf-8\" ?>\n<!-- c --><é xmlns='urn:x'/>\n",
            "urn:x",
            "é",
        ),
        ("<xml:a/>", "http://www.w3.org/XML/1998/namespace", "a"),
    ] {
        let name = read(body).unwrap().name;
        assert_eq!((&*name.namespace, &*name.local), (namespace, local), "{body}");
    }
}

#[test]
fn inner_declarations_hide_outer_ones() {
    let body = "<a xmlns='1' xmlns:p='2'><p:b xmlns:p='3' xmlns=''><c/><p:d/></p:b><p:e/><f/></a>";
    let root = read(body).unwrap();
    let b = root.elements().next().unwrap();
    let all = root.elements().chain(b.elements());
    let names: Vec<_> = all.map(|e| format!("{}{}", e.name.namespace, e.name.local)).collect();
    assert_eq!(names, ["3b", "2e", "1f", "c", "3d"]);
}

#[test]
fn text_is_without_escapes() {
    let root = read("<a> &lt;&#x41;&amp;&quot;<![CDATA[<&]]><!-- no --><b>x</b>z\r\n</a>").unwrap();
    assert_eq!(root.text(), " <A&\"<&z\n");
}

#[test]
fn utf_16_is_read() {
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let units = "\u{FEFF}<a>\u{1F600}</a>".encode_utf16();
        let bytes: Vec<u8> = units.flat_map(to_bytes).collect();
        assert_eq!(parse(&bytes).unwrap().text(), "\u{1F600}");
        assert_eq!(parse(&bytes[..bytes.len() - 1]).unwrap_err().status.code(), 400);
    }
    assert_eq!(parse(b"\xEF\xBB\xBF<a/>").unwrap().name.local, "a");
}

#[test]
fn hostile_bodies_are_refused() {
    let lol = "<!DOCTYPE l [<!ENTITY a \"lol\"><!ENTITY b \"&a;&a;\">]><l>&b;</l>";
    let external = "<!DOCTYPE l [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><l>&x;</l>";
    for body in [
        "",
        " ",
        "x",
        "<a>",
        "<a></b>",
        "</a>",
        "<a/><b/>",
        "<a/>x",
        "x<a/>",
        "<a/>&lt;",
        "<a/><![CDATA[ ]]>",
        "<a>&x;</a>",
        "<a>&#0;</a>",
        "<a>&#xFFFF;</a>",
        "<a>& b</a>",
        "<a>\u{1}</a>",
        "<a>]]></a>",
        "<p:a/>",
        "<a p:b='1'/>",
        "<a xmlns:p=''/>",
        "<a xmlns:xmlns='x'/>",
        "<a xmlns:xml='x'/>",
        "<a xmlns:p='http://www.w3.org/2000/xmlns/'/>",
        "<a xmlns='http://www.w3.org/2000/xmlns/'/>",
        "<p:a:b xmlns:p='x'/>",
        "<p: xmlns:p='x'/>",
        "<:a/>",
        "<1a/>",
        "<a b='1' b='2'/>",
        "<a b/>",
        "<a b=c/>",
        "<a xmlns:p='x' xmlns:q='x' p:b='1' q:b='2'/>",
        "<a b='<'/>",
        "<a b='&x;'/>",
        "<a b='&#1;'/>",
        "<a/><?xml version='1.0'?>",
        lol,
        external,
        "<!DOCTYPE a><a/>",
        "<a><!-- -- --></a>",
    ] {
        assert_eq!(read(body).err(), Some(400), "{body}");
    }
    let latin = "<?xml version='1.0' encoding='ISO-8859-1'?><a/>";
    assert_eq!(read(latin).err(), Some(415));
    assert_eq!(parse(b"<a>\xFF</a>").unwrap_err().status.code(), 400);
}

#[test]
fn caps_hold() {
    let nested = |depth: usize| format!("{}{}", "<a>".repeat(depth), "</a>".repeat(depth));
    let many = |count: usize| format!("<a>{}</a>", "<b/>".repeat(count - 1));
    let wide = |count: usize| {
        let attributes: String = (0..count).map(|n| format!(" a{n}=''")).collect();
        format!("<a{attributes}/>")
    };
    let spaces = |count: usize| {
        let declarations: String = (1..count).map(|n| format!(" xmlns:p{n}='x'")).collect();
        format!("<a xmlns='x'><b{declarations}/></a>")
    };
    let long = |count: usize| format!("<a>{}</a>", "x".repeat(count - 7));
    for (at_cap, above) in [
        (nested(DEPTH_MAX), nested(DEPTH_MAX + 1)),
        (many(ELEMENTS_MAX), many(ELEMENTS_MAX + 1)),
        (wide(ATTRIBUTES_MAX), wide(ATTRIBUTES_MAX + 1)),
        (spaces(NAMESPACES_MAX), spaces(NAMESPACES_MAX + 1)),
        (long(BODY_MAX), long(BODY_MAX + 1)),
    ] {
        assert!(read(&at_cap).is_ok());
        assert_eq!(read(&above).err(), Some(413));
    }
    assert_eq!(read(&format!("<a xmlns='{}'/>", "x".repeat(2000))).err(), Some(413));
}

#[test]
fn fragments_mean_the_same_alone() {
    let body = "<a xmlns='urn:a' xmlns:p='urn:p' xmlns:q='urn:q' xml:lang='de' b='1'>\
        <p:c d='&lt;&quot;&#10;'>t&amp;<e>&gt;</e> <f xmlns=''/></p:c></a>";
    let root = read(body).unwrap();
    let inner = root.elements().next().unwrap();
    let fragment = inner.fragment(&[&root]);
    let expected = "<p:c d=\"&lt;&quot;&#10;\" xmlns=\"urn:a\" xmlns:p=\"urn:p\" xml:lang=\"de\">\
        t&amp;<e>&gt;</e> <f xmlns=\"\"/></p:c>";
    assert_eq!(fragment, expected);
    // What is read again is written in the same way.
    assert_eq!(read(&fragment).unwrap().fragment(&[]), fragment);
    let element = read("<a xmlns='urn:a'><b xmlns='' xml:lang='en'/></a>").unwrap();
    assert_eq!(
        element.elements().next().unwrap().fragment(&[&element]),
        "<b xmlns=\"\" xml:lang=\"en\"/>"
    );
}
