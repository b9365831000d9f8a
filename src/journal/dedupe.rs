//! What makes two events the same.

/// The key that a message id is remembered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageKey(pub [u8; 16]);
