//! Which call of a tool a fragment belongs to, where the provider's indices cannot be relied on: they are missing, all zero, or
//! used again (spec: providers 1.5).

/// The calls of one answer in a stream, in the order of their begin.
#[derive(Debug, Default)]
pub struct Calls {
    /// Each once.
    pub list: Vec<Call>,
}

/// A call in a stream.
#[derive(Debug)]
pub struct Call {
    /// The provider's index, if it gives one.
    key: Option<u64>,
    /// Its id, the provider's or one of our own.
    pub id: String,
    /// It takes free text.
    pub custom: bool,
    /// The part that it became, once its name was known.
    pub part: Option<u32>,
    /// Arguments that came before the name.
    pub pending: String,
    /// How far its arguments are.
    pub shape: Shape,
    /// Nothing more can come.
    pub closed: bool,
}

impl Calls {
    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// The call that a fragment goes on with; `None`: it begins a new one.
    pub fn find(&self, key: Option<u64>, id: Option<&str>, name: Option<&str>) -> Option<usize> {
        let last_of = |key: u64| self.list.iter().rposition(|call| call.key == Some(key));
        let at = match (key, id) {
            (Some(key), _) => last_of(key)?,
            (None, Some(id)) => match self.list.iter().rposition(|call| call.id == id) {
                Some(at) => return Some(at),
                None if name.is_some() => return None,
                None => self.list.len().checked_sub(1)?,
            },
            (None, None) => self.list.len().checked_sub(1)?,
        };
        let call = &self.list[at];
        // A name begins a call. Some servers repeat it, or make up another id, in each fragment of the same call.
        let begins = match (id, name) {
            (Some(id), Some(_)) => id != call.id && (call.shape.is_whole() || call.part.is_some()),
            (None, Some(_)) => call.part.is_some() && call.shape.is_whole(),
            (_, None) => false,
        };
        (!begins).then_some(at)
    }

    /// Begins a call.
    pub fn add(&mut self, key: Option<u64>, id: String, custom: bool) -> usize {
        self.list.push(Call {
            key,
            id,
            custom,
            part: None,
            pending: String::new(),
            shape: Shape::default(),
            closed: false,
        });
        self.list.len() - 1
    }
}

/// Whether a JSON text that comes in fragments is whole.
#[derive(Debug, Default, Clone)]
pub struct Shape {
    depth: u32,
    in_string: bool,
    escaped: bool,
    begun: bool,
}

impl Shape {
    /// Takes the next fragment.
    pub fn take(&mut self, fragment: &str) {
        for byte in fragment.bytes() {
            if self.in_string {
                match byte {
                    _ if self.escaped => self.escaped = false,
                    b'\\' => self.escaped = true,
                    b'"' => self.in_string = false,
                    _ => {}
                }
                continue;
            }
            match byte {
                b'"' => self.in_string = true,
                b'{' | b'[' => {
                    self.begun = true;
                    self.depth = self.depth.saturating_add(1);
                }
                b'}' | b']' => self.depth = self.depth.saturating_sub(1),
                _ => {}
            }
        }
    }

    /// Whether an object came to its end.
    pub fn is_whole(&self) -> bool {
        self.begun && self.depth == 0 && !self.in_string
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_whole_when_its_braces_are_closed() {
        for (fragments, whole) in [
            (vec![""], false),
            (vec!["{}"], true),
            (vec!["{\"a", "\":\"}", "\\\"", "\"}"], true),
            (vec!["{\"a\":\"}\""], false),
            (vec!["{\"a\":[{}"], false),
        ] {
            let mut shape = Shape::default();
            fragments.iter().for_each(|fragment| shape.take(fragment));
            assert_eq!(shape.is_whole(), whole, "{fragments:?}");
        }
    }
}
