//! Ids of stored objects.

use uuid::Uuid;

/// A random UUID (version 4), as text.
pub fn uuid() -> String {
    Uuid::new_v4().to_string()
}

/// 32 random hexadecimal digits.
pub fn hex32() -> String {
    Uuid::new_v4().simple().to_string()
}
