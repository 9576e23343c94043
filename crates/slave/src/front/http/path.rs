//! The paths of URLs: files of the tree, or the server's own pages below `/-/`.

use relais_http::{RequestError, Status, Target};
use relais_proto::{NameError, TreePath};

/// First part of the server's own paths.
const OWN: &str = "-";
/// Second part of paths that name files although they are below `/-/`.
const FILES: &str = "files";

/// What the path of a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UrlPath {
    /// A file or folder of the tree.
    Tree {
        /// Its path.
        path: TreePath,
        /// Whether the URL ends with `/`, as those of folders do.
        has_slash: bool,
    },
    /// A page of the server: the parts after `/-/`.
    Own(Vec<String>),
}

impl UrlPath {
    /// Interprets the target of a request.
    ///
    /// `/-/files/PATH` names any path, so also one whose first part is `-`.
    ///
    /// # Errors
    /// Status 400 for a path that breaks the rules of names; 404 for the server's own folder.
    pub fn of(target: &Target) -> Result<Self, RequestError> {
        let mut parts = target.decoded_parts()?;
        let has_slash = target.ends_with_slash();
        if parts.first().is_some_and(|part| part == OWN) {
            parts.remove(0);
            if parts.first().is_none_or(|part| part != FILES) {
                return Ok(Self::Own(parts));
            }
            parts.remove(0);
        }
        match TreePath::new(parts.join("/")) {
            Ok(path) => Ok(Self::Tree { path, has_slash }),
            Err(NameError::Reserved) => {
                Err(RequestError::new(Status::NOT_FOUND, "no such file or folder"))
            }
            Err(_) => Err(RequestError::bad("the path breaks the rules for names")),
        }
    }
}

/// Returns the encoded URL path of a file or folder.
#[must_use]
pub fn url_of(path: &TreePath, is_folder: bool) -> String {
    let own = path.parts().next() == Some(OWN);
    let prefix = own.then_some([OWN, FILES]).into_iter().flatten();
    relais_http::escape::uri_path(prefix.chain(path.parts()), is_folder)
}

#[cfg(test)]
mod tests {
    use relais_http::Method;

    use super::*;

    fn of(text: &str) -> Result<UrlPath, RequestError> {
        UrlPath::of(&Target::parse(&Method::Get, text).unwrap())
    }

    fn tree(path: &str, has_slash: bool) -> UrlPath {
        UrlPath::Tree { path: TreePath::new(path).unwrap(), has_slash }
    }

    #[test]
    fn urls_name_files_folders_and_own_pages() {
        assert_eq!(of("/").unwrap(), tree("", true));
        assert_eq!(of("/a%20b/c?x").unwrap(), tree("a b/c", false));
        assert_eq!(of("/a/").unwrap(), tree("a", true));
        assert_eq!(of("/-/status/x").unwrap(), UrlPath::Own(vec!["status".into(), "x".into()]));
        assert_eq!(of("/-").unwrap(), UrlPath::Own(vec![]));
        assert_eq!(of("/-/files/-/a").unwrap(), tree("-/a", false));
        assert_eq!(of("/-/files/").unwrap(), tree("", true));
        assert_eq!(of("/-x").unwrap(), tree("-x", false));
        assert_eq!(of("/.relais/catalogue.db").unwrap_err().status, Status::NOT_FOUND);
        assert_eq!(of("/%ff").unwrap_err().status, Status::BAD_REQUEST);
    }

    #[test]
    fn the_url_of_a_path_leads_back_to_it() {
        for (path, url) in [
            ("a b/\u{fc}?", "/a%20b/%C3%BC%3F"),
            ("-", "/-/files/-"),
            ("-/x", "/-/files/-/x"),
            ("a/-", "/a/-"),
        ] {
            let path = TreePath::new(path).unwrap();
            assert_eq!(url_of(&path, false), url);
            assert_eq!(of(url).unwrap(), UrlPath::Tree { path, has_slash: false });
        }
        assert_eq!(url_of(&TreePath::root(), true), "/");
    }
}
