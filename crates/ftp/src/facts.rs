//! Facts of MLST and MLSD (RFC 3659, section 7).

/// A fact that a client can choose with OPTS MLST.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "RFC 3659, section 7.5 and the registry explain each")]
pub enum Fact {
    Type,
    Size,
    Modify,
    Perm,
    Unique,
    UnixMode,
}

impl Fact {
    /// All facts in the order of FEAT and of the lines.
    pub const ALL: [Self; 6] =
        [Self::Type, Self::Size, Self::Modify, Self::Perm, Self::Unique, Self::UnixMode];

    /// Returns the name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Type => "type",
            Self::Size => "size",
            Self::Modify => "modify",
            Self::Perm => "perm",
            Self::Unique => "unique",
            Self::UnixMode => "UNIX.mode",
        }
    }
}

/// The facts that a session shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FactSet([bool; Fact::ALL.len()]);

impl Default for FactSet {
    fn default() -> Self {
        Self([true; Fact::ALL.len()])
    }
}

impl FactSet {
    /// Reads the argument of OPTS MLST: `type;size;` (RFC 3659, section 7.9).
    ///
    /// Unknown facts are ignored, as the section demands. An empty list chooses no fact.
    #[must_use]
    pub fn parse(list: &str) -> Self {
        let is_chosen =
            |fact: Fact| list.split(';').any(|name| name.eq_ignore_ascii_case(fact.name()));
        Self(Fact::ALL.map(is_chosen))
    }

    /// Returns whether the fact is shown.
    #[must_use]
    pub fn has(&self, fact: Fact) -> bool {
        self.iter().any(|shown| shown == fact)
    }

    /// Iterates over the facts that are shown.
    pub fn iter(&self) -> impl Iterator<Item = Fact> {
        Fact::ALL.into_iter().zip(self.0).filter_map(|(fact, is_shown)| is_shown.then_some(fact))
    }

    /// Returns the list of FEAT: all facts, those that are shown with `*`.
    #[must_use]
    pub fn feature(&self) -> String {
        let mark = |fact| if self.has(fact) { "*" } else { "" };
        Fact::ALL.iter().map(|fact| format!("{}{};", fact.name(), mark(*fact))).collect()
    }

    /// Returns the text of reply 200 to OPTS MLST: `MLST OPTS type;size;`.
    #[must_use]
    pub fn options_text(&self) -> String {
        let chosen: String = self.iter().map(|fact| format!("{};", fact.name())).collect();
        format!("MLST OPTS {chosen}").trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choice_is_read_and_shown() {
        let all = FactSet::default();
        assert_eq!(all.feature(), "type*;size*;modify*;perm*;unique*;UNIX.mode*;");
        let chosen = FactSet::parse("Type;MODIFY;x.unknown;unix.mode;");
        assert_eq!(chosen.options_text(), "MLST OPTS type;modify;UNIX.mode;");
        assert_eq!(chosen.feature(), "type*;size;modify*;perm;unique;UNIX.mode*;");
        let none = FactSet::parse("");
        assert_eq!(none.options_text(), "MLST OPTS");
        assert_eq!(none.iter().count(), 0);
    }
}
