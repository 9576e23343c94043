//! `ftpmaster user`: changes the accounts in the state folder.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::bail;
use relais_auth::{Account, Accounts, AccountsFile, PasswordHash, Rights, StateDir};
use relais_master::users_json;

use crate::args::{self, Args, UserCommand};

pub fn run(args: &Args, what: &UserCommand) -> anyhow::Result<ExitCode> {
    let state = StateDir::locate(args.state.clone())?;
    let file = AccountsFile::new(state.accounts_path());
    let path = file.path().display();
    let before = file.load()?;
    // Checked before a password is typed or the file is changed.
    let exists = |name: &str| before.as_ref().is_some_and(|accounts| accounts.get(name).is_some());
    let new_hash = |password_file: &Option<PathBuf>, name: &str| -> anyhow::Result<_> {
        Ok(PasswordHash::of(&relais_secret::new_password(password_file.as_ref(), name)?)?)
    };
    let said = match what {
        UserCommand::Add { name, .. } if exists(name) => bail!("there is a user {name} already"),
        UserCommand::Set { name, .. } | UserCommand::Passwd { name, .. } if !exists(name) => {
            bail!("there is no user {name} in {path}")
        }
        UserCommand::Remove { name } if before.is_none() => bail!("there is no user {name}"),
        UserCommand::Add { name, rights, root, password_file } => {
            let (rights, root) = ((*rights).into(), root.clone());
            let hash = new_hash(password_file, name)?;
            state.create()?;
            file.change(|accounts| accounts.add(name, Account { rights, root, hash }))?;
            if before.is_none() {
                eprintln!(
                    "ftpmaster: {name} is the first user: anonymous access ends, and clients \
                     need a name and a password from now on"
                );
            }
            format!("user {name} is added")
        }
        UserCommand::Set { name, rights, root } => {
            file.change(|accounts| accounts.set(name, rights.map(Into::into), root.clone()))?;
            format!("user {name} is changed")
        }
        UserCommand::Passwd { name, password_file } => {
            let hash = new_hash(password_file, name)?;
            file.change(|accounts| accounts.set_password(name, hash))?;
            format!("user {name} has another password")
        }
        UserCommand::Remove { name } => {
            let is_empty = file.change(|accounts| {
                accounts.remove(name)?;
                Ok(accounts.iter().next().is_none())
            })?;
            if is_empty {
                eprintln!(
                    "ftpmaster: {name} was the last user: no login is possible now; a server \
                     without the files {path} and {} gives anonymous read access",
                    file.generation_path().display()
                );
            }
            format!("user {name} is removed")
        }
        UserCommand::List { json } => {
            let accounts = before.unwrap_or_default();
            if !*json && accounts.iter().next().is_none() {
                eprintln!("ftpmaster: there are no users in {path}");
            }
            let text = if *json { users_json(&accounts)? } else { table(&accounts) };
            relais_cli::print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    relais_cli::print(&format!("{said}: {path}\n"))?;
    Ok(ExitCode::SUCCESS)
}

impl From<args::RightsArg> for Rights {
    fn from(rights: args::RightsArg) -> Self {
        match rights {
            args::RightsArg::Read => Self::Read,
            args::RightsArg::Write => Self::Write,
            args::RightsArg::Admin => Self::Admin,
        }
    }
}

/// A line for each user: name, rights, folder.
fn table(accounts: &Accounts) -> String {
    let width = accounts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, account): (&str, &Account)| {
        format!("{name:width$}  {:5}  {}\n", account.rights.text(), account.root)
    };
    accounts.iter().map(line).collect()
}
