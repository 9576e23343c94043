//! `ftpmaster user`: changes the accounts in the state folder.

use std::io::{Write, stdout};
use std::process::ExitCode;

use anyhow::{Context, bail};
use relais_proto::TreePath;
use relais_state::{Account, Accounts, AccountsFile, PasswordHash, Rights, StateDir};

use crate::args::{self, Args, User};

pub fn run(args: &Args, what: &User) -> anyhow::Result<ExitCode> {
    let state = StateDir::locate(args.state.clone())?;
    let file = AccountsFile::new(state.accounts_path());
    match what {
        User::Add { name, rights, root, password_file } => {
            if root.is_empty() {
                bail!("an empty --root is no folder; / is the whole tree");
            }
            let root = TreePath::new(root.trim_matches('/'))
                .with_context(|| format!("{root:?} cannot be a folder"))?;
            let rights = match rights {
                args::Rights::Read => Rights::Read,
                args::Rights::Write => Rights::Write,
            };
            // Said before anybody types a password.
            if file.load()?.is_some_and(|accounts| accounts.get(name).is_some()) {
                bail!("there is a user {name} already");
            }
            let hash =
                PasswordHash::of(&relais_secret::new_password(password_file.as_ref(), name)?)?;
            state.create()?;
            file.change(|accounts| accounts.add(name, Account { rights, root, hash }))?;
        }
        User::Passwd { name, password_file } => {
            if file.load()?.is_none_or(|accounts| accounts.get(name).is_none()) {
                bail!("there is no user {name}");
            }
            let hash =
                PasswordHash::of(&relais_secret::new_password(password_file.as_ref(), name)?)?;
            file.change(|accounts| accounts.set_password(name, hash))?;
        }
        User::Remove { name } => {
            if file.load()?.is_none() {
                bail!("there is no user {name}");
            }
            file.change(|accounts| accounts.remove(name))?;
            if file.load()?.is_some_and(|accounts| accounts.iter().next().is_none()) {
                eprintln!(
                    "ftpmaster: that was the last user: nobody can log in now; started without the files {} and {} a server lets everybody read",
                    file.path().display(),
                    file.former_path().display()
                );
            }
        }
        User::List => stdout().write_all(table(&file.load()?.unwrap_or_default()).as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// A line for each user: name, rights, folder.
fn table(accounts: &Accounts) -> String {
    let width = accounts.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, account): (&str, &Account)| {
        format!("{name:width$}  {:5}  {}\n", account.rights.text(), account.root)
    };
    accounts.iter().map(line).collect()
}
