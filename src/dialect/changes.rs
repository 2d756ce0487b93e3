//! What translation did to a request beyond saying it in another dialect; the answer's header and the log tell it.

use std::fmt;

use crate::limits::CHANGES_MAX;

/// Fields that were dropped, clamped, renamed or added on the way to the provider, in order and each once. At most
/// [`CHANGES_MAX`] are kept; then a last entry says that there were more.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Changes {
    entries: Vec<String>,
    more: bool,
}

impl Changes {
    /// The provider has no such field.
    pub fn dropped(&mut self, field: &str) {
        self.push(format!("drop:{field}"));
    }

    /// The value was outside of what the provider takes.
    pub fn clamped(&mut self, field: &str, value: impl fmt::Display) {
        self.push(format!("clamp:{field}={value}"));
    }

    /// The value brought between `least` and `most`, and noted where it was not there.
    pub fn within<T>(&mut self, field: &str, value: T, least: T, most: T) -> T
    where
        T: Copy + PartialOrd + fmt::Display,
    {
        let near = match value {
            value if value < least => least,
            value if value > most => most,
            value => return value,
        };
        self.clamped(field, near);
        near
    }

    /// The value was replaced by another.
    pub fn set(&mut self, field: &str, value: impl fmt::Display) {
        self.push(format!("set:{field}={value}"));
    }

    /// The field is called otherwise although the dialect is the same.
    pub fn renamed(&mut self, from: &str, to: &str) {
        self.push(format!("rename:{from}={to}"));
    }

    /// Something was added that the client did not say.
    pub fn added(&mut self, field: &str) {
        self.push(format!("add:{field}"));
    }

    /// Whether nothing was changed.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn push(&mut self, entry: String) {
        // A header's value: nothing but visible ASCII, and no comma inside an entry.
        let entry: String = entry
            .chars()
            .map(|letter| {
                if letter.is_ascii_graphic() && letter != ',' {
                    letter
                } else {
                    '_'
                }
            })
            .collect();
        if self.entries.contains(&entry) {
            return;
        }
        match self.entries.len() < CHANGES_MAX {
            true => self.entries.push(entry),
            false => self.more = true,
        }
    }
}

impl fmt::Display for Changes {
    /// The value of `cf-aig-changes`: `drop:seed,clamp:temperature=1`.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.entries.join(","))?;
        match self.more {
            true => formatter.write_str(",more"),
            false => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_told_once_and_in_order() {
        let mut changes = Changes::default();
        assert!(changes.is_empty());
        changes.dropped("seed");
        assert_eq!(changes.within("temperature", 1.5, 0.0, 1.0), 1.0);
        assert_eq!(changes.within("top_p", 0.5, 0.0, 1.0), 0.5);
        changes.dropped("seed");
        changes.renamed("max_tokens", "max_completion_tokens");
        changes.dropped("odd,\r\nname");
        let told =
            "drop:seed,clamp:temperature=1,rename:max_tokens=max_completion_tokens,drop:odd___name";
        assert_eq!(changes.to_string(), told);
        (0..2 * CHANGES_MAX).for_each(|at| changes.dropped(&format!("field{at}")));
        assert!(changes.to_string().ends_with(",more"));
        assert_eq!(changes.to_string().split(',').count(), CHANGES_MAX + 1);
    }
}
