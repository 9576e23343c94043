//! The output of `ftpmaster user list --json`. The field names are a stable interface.

use relais_auth::Accounts;
use serde::Serialize;

#[derive(Serialize)]
struct UserJson<'a> {
    name: &'a str,
    rights: &'static str,
    root: String,
}

/// Formats all users as one line of JSON.
///
/// # Errors
/// Errors of the serializer.
pub fn users_json(accounts: &Accounts) -> Result<String, serde_json::Error> {
    let users: Vec<UserJson<'_>> = accounts
        .iter()
        .map(|(name, account)| UserJson {
            name,
            rights: account.rights.text(),
            root: account.root.to_string(),
        })
        .collect();
    Ok(serde_json::to_string(&users)? + "\n")
}
