//! What clients say of content codings (RFC 9110 section 12.5.3).

/// A weight in thousandths, as finely as a client can say it. Zero is not wanted at all.
pub type QualityValue = u16;
const WANTED: QualityValue = 1000;

/// The text as it is, of which a client said nothing: taken where nothing else is.
const TAKEN: QualityValue = 1;

/// What `Accept-Encoding` says of some codings.
pub struct AcceptedCodings<const N: usize> {
    /// Of the codings that were asked about.
    pub codings: [QualityValue; N],
    /// Of the text as it is.
    pub plain: QualityValue,
}

impl<const N: usize> AcceptedCodings<N> {
    /// Reads the field's lines about these codings.
    pub fn read<'l>(lines: impl Iterator<Item = &'l str>, codings: [&str; N]) -> Self {
        let (mut said, mut plain, mut any) = ([None; N], None, None);
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
                for (coding, own) in codings.iter().zip(&mut said) {
                    if is(coding) || (*coding == "gzip" && is("x-gzip")) {
                        *own = own.or(Some(weight));
                    }
                }
            }
        }
        // Any other coding excludes none; an exclusion of all others excludes it.
        let unsaid = if any == Some(0) { 0 } else { TAKEN };
        Self { codings: said.map(|said| said.or(any).unwrap_or(0)), plain: plain.unwrap_or(unsaid) }
    }

    /// The place of the coding that is wanted most, the first of equals; `None` if the text as it is is
    /// wanted more, or none of them at all.
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

/// The weight among an item's parameters. `None` for what is no weight: such an item says nothing.
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
