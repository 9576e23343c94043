use super::*;

/// The state of the resources in RFC 4918's examples.
fn state(resource: Option<&str>) -> Result<ResourceState, ()> {
    let (entity_tag, token) = match resource {
        None => (Some("\"tag\""), Some("urn:uuid:own")),
        Some("http://host/a") => (Some("\"a]\""), Some("urn:uuid:a")),
        Some("/missing") => (None, None),
        Some(_) => return Err(()),
    };
    Ok(ResourceState {
        entity_tag: entity_tag.map(str::to_owned),
        lock_tokens: token.map(str::to_owned).into_iter().collect(),
    })
}

#[test]
fn headers_hold_if_one_list_does() {
    for (text, expected) in [
        ("(<urn:uuid:own>)", Ok(true)),
        ("(<urn:uuid:other>)", Ok(false)),
        ("(<urn:uuid:own> [\"tag\"])", Ok(true)),
        ("(<urn:uuid:own>[\"tag\"])(Not <DAV:no-lock>)", Ok(true)),
        ("(<urn:uuid:own> [\"old\"])", Ok(false)),
        ("(<urn:uuid:own> [\"old\"]) ([\"tag\"])", Ok(true)),
        ("(Not <urn:uuid:own>)", Ok(false)),
        ("(Not <DAV:no-lock>)", Ok(true)),
        ("(not <urn:uuid:own> [\"tag\"]) (NOT [\"old\"])", Ok(true)),
        ("([W/\"tag\"])", Ok(false)),
        ("<http://host/a> (<urn:uuid:a> [\"a]\"])", Ok(true)),
        ("<http://host/a> (<urn:uuid:own>)", Ok(false)),
        ("<http://host/a> (<urn:uuid:own>) (<urn:uuid:a>)", Ok(true)),
        ("<http://host/a> (<no>) </missing> (Not <x:y>)", Ok(true)),
        ("</missing> ([\"tag\"])", Ok(false)),
        ("</unreadable> (<urn:uuid:own>)", Err(())),
    ] {
        let header = IfHeader::parse(text).unwrap();
        assert_eq!(header.holds(state), expected, "{text}");
    }
}

#[test]
fn headers_submit_all_tokens_that_they_name() {
    let text = "</a> (<urn:uuid:1> [\"t\"]) (Not <urn:uuid:2>) </b> (<urn:uuid:3>)";
    let header = IfHeader::parse(text).unwrap();
    let tokens: Vec<_> = header.submitted_tokens().collect();
    assert_eq!(tokens, ["urn:uuid:1", "urn:uuid:2", "urn:uuid:3"]);
}

#[test]
fn headers_that_break_the_grammar_are_refused() {
    let many = "(<urn:x>)".repeat(crate::limits::CONDITIONS_MAX + 1);
    for text in [
        "",
        " ",
        "()",
        "(",
        "(<>)",
        "(<a b>)",
        "(<a",
        "(<a>",
        "<a>",
        "<a> <b> (<c>)",
        "(<c>) <a> (<b>)",
        "<a> (<b>) <c>",
        "([tag])",
        "([\"tag])",
        "([\"tag\"",
        "([\"tag\"x])",
        "(Not)",
        "(Not Not <a>)",
        "x (<a>)",
        "(<a>) x",
        "(a)",
        "(<a<b>)",
        "(ééé)",
        &many,
    ] {
        assert_eq!(IfHeader::parse(text).map_err(|error| error.status.code()), Err(400), "{text}");
    }
}
