//! The pages that the pool of logins answers, by their paths. No other module decides it.

use relais_web::page::Asset;

use super::page::ASSETS;

/// A page that needs no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PoolPage {
    /// Whether this slave is alive. It needs no check of the host either.
    Healthz,
    /// Whether this slave serves sessions; as [`Self::Healthz`].
    Readyz,
    /// The login form.
    Login,
    /// The end of a login.
    Logout,
    /// The metrics.
    Metrics,
    /// A style or script.
    Asset(Asset),
}

impl PoolPage {
    /// Returns the page at a path; none if a session answers the path.
    #[must_use]
    pub fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/-/healthz" => Self::Healthz,
            "/-/readyz" => Self::Readyz,
            "/-/login" => Self::Login,
            "/-/logout" => Self::Logout,
            "/-/metrics" => Self::Metrics,
            path => Self::Asset(Asset::find(&ASSETS, path)?),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_paths_need_a_session() {
        for path in ["/", "/-/", "/-/login/", "/-/uploads/x", "/-/files/-/login", "/login"] {
            assert_eq!(PoolPage::at(path), None, "{path}");
        }
        assert_eq!(PoolPage::at("/-/readyz"), Some(PoolPage::Readyz));
        assert!(matches!(PoolPage::at("/-/assets/page.js"), Some(PoolPage::Asset(_))));
    }
}
