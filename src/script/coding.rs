//! What clients say of content codings.

/// Whether an `Accept-Encoding` takes a coding.
pub fn takes(accepts: &str, coding: &str) -> bool {
    let quality = |name: &str| {
        accepts.split(',').find_map(|item| {
            let mut parts = item.split(';').map(str::trim);
            let is_it = parts.next()?.eq_ignore_ascii_case(name);
            let weight = parts.find_map(|part| part.strip_prefix("q="));
            is_it.then(|| weight.is_none_or(|it| it.parse::<f32>().is_ok_and(|it| it > 0.0)))
        })
    };
    quality(coding).or_else(|| quality("*")).unwrap_or(false)
}
