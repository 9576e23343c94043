//! Accounts: names, password hashes and rights of users.
//!
//! They are in one text file in the state folder, a line each. Operators change it with a command,
//! and servers reload it after each change. Passwords are stored as Argon2id hashes only.

mod failed_logins;
mod file;
mod live;
mod login_queue;
mod login_rule;
mod password;
mod password_verifier;
mod table;
#[cfg(test)]
mod tests;

pub use failed_logins::{FailedLogins, LoginSource};
pub use file::{AccountsError, AccountsFile};
pub use live::LiveAccounts;
pub use login_rule::{LoginNames, LoginRule, login_rule, renew_user};
pub use password::{HashError, PasswordHash, PasswordId};
pub use password_verifier::{
    AuthenticatedUser, LocalLoginState, LoginResult, PasswordVerifier, PendingLogin,
    SharedLoginState,
};
pub use table::{Account, AccountError, Accounts, BadLine, check_user_name};
