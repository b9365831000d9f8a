//! A JSON list that is not read beyond its bound: a few kilobytes of gzip hold millions of items.

use std::fmt;

use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// Why a list is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ListError {
    /// It is no JSON list.
    NotAList,
    /// It has more items than it may.
    TooLong,
}

/// The items of a list, unread. Stops at the first item beyond `max`.
pub(super) fn read(text: &str, max: usize) -> Result<Vec<&RawValue>, ListError> {
    let mut is_over = false;
    let mut reader = serde_json::Deserializer::from_str(text);
    let items = reader.deserialize_seq(AtMost { max, is_over: &mut is_over });
    match (items, is_over) {
        (_, true) => Err(ListError::TooLong),
        (Ok(items), false) if reader.end().is_ok() => Ok(items),
        _ => Err(ListError::NotAList),
    }
}

struct AtMost<'f> {
    max: usize,
    is_over: &'f mut bool,
}

impl<'de> Visitor<'de> for AtMost<'_> {
    type Value = Vec<&'de RawValue>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            if list.len() == self.max {
                *self.is_over = true;
                return Err(A::Error::custom("the list is too long"));
            }
            list.push(item);
        }
        Ok(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_read_up_to_its_bound() {
        let texts = |text, max| {
            read(text, max).map(|items| items.into_iter().map(RawValue::get).collect::<Vec<_>>())
        };
        assert_eq!(texts("[1, {\"a\":2} ,3]", 3), Ok(vec!["1", "{\"a\":2}", "3"]));
        assert_eq!(texts("[]", 0), Ok(vec![]));
        for bad in ["{}", "1", "", "[1,]", "[1] 2", "[1,[2]"] {
            assert_eq!(texts(bad, 3), Err(ListError::NotAList), "{bad}");
        }
        // What comes behind the bound is not even read.
        assert_eq!(texts("[1,2,3,4,garbage", 3), Err(ListError::TooLong));
    }
}
