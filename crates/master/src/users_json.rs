//! The output of `ftpmaster user list --json`. The field names are a stable interface.

use relais_auth::Accounts;

use crate::json_object::JsonObject;

/// Formats all users as one line of JSON.
///
/// # Errors
/// Errors of the serializer.
pub fn users_json(accounts: &Accounts) -> Result<String, serde_json::Error> {
    let users = accounts.iter().map(|(name, account)| {
        let (rights, root) = (account.rights.text(), account.root.to_string());
        JsonObject(vec![("name", name.to_owned()), ("rights", rights.to_owned()), ("root", root)])
    });
    Ok(serde_json::to_string(&users.collect::<Vec<_>>())? + "\n")
}
