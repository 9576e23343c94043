//! `ftpmaster user`: changes the accounts in the state folder.

use std::process::ExitCode;

use anyhow::bail;
use relais_auth::{Account, Accounts, AccountsFile, PasswordHash, Rights, StateDir};
use relais_master::users_json;

use crate::args::{self, Args, UserCommand};

pub fn run(args: &Args, what: &UserCommand) -> anyhow::Result<ExitCode> {
    let state = StateDir::locate(args.state.clone())?;
    let file = AccountsFile::new(state.accounts_path());
    let said = match what {
        UserCommand::Add { name, rights, root, password_file } => {
            let (rights, root) = ((*rights).into(), root.clone());
            // Checked before the password is typed.
            let before = file.load()?;
            if before.as_ref().is_some_and(|accounts| accounts.get(name).is_some()) {
                bail!("there is a user {name} already");
            }
            let hash =
                PasswordHash::of(&relais_secret::new_password(password_file.as_ref(), name)?)?;
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
            existing(&file, name)?;
            file.change(|accounts| accounts.set(name, rights.map(Into::into), root.clone()))?;
            format!("user {name} is changed")
        }
        UserCommand::Passwd { name, password_file } => {
            existing(&file, name)?;
            let hash =
                PasswordHash::of(&relais_secret::new_password(password_file.as_ref(), name)?)?;
            file.change(|accounts| accounts.set_password(name, hash))?;
            format!("user {name} has another password")
        }
        UserCommand::Remove { name } => {
            if file.load()?.is_none() {
                bail!("there is no user {name}");
            }
            file.change(|accounts| accounts.remove(name))?;
            if file.load()?.is_some_and(|accounts| accounts.iter().next().is_none()) {
                eprintln!(
                    "ftpmaster: {name} was the last user: no login is possible now; a server \
                     without the files {} and {} gives anonymous read access",
                    file.path().display(),
                    file.generation_path().display()
                );
            }
            format!("user {name} is removed")
        }
        UserCommand::List { json } => {
            let accounts = file.load()?.unwrap_or_default();
            if !*json && accounts.iter().next().is_none() {
                eprintln!("ftpmaster: there are no users in {}", file.path().display());
            }
            let text = if *json { users_json(&accounts)? } else { table(&accounts) };
            relais_cli::print(&text)?;
            return Ok(ExitCode::SUCCESS);
        }
    };
    relais_cli::print(&format!("{said}: {}\n", file.path().display()))?;
    Ok(ExitCode::SUCCESS)
}

/// Checks that the user exists before a password is typed or the file is changed.
fn existing(file: &AccountsFile, name: &str) -> anyhow::Result<()> {
    match file.load()?.is_some_and(|accounts| accounts.get(name).is_some()) {
        true => Ok(()),
        false => bail!("there is no user {name} in {}", file.path().display()),
    }
}

impl From<args::RightsArg> for Rights {
    fn from(rights: args::RightsArg) -> Self {
        match rights {
            args::RightsArg::Read => Self::Read,
            args::RightsArg::Write => Self::Write,
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
