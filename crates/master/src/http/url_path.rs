//! What the path of a URL names: a file or folder, or a page of the master itself.

use relais_http::{RequestError, Status, Target, escape};
use relais_proto::TreePath;

/// The first part of the paths of the server's own pages.
const RESERVED: &str = "-";
/// Below [`RESERVED`]: any path of the tree, also one that begins with [`RESERVED`].
const FILES: &str = "files";

/// A path of a URL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UrlPath {
    /// A path of the tree, relative to the root of the user.
    Tree(TreePath),
    /// A page of the server, without `/-/`.
    Page(String),
}

impl UrlPath {
    /// Returns what a target names.
    ///
    /// # Errors
    /// Status 400 for a malformed path, 404 for one that cannot be in the tree.
    pub fn of(target: &Target) -> Result<Self, RequestError> {
        const NO_NAME: RequestError =
            RequestError::new(Status::NOT_FOUND, "no file or folder can have this path");
        let parts = target.decoded_parts()?;
        let of_tree = match &parts[..] {
            [first, second, rest @ ..] if first == RESERVED && second == FILES => rest,
            [first, rest @ ..] if first == RESERVED => return Ok(Self::Page(rest.join("/"))),
            parts => parts,
        };
        TreePath::new(of_tree.join("/")).map(Self::Tree).map_err(|_| NO_NAME)
    }
}

/// Returns the parts of the URL path by which a slave serves a path of the tree.
pub(super) fn url_parts(path: &TreePath) -> Vec<&str> {
    let parts: Vec<&str> = path.parts().collect();
    if parts.first() == Some(&RESERVED) { [&[RESERVED, FILES], &parts[..]].concat() } else { parts }
}

/// Encodes the parts of a URL path.
pub(super) fn encoded(parts: &[&str], is_folder: bool) -> String {
    escape::uri_path(parts.iter().copied(), is_folder)
}

#[cfg(test)]
mod tests {
    use relais_http::Method;

    use super::*;

    fn of(target: &str) -> Result<UrlPath, u16> {
        let target = Target::parse(&Method::Get, target).unwrap();
        UrlPath::of(&target).map_err(|e| e.status.code())
    }

    fn tree(path: &str) -> Result<UrlPath, u16> {
        Ok(UrlPath::Tree(TreePath::new(path).unwrap()))
    }

    #[test]
    fn a_path_names_a_file_or_a_page() {
        assert_eq!((of("/"), of("/a%20b/c/?x")), (tree(""), tree("a b/c")));
        assert_eq!((of("/-/files/-/x"), of("/-/files")), (tree("-/x"), tree("")));
        assert_eq!(of("/-/healthz"), Ok(UrlPath::Page("healthz".to_owned())));
        assert_eq!(
            (of("/-"), of("/-x/files")),
            (Ok(UrlPath::Page(String::new())), tree("-x/files"))
        );
        assert_eq!((of("/%2e%2e/a"), of("/a%00")), (Err(400), Err(400)));
        assert_eq!(of(&format!("/{}", "n".repeat(300))), Err(404));
    }

    #[test]
    fn a_path_of_the_tree_has_one_url() {
        let url = |path: &str| encoded(&url_parts(&TreePath::new(path).unwrap()), false);
        assert_eq!((url("a b/ü").as_str(), url("").as_str()), ("/a%20b/%C3%BC", "/"));
        assert_eq!(url("-/x"), "/-/files/-/x");
        for path in ["a b/ü", "-", "-/files/x", "?#%"] {
            assert_eq!(of(&url(path)), tree(path), "{path}");
        }
    }
}
