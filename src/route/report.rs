//! What is wrong with a route, and where.

use crate::limits::ROUTE_ERRORS_MAX;

/// One thing wrong with a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteError {
    /// The id of the element; `None` where the error is of the route, or the element has none.
    pub element: Option<Box<str>>,
    /// Where in the request's body: `body`, `elements`, a place in the array, and on.
    pub path: Vec<String>,
    /// What is wrong there.
    pub message: String,
}

impl std::fmt::Display for RouteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.element {
            Some(id) => write!(f, "element {id:?}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for RouteError {}

/// The errors found so far, and where the parser stands.
pub(super) struct Report {
    element: Option<Box<str>>,
    path: Vec<String>,
    errors: Vec<RouteError>,
}

impl Report {
    pub(super) fn new() -> Self {
        Self {
            element: None,
            path: vec!["body".to_owned(), "elements".to_owned()],
            errors: Vec::new(),
        }
    }

    /// Goes on to the element at this place.
    pub(super) fn enter_element(&mut self, at: usize, id: Option<&str>) {
        self.element = id.map(|id| shown(id).into());
        self.path.truncate(2);
        self.path.push(at.to_string());
    }

    /// Goes on to what concerns all elements.
    pub(super) fn leave_element(&mut self) {
        self.element = None;
        self.path.truncate(2);
    }

    pub(super) fn enter(&mut self, name: &str) {
        self.path.push(shown(name).to_owned());
    }

    pub(super) fn leave(&mut self) {
        self.path.pop();
    }

    /// Notes an error here. Returns `None`, which is what comes of the part that is wrong.
    pub(super) fn wrong<T>(&mut self, message: impl Into<String>) -> Option<T> {
        if self.errors.len() < ROUTE_ERRORS_MAX {
            self.errors.push(RouteError {
                element: self.element.clone(),
                path: self.path.clone(),
                message: message.into(),
            });
        }
        None
    }

    /// As [`Self::wrong`], for a part of what stands here.
    pub(super) fn wrong_at<T>(&mut self, names: &[&str], message: impl Into<String>) -> Option<T> {
        names.iter().for_each(|name| self.enter(name));
        let nothing = self.wrong(message);
        names.iter().for_each(|_| self.leave());
        nothing
    }

    pub(super) fn errors(self) -> Vec<RouteError> {
        self.errors
    }

    pub(super) fn is_clean(&self) -> bool {
        self.errors.is_empty()
    }
}

/// What a message repeats of a name or value: its first bytes.
pub(super) fn shown(text: &str) -> &str {
    const SHOWN_MAX: usize = 128;
    &text[..text.floor_char_boundary(SHOWN_MAX)]
}
