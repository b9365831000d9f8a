//! The encoding of stored texts. PostgreSQL takes any character but U+0000, which any client can send.
//!
//! So U+0000 to U+0003 are written as three characters each: U+0001 and, for the two bits of the
//! number, U+0002 or U+0003. Every other character stays as it is. Byte by byte, texts keep their
//! order; and since U+0001 only ever begins a sequence, and the others never do, one text begins with,
//! ends with or contains another exactly where their encodings do.

use std::borrow::Cow;

/// Encodes a text for storage.
pub fn encoded(text: &str) -> Cow<'_, str> {
    if !text.bytes().any(|byte| byte <= 3) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        let number = u32::from(char);
        if number > 3 {
            stored.push(char);
        } else {
            let bit = |is_set: bool| if is_set { '\u{3}' } else { '\u{2}' };
            stored.extend(['\u{1}', bit(number & 2 != 0), bit(number & 1 != 0)]);
        }
    }
    Cow::Owned(stored)
}

/// Decodes a stored text.
pub fn decoded(stored: String) -> String {
    if !stored.bytes().any(|byte| byte == 1) {
        return stored;
    }
    let mut text = String::with_capacity(stored.len());
    let mut chars = stored.chars();
    while let Some(char) = chars.next() {
        if char == '\u{1}' {
            let mut bit = || chars.next() == Some('\u{3}');
            text.push(match (bit(), bit()) {
                (false, false) => '\u{0}',
                (false, true) => '\u{1}',
                (true, false) => '\u{2}',
                (true, true) => '\u{3}',
            });
        } else {
            text.push(char);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn text() -> impl Strategy<Value = String> {
        prop::collection::vec(
            prop_oneof![3 => (0..6_u8).prop_map(char::from), 1 => any::<char>()],
            0..6,
        )
        .prop_map(|chars| chars.into_iter().collect())
    }

    proptest! {
        #[test]
        fn encoding_preserves_order_and_substrings(one in text(), other in text()) {
            let (stored, part) = (encoded(&one), encoded(&other));
            prop_assert!(!stored.contains('\0'));
            prop_assert_eq!(decoded(stored.to_string()), one.clone());
            prop_assert_eq!(stored.cmp(&part), one.cmp(&other));
            prop_assert_eq!(stored.contains(&*part), one.contains(&other));
            prop_assert_eq!(stored.starts_with(&*part), one.starts_with(&other));
            prop_assert_eq!(stored.ends_with(&*part), one.ends_with(&other));
        }
    }
}
