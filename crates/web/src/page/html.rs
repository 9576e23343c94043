//! A writer of HTML in which only literals of the program are markup.
//!
//! Everything else is escaped, so no name of a file and no text of a client becomes markup.

/// A part of a page.
#[derive(Debug, Default)]
pub struct Html {
    bytes: Vec<u8>,
}

impl Html {
    /// Adds markup, which is always a literal.
    pub fn markup(&mut self, literal: &'static str) -> &mut Self {
        self.bytes.extend_from_slice(literal.as_bytes());
        self
    }

    /// Adds text, which may be that of an attribute in double quotes.
    pub fn text(&mut self, text: &str) -> &mut Self {
        self.bytes.extend_from_slice(relais_http::escape::markup(text).as_bytes());
        self
    }

    /// Adds an attribute after a space; the name is a literal.
    pub fn attribute(&mut self, name: &'static str, value: &str) -> &mut Self {
        self.markup(" ").markup(name).markup("=\"").text(value).markup("\"")
    }

    /// Returns the number of bytes so far.
    #[must_use]
    pub fn bytes_written(&self) -> usize {
        self.bytes.len()
    }

    /// Takes what was written so far.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::Html;

    #[test]
    fn text_never_becomes_markup() {
        let hostile = "\"><script>alert('x')</script>&amp;";
        let mut html = Html::default();
        html.markup("<a").attribute("title", hostile).markup(">").text(hostile).markup("</a>");
        let written = String::from_utf8(html.take()).unwrap();
        let escaped = "&quot;&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;amp;";
        assert_eq!(written, format!("<a title=\"{escaped}\">{escaped}</a>"));
        assert_eq!(html.bytes_written(), 0);
    }
}
