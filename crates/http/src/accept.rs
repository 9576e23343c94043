//! The choice of a form of an answer.

use crate::limits;

/// Returns the index of the offered media type that the client likes most.
///
/// `accept` is the field `Accept`; without it the first offer is chosen (RFC 9110, section 12.5.1).
/// Among equal ones the first offer is chosen. The result is none if none is acceptable. Parameters
/// other than `q` are ignored.
#[must_use]
pub fn prefers(accept: Option<&str>, offers: &[&str]) -> Option<usize> {
    let Some(accept) = accept.filter(|field| !field.trim().is_empty()) else {
        return (!offers.is_empty()).then_some(0);
    };
    let ranges: Vec<_> = accept.split(',').take(limits::LIST).filter_map(parse).collect();
    let quality = |offer: &str| {
        let matching = ranges.iter().filter_map(|(range, q)| Some((specificity(range, offer)?, q)));
        // The most specific range decides.
        matching.max_by_key(|(specificity, _)| *specificity).map_or(0, |(_, q)| *q)
    };
    let best = offers.iter().map(|offer| quality(offer)).enumerate();
    best.rev().max_by_key(|(_, quality)| *quality).filter(|(_, q)| *q > 0).map(|(index, _)| index)
}

/// Parses a media range with its quality in thousandths.
fn parse(element: &str) -> Option<(String, u16)> {
    let mut parts = element.split(';').map(str::trim);
    let range = parts.next().filter(|range| range.contains('/'))?.to_ascii_lowercase();
    let mut quality = 1000;
    for part in parts {
        if let Some((name, value)) = part.split_once('=')
            && name.trim().eq_ignore_ascii_case("q")
        {
            quality = parse_quality(value.trim())?;
        }
    }
    Some((range, quality))
}

/// Parses a quality value (RFC 9110, section 12.4.2).
fn parse_quality(text: &str) -> Option<u16> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if fraction.len() > 3 || !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let thousandths: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(thousandths),
        "1" if thousandths == 0 => Some(1000),
        _ => None,
    }
}

/// How exactly a range names an offer: 2 for its type, 1 for its kind, 0 for all types.
fn specificity(range: &str, offer: &str) -> Option<u8> {
    let offer = offer.split(';').next().unwrap_or_default().trim();
    if range == "*/*" {
        return Some(0);
    }
    if range == offer {
        return Some(2);
    }
    let kind = range.strip_suffix("/*")?;
    offer.split('/').next().filter(|offered| *offered == kind).map(|_| 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_offer_is_chosen() {
        let offers = ["text/html", "application/json", "text/plain"];
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8";
        for (accept, expected) in [
            (None, Some(0)),
            (Some(""), Some(0)),
            (Some("*/*"), Some(0)),
            (Some(browser), Some(0)),
            (Some("application/json"), Some(1)),
            (Some("APPLICATION/JSON; charset=utf-8"), Some(1)),
            (Some("text/*"), Some(0)),
            (Some("text/*, text/html;q=0.1"), Some(2)),
            (Some("*/*;q=0.1, application/json;q=0.2"), Some(1)),
            (Some("*/*, text/html;q=0"), Some(1)),
            (Some("text/html;q=0.5, application/json;q=0.500"), Some(0)),
            (Some("image/png"), None),
            (Some("text/html;q=0"), None),
            (Some("text/html;q=2"), None),
            (Some("text/html;q=x"), None),
            (Some("nonsense"), None),
        ] {
            assert_eq!(prefers(accept, &offers), expected, "{accept:?}");
        }
        assert_eq!(prefers(None, &[]), None);
    }
}
