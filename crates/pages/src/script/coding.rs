//! Content codings that a client accepts, read from `Accept-Encoding` (RFC 9110 section 12.5.3).

/// A q-value in thousandths, the precision of the field. Zero excludes the coding.
pub type QualityValue = u16;
const WANTED: QualityValue = 1000;

/// The weight of the uncompressed text if the field doesn't mention it: used only as a fallback.
const TAKEN: QualityValue = 1;

/// The q-values of an `Accept-Encoding` field for some codings and for the uncompressed text.
pub struct AcceptedCodings<const N: usize> {
    /// The q-values of the requested codings, in their order.
    pub codings: [QualityValue; N],
    /// The q-value of the uncompressed text (`identity`).
    pub plain: QualityValue,
}

impl<const N: usize> AcceptedCodings<N> {
    /// Reads the lines of `Accept-Encoding` for these codings.
    pub fn read<'l>(lines: impl Iterator<Item = &'l str>, codings: [&str; N]) -> Self {
        let (mut stated, mut plain, mut any) = ([None; N], None, None);
        for item in lines.flat_map(|line| line.split(',')) {
            let (name, parameters) = item.split_once(';').unwrap_or((item, ""));
            let name = name.trim();
            let Some(weight) = weight(parameters) else { continue };
            let is = |other: &str| name.eq_ignore_ascii_case(other);
            if is("*") {
                any = any.or(Some(weight));
            } else if is("identity") {
                plain = plain.or(Some(weight));
            } else {
                for (coding, own) in codings.iter().zip(&mut stated) {
                    if is(coding) || (*coding == "gzip" && is("x-gzip")) {
                        *own = own.or(Some(weight));
                    }
                }
            }
        }
        // `*` with a weight leaves the uncompressed text as the fallback; `*;q=0` excludes it.
        let unstated = if any == Some(0) { 0 } else { TAKEN };
        Self {
            codings: stated.map(|stated| stated.or(any).unwrap_or(0)),
            plain: plain.unwrap_or(unstated),
        }
    }

    /// Returns the index of the coding with the highest weight, the first among equals; `None` if the
    /// uncompressed text has a higher weight, or if all codings are excluded.
    pub fn best(&self) -> Option<usize> {
        let mut best = (0, None);
        for (place, weight) in self.codings.iter().enumerate() {
            if *weight > best.0 {
                best = (*weight, Some(place));
            }
        }
        best.1.filter(|_| best.0 >= self.plain)
    }
}

/// The q-value among an item's parameters. `None` if it is not valid: such an item is ignored.
fn weight(parameters: &str) -> Option<QualityValue> {
    let mut pairs = parameters.split(';').filter_map(|pair| pair.trim().split_once('='));
    let Some((_, text)) = pairs.find(|(key, _)| key.eq_ignore_ascii_case("q")) else {
        return Some(WANTED);
    };
    let (whole, rest) = text.split_once('.').unwrap_or((text, ""));
    if rest.len() > 3 || !rest.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest: QualityValue = format!("{rest:0<3}").parse().ok()?;
    match (whole, rest) {
        ("0", rest) => Some(rest),
        ("1", 0) => Some(WANTED),
        _ => None,
    }
}
