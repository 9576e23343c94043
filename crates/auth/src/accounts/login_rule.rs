//! The rules that decide what a login needs, and whether it may be renewed. No input or output.
//!
//! Masters and standalone slaves share them.

use relais_proto::{ErrorCode, Refusal};

use super::password::PasswordId;
use super::password_verifier::AuthenticatedUser;
use super::table::Accounts;

/// The account that opens a server with accounts to anonymous clients of FTP.
const ANONYMOUS: &str = "anonymous";
/// Another name for the same in FTP clients (RFC 1635 section 2.1).
const FTP: &str = "ftp";

/// The names that stand for a client without an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LoginNames {
    /// The empty name alone, as native clients send it.
    Native,
    /// Also `anonymous` and `ftp` in any case, as clients of FTP send them.
    WithAnonymous,
}

impl LoginNames {
    /// Whether a name stands for a client without an account of its own.
    #[must_use]
    pub fn is_anonymous(self, user: &str) -> bool {
        self == Self::WithAnonymous && [ANONYMOUS, FTP].iter().any(|n| user.eq_ignore_ascii_case(n))
    }
}

/// What a login needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoginRule {
    /// Nothing, because there are no accounts.
    WithoutAccount,
    /// Nothing, because the account `anonymous` accepts every password.
    Anonymous(AuthenticatedUser),
    /// The password of the account.
    Password,
}

/// Decides what the login of `user` needs.
///
/// # Errors
/// [`ErrorCode::LoginNeeded`] or [`ErrorCode::LoginRefused`] if the name is of no use here.
pub fn login_rule(
    accounts: Option<&Accounts>,
    user: &str,
    names: LoginNames,
) -> Result<LoginRule, Refusal> {
    let Some(accounts) = accounts else {
        if user.is_empty() || names.is_anonymous(user) {
            return Ok(LoginRule::WithoutAccount);
        }
        let message = "there are no accounts on this server; log in without a name";
        return Err(Refusal::new(ErrorCode::LoginRefused, message));
    };
    if user.is_empty() {
        let message = "a user name and a password are needed here";
        return Err(Refusal::new(ErrorCode::LoginNeeded, message));
    }
    if !names.is_anonymous(user) {
        return Ok(LoginRule::Password);
    }
    let account = accounts.get(ANONYMOUS).ok_or_else(|| {
        Refusal::new(ErrorCode::LoginRefused, "this server takes no anonymous logins")
    })?;
    Ok(LoginRule::Anonymous(AuthenticatedUser::of(ANONYMOUS, account, accounts)))
}

/// Returns the user of a login with its present rights and root; none if it is without an account.
///
/// An empty `user` stands for no account, as in a ticket.
///
/// # Errors
/// [`ErrorCode::BadTicket`] if the account was removed, its password was changed, or accounts were
/// created after a login without one.
pub fn renew_user(
    accounts: Option<&Accounts>,
    user: &str,
    password_id: PasswordId,
) -> Result<Option<AuthenticatedUser>, Refusal> {
    let ended = |why: &str| Refusal::new(ErrorCode::BadTicket, format!("{why}; log in again"));
    match (accounts, user.is_empty()) {
        (None, true) => Ok(None),
        (Some(accounts), false) => {
            let account = accounts.get(user).ok_or_else(|| ended("this user was removed"))?;
            if account.hash.id() != password_id {
                return Err(ended("the password of this user was changed"));
            }
            Ok(Some(AuthenticatedUser::of(user, account, accounts)))
        }
        _ => Err(ended("the accounts have changed since the login")),
    }
}

#[cfg(test)]
mod tests {
    use relais_proto::TreePath;

    use super::super::{password::PasswordHash, table::Account, tests::cheap_hash};
    use super::*;
    use crate::Rights;

    fn account(rights: Rights, root: &str) -> Account {
        Account { rights, root: TreePath::new(root).unwrap(), hash: cheap_hash() }
    }

    fn accounts(names: &[&str]) -> Accounts {
        let mut accounts = Accounts::default();
        for name in names {
            accounts.add(name, account(Rights::Read, "pub")).unwrap();
        }
        accounts
    }

    fn code(result: Result<LoginRule, Refusal>) -> ErrorCode {
        result.unwrap_err().code
    }

    #[test]
    fn anonymous_names_need_no_account_while_there_are_none() {
        use LoginNames::{Native, WithAnonymous};
        for name in ["", "anonymous", "ftp", "Anonymous", "FTP"] {
            assert_eq!(login_rule(None, name, WithAnonymous), Ok(LoginRule::WithoutAccount));
        }
        assert_eq!(login_rule(None, "", Native), Ok(LoginRule::WithoutAccount));
        for (name, names) in [("ann", WithAnonymous), ("ftpx", WithAnonymous), ("ftp", Native)] {
            assert_eq!(code(login_rule(None, name, names)), ErrorCode::LoginRefused, "{name}");
        }
    }

    #[test]
    fn anonymous_names_need_the_account_if_there_are_accounts() {
        use LoginNames::{Native, WithAnonymous};
        let closed = accounts(&["ann", "ftp"]);
        for name in ["anonymous", "ftp", "FTP"] {
            let refused = login_rule(Some(&closed), name, WithAnonymous);
            assert_eq!(code(refused), ErrorCode::LoginRefused, "{name}");
        }
        assert_eq!(login_rule(Some(&closed), "ftp", Native), Ok(LoginRule::Password));
        let refused = login_rule(Some(&closed), "", WithAnonymous);
        assert_eq!(code(refused), ErrorCode::LoginNeeded);
        assert_eq!(login_rule(Some(&closed), "ann", WithAnonymous), Ok(LoginRule::Password));
        let open = accounts(&["ann", "anonymous"]);
        for name in ["anonymous", "ftp", "FTP"] {
            let Ok(LoginRule::Anonymous(user)) = login_rule(Some(&open), name, WithAnonymous)
            else {
                panic!("{name} is not admitted")
            };
            assert_eq!((&*user.name, user.rights), ("anonymous", Rights::Read));
            assert_eq!((user.root.as_str(), user.generation), ("pub", 1));
        }
        assert_eq!(login_rule(Some(&open), "anonymous", Native), Ok(LoginRule::Password));
    }

    #[test]
    fn renewal_takes_over_rights_and_ends_with_the_password() {
        let mut accounts = accounts(&["ann", "bob"]);
        let id = cheap_hash().id();
        let renewed = |accounts: &Accounts| renew_user(Some(accounts), "ann", id);
        accounts.set("ann", Some(Rights::Write), Some(TreePath::root())).unwrap();
        accounts.remove("bob").unwrap();
        let user = renewed(&accounts).unwrap().unwrap();
        assert_eq!((user.rights, user.root, user.generation), (Rights::Write, TreePath::root(), 3));
        let refused = |accounts: Option<&Accounts>, user: &str| {
            renew_user(accounts, user, id).unwrap_err().code == ErrorCode::BadTicket
        };
        assert!(refused(Some(&accounts), "bob") && refused(Some(&accounts), ""));
        // The same password has another id after it was set again.
        let again = PasswordHash::with(b"secret", (8, 1, 1)).unwrap();
        accounts.set_password("ann", again).unwrap();
        assert!(refused(Some(&accounts), "ann") && refused(None, "ann"));
        assert_eq!(renew_user(None, "", PasswordId::default()), Ok(None));
    }
}
