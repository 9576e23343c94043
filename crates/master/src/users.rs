//! The users as `ftpmaster user list --json` prints them. The names are a contract.

use relais_state::Accounts;
use serde::Serialize;

#[derive(Serialize)]
struct User<'a> {
    name: &'a str,
    rights: &'static str,
    root: String,
}

/// All users as one line of JSON.
///
/// # Errors
/// Those of the serializer.
pub fn users_json(accounts: &Accounts) -> Result<String, serde_json::Error> {
    let users: Vec<User<'_>> = accounts
        .iter()
        .map(|(name, account)| User {
            name,
            rights: account.rights.text(),
            root: account.root.to_string(),
        })
        .collect();
    Ok(serde_json::to_string(&users)? + "\n")
}
