//! The names of the Segment spec's events, as sites write them in practice.

/// Returns true if a track name is this one of the spec's, written `ORDER_COMPLETED`, without regard to case
/// and to spaces: `order  completed` and `Order_Completed` are.
pub fn is_like(canonical: &str, event: &str) -> bool {
    canonical.eq_ignore_ascii_case(event.trim()) || is_joined(canonical, event.split_whitespace())
}

/// Returns true if the words, joined by `_`, are the canonical name.
fn is_joined<'w>(canonical: &str, words: impl Iterator<Item = &'w str>) -> bool {
    let mut rest = canonical;
    for (index, word) in words.enumerate() {
        let start = if index == 0 { Some(rest) } else { rest.strip_prefix('_') };
        let Some((head, tail)) = start.and_then(|start| start.split_at_checked(word.len())) else {
            return false;
        };
        if !head.eq_ignore_ascii_case(word) {
            return false;
        }
        rest = tail;
    }
    rest.is_empty()
}

/// Returns the name as the spec writes it: `Product Added to Wishlist`.
pub fn spec_name(canonical: &str) -> String {
    let mut name = String::with_capacity(canonical.len());
    for word in canonical.split('_') {
        if !name.is_empty() {
            name.push(' ');
        }
        let lower = word.to_ascii_lowercase();
        let mut letters = lower.chars();
        match letters.next() {
            Some(first) if lower != "to" => {
                name.push(first.to_ascii_uppercase());
                name.push_str(letters.as_str());
            }
            _ => name.push_str(&lower),
        }
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_match_in_any_case_and_spacing() {
        for written in
            ["Order Completed", "order completed", " ORDER_COMPLETED ", "Order  Completed"]
        {
            assert!(is_like("ORDER_COMPLETED", written), "{written}");
        }
        for other in ["Order", "Order Completed Twice", "OrderCompleted", "", "Ordér Completed"] {
            assert!(!is_like("ORDER_COMPLETED", other), "{other}");
        }
    }

    #[test]
    fn names_are_written_as_the_spec_has_them() {
        assert_eq!(spec_name("ORDER_COMPLETED"), "Order Completed");
        assert_eq!(spec_name("PRODUCT_ADDED_TO_WISHLIST"), "Product Added to Wishlist");
    }
}
