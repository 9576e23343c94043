//! The table of accounts, and its text. No input or output.

use std::collections::BTreeMap;
use std::fmt;

use relais_proto::{TreePath, is_unsafe_char, limits};
use thiserror::Error;

use super::password::PasswordHash;
use crate::rights::Rights;

/// The first words of the file, with the version of its layout.
const LAYOUT: &str = "relais-accounts 1";
/// Cap on the generation: enough for a change each microsecond.
const HIGHEST: u64 = 1 << 62;
/// The first character of a path in the file; alone it is the root of the tree.
const TOP: char = '/';

/// The account of a user.
#[derive(Clone, PartialEq, Eq)]
pub struct Account {
    /// The rights of the user.
    pub rights: Rights,
    /// The folder that is the root of the tree for this user.
    pub root: TreePath,
    /// The hash of the password.
    pub hash: PasswordHash,
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("rights", &self.rights)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

/// All accounts and their generation, which rises when rights are revoked.
///
/// The default is an empty list of generation 0, as before the first account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Accounts {
    /// Tickets of a lower generation are invalid.
    generation: u64,
    by_name: BTreeMap<String, Account>,
}

/// The reason why an account cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum AccountError {
    /// The name is invalid.
    #[error(
        "a user's name has 1 to {most} bytes and no spaces, colons, slashes or control \
         characters, and does not begin with -",
        most = limits::USER
    )]
    BadName,
    /// The user exists already.
    #[error("there is a user {0} already")]
    Exists(String),
    /// The user does not exist.
    #[error("there is no user {0}")]
    Unknown(String),
}

/// A malformed line of the file.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {number}: {why}")]
pub struct BadLine {
    /// The number of the line, from 1.
    pub number: usize,
    /// The defect, for users.
    pub why: String,
}

impl Accounts {
    /// The generation. Each change that revokes rights raises it.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// The account of this user.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&Account> {
        self.by_name.get(name)
    }

    /// All accounts, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Account)> {
        self.by_name.iter().map(|(name, account)| (name.as_str(), account))
    }

    /// Adds a user. The first user ends anonymous access.
    ///
    /// # Errors
    /// [`AccountError::BadName`], [`AccountError::Exists`].
    pub fn add(&mut self, name: &str, account: Account) -> Result<(), AccountError> {
        check_user_name(name)?;
        if self.by_name.contains_key(name) {
            return Err(AccountError::Exists(name.to_owned()));
        }
        self.generation = self.generation.max(1);
        self.by_name.insert(name.to_owned(), account);
        Ok(())
    }

    /// Changes the rights or the root of a user, or both.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn set(
        &mut self,
        name: &str,
        rights: Option<Rights>,
        root: Option<TreePath>,
    ) -> Result<(), AccountError> {
        let account = self.get_mut(name)?;
        account.rights = rights.unwrap_or(account.rights);
        if let Some(root) = root {
            account.root = root;
        }
        // Tickets contain rights and root, so all tickets must be issued again.
        self.raise();
        Ok(())
    }

    /// Changes the password of a user.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn set_password(&mut self, name: &str, hash: PasswordHash) -> Result<(), AccountError> {
        self.get_mut(name)?.hash = hash;
        self.raise();
        Ok(())
    }

    /// Removes a user. After the removal of the last one no login is possible.
    ///
    /// # Errors
    /// [`AccountError::Unknown`].
    pub fn remove(&mut self, name: &str) -> Result<(), AccountError> {
        self.by_name.remove(name).ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        self.raise();
        Ok(())
    }

    fn get_mut(&mut self, name: &str) -> Result<&mut Account, AccountError> {
        self.by_name.get_mut(name).ok_or_else(|| AccountError::Unknown(name.to_owned()))
    }

    fn raise(&mut self) {
        self.raise_above(self.generation);
    }

    /// Raises the generation above `former`.
    pub(super) fn raise_above(&mut self, former: u64) {
        self.generation = former.saturating_add(1);
    }

    /// Parses the text of the file.
    ///
    /// # Errors
    /// The first malformed line.
    pub fn parse(text: &str) -> Result<Self, BadLine> {
        let bad = |number: usize, why: String| BadLine { number: number + 1, why };
        let mut lines = text.lines().enumerate();
        let generation: u64 = lines
            .next()
            .and_then(|(_, head)| head.strip_prefix(LAYOUT)?.strip_prefix(' ')?.parse().ok())
            .filter(|number| (1..=HIGHEST).contains(number))
            .ok_or_else(|| bad(0, format!("{LAYOUT:?} and a number expected")))?;
        if !text.ends_with('\n') {
            return Err(bad(text.lines().count() - 1, "the line has no end".to_owned()));
        }
        let mut by_name = BTreeMap::new();
        for (number, line) in lines {
            let (name, account) = parse_line(line).map_err(|why| bad(number, why))?;
            if by_name.insert(name, account).is_some() {
                return Err(bad(number, "the user is there twice".to_owned()));
            }
        }
        Ok(Self { generation, by_name })
    }

    /// The text that [`Self::parse`] reads.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{LAYOUT} {}\n", self.generation);
        for (name, Account { rights, root, hash }) in &self.by_name {
            text += &format!("{name}\t{}\t{root}\t{}\n", rights.text(), hash.as_str());
        }
        text
    }
}

fn parse_line(line: &str) -> Result<(String, Account), String> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [name, rights, root, hash] = fields[..] else {
        return Err(
            "a name, read, write or admin, a folder and a password's hash expected, with a tab \
             between"
                .to_owned(),
        );
    };
    check_user_name(name).map_err(|e| e.to_string())?;
    let rights =
        Rights::from_text(rights).ok_or("the second field is none of read, write and admin")?;
    let root = root.strip_prefix(TOP).ok_or("the folder does not begin with /")?;
    let root = TreePath::new(root).map_err(|e| format!("the folder: {e}"))?;
    let hash = PasswordHash::parse(hash).map_err(|e| e.to_string())?;
    Ok((name.to_owned(), Account { rights, root, hash }))
}

/// Checks the name of a user.
///
/// # Errors
/// [`AccountError::BadName`].
pub fn check_user_name(name: &str) -> Result<(), AccountError> {
    let fits = !name.is_empty() && name.len() <= limits::USER && !name.starts_with('-');
    let is_plain = |c: char| {
        !c.is_whitespace() && !c.is_control() && !is_unsafe_char(c) && c != ':' && c != '/'
    };
    if fits && name.chars().all(is_plain) { Ok(()) } else { Err(AccountError::BadName) }
}

#[cfg(test)]
mod tests {
    use super::super::tests;
    use super::*;

    fn account(rights: Rights, root: &str) -> Account {
        Account { rights, root: TreePath::new(root).unwrap(), hash: tests::cheap_hash() }
    }

    fn three() -> Accounts {
        let mut accounts = Accounts::default();
        accounts.add("ann", account(Rights::Write, "")).unwrap();
        accounts.add("b@x.org", account(Rights::Read, "")).unwrap();
        accounts.add("zoë", account(Rights::Write, "home/zoë and all")).unwrap();
        accounts
    }

    #[test]
    fn written_accounts_parse_to_the_same() {
        let accounts = three();
        assert_eq!(Accounts::parse(&accounts.to_text()), Ok(accounts.clone()));
        let mut none = accounts;
        for name in ["ann", "b@x.org", "zoë"] {
            none.remove(name).unwrap();
        }
        assert_eq!(
            Accounts::parse(&none.to_text()).unwrap().iter().count(),
            0,
            "no user, which is not the same as no file"
        );
    }

    #[test]
    fn revoking_rights_raises_the_generation() {
        let mut accounts = Accounts::default();
        assert_eq!(accounts.generation(), 0);
        accounts.add("ann", account(Rights::Write, "")).unwrap();
        accounts.add("bob", account(Rights::Write, "")).unwrap();
        assert_eq!(accounts.generation(), 1, "the first alone");
        accounts.set_password("bob", tests::cheap_hash()).unwrap();
        assert_eq!(accounts.generation(), 2);
        accounts.remove("ann").unwrap();
        assert_eq!(accounts.generation(), 3);
        assert_eq!(accounts.remove("ann"), Err(AccountError::Unknown("ann".to_owned())));
        assert_eq!(
            accounts.set_password("ann", tests::cheap_hash()),
            Err(AccountError::Unknown("ann".to_owned()))
        );
        assert_eq!(
            accounts.add("bob", account(Rights::Read, "")),
            Err(AccountError::Exists("bob".to_owned()))
        );
        accounts.remove("bob").unwrap();
        accounts.add("bob", account(Rights::Read, "")).unwrap();
        assert_eq!(accounts.generation(), 4);
    }

    #[test]
    fn ambiguous_names_are_rejected() {
        let long = "x".repeat(limits::USER + 1);
        for bad in
            ["", "-x", "a b", "a\tb", "a\nb", "a\0b", "a:b", "a/b", "a\u{202e}b", "\u{a0}", &long]
        {
            assert_eq!(
                Accounts::default().add(bad, account(Rights::Read, "")),
                Err(AccountError::BadName),
                "{bad:?}"
            );
        }
        Accounts::default().add(&long[1..], account(Rights::Read, "")).unwrap();
    }

    #[test]
    fn errors_name_the_line() {
        let good = three().to_text();
        let lines: Vec<&str> = good.lines().collect();
        let hash = lines[1].split('\t').next_back().unwrap();
        for bad in [
            String::new(),
            "ann".to_owned(),
            format!("ann\tread\t/\t{hash}\t"),
            format!("ann\tread\t/\t{hash}\tmore"),
            format!("an n\tread\t/\t{hash}"),
            format!("ann\twrite \t/\t{hash}"),
            format!("ann\tRead\t/\t{hash}"),
            format!("ann\tread\t\t{hash}"),
            format!("ann\tread\tx\t{hash}"),
            format!("ann\tread\t/../x\t{hash}"),
            format!("ann\tread\t//\t{hash}"),
            "ann\tread\t/\t".to_owned(),
            "ann\tread\t/\tsecret".to_owned(),
            lines[1].to_owned(),
        ] {
            let text = format!("{}\n{}\n{bad}\n{}\n", lines[0], lines[1], lines[3]);
            assert_eq!(Accounts::parse(&text).unwrap_err().number, 3, "{bad:?}");
        }
        for head in [
            "",
            "relais-accounts 2 1",
            "relais-accounts 1",
            "relais-accounts 1 x",
            "relais-accounts 1 0",
            "relais-accounts 1 -1",
        ] {
            assert_eq!(
                Accounts::parse(&good.replacen(lines[0], head, 1)).unwrap_err().number,
                1,
                "{head:?}"
            );
        }
        assert_eq!(Accounts::parse("").unwrap_err().number, 1);
        assert_eq!(
            Accounts::parse(good.trim_end()).unwrap_err().number,
            4,
            "a line that is cut off"
        );
    }

    #[test]
    fn debug_output_has_no_hash() {
        let accounts = three();
        let shown = format!("{accounts:?}");
        assert!(
            !shown.contains("argon2") && !shown.contains(tests::cheap_hash().as_str()),
            "{shown}"
        );
    }
}
