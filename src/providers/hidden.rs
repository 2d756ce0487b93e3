//! What must not be shown.

use zeroize::Zeroizing;

/// A secret text. It cannot be printed, and its memory is cleared when it is dropped.
pub struct Hidden(Zeroizing<String>);

impl Hidden {
    /// Takes a text over.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Takes a text over if it can stand in a header: visible ASCII, not empty.
    pub(super) fn visible(text: String) -> Option<Self> {
        let hidden = Self::new(text);
        let is_visible =
            !hidden.0.is_empty() && hidden.0.bytes().all(|byte| byte.is_ascii_graphic());
        is_visible.then_some(hidden)
    }

    /// The text, for the one place that writes it into a request.
    pub fn expose(&self) -> &str {
        &self.0
    }
}
