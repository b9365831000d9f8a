//! Formats of `/metrics`: the two that scrapers request.

/// The media type of OpenMetrics.
pub(super) const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The media type of the classic Prometheus text format.
pub(super) const CLASSIC: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Returns true if an `Accept` field requests OpenMetrics.
pub(super) fn wants_openmetrics(accept: &str) -> bool {
    accept.split(',').any(|range| {
        let mut parts = range.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("application/openmetrics-text"));
        let refused = parts.any(|part| {
            part.strip_prefix("q=").is_some_and(|q| q.parse().is_ok_and(|q: f32| q == 0.0))
        });
        named && !refused
    })
}

/// The classic text of an OpenMetrics exposition. The two differ in the names of families (a
/// counter's samples end in `_total`, and so does its name in the classic format), in their types,
/// and in the closing `# EOF`, which the classic format does not have.
pub(super) fn classic(openmetrics: &str) -> String {
    let mut out = String::with_capacity(openmetrics.len() + 1024);
    // A family's help comes before its type, and the type decides the name.
    let mut help = None;
    for line in openmetrics.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            help = rest.split_once(' ');
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let Some((family, kind)) = rest.split_once(' ') else { continue };
            let (suffix, kind) = match kind {
                "counter" => ("_total", "counter"),
                "info" => ("_info", "gauge"),
                "stateset" => ("", "gauge"),
                "gaugehistogram" | "unknown" => ("", "untyped"),
                other => ("", other),
            };
            if let Some((_, text)) = help.take().filter(|(named, _)| *named == family) {
                out.push_str(&format!("# HELP {family}{suffix} {text}\n"));
            }
            out.push_str(&format!("# TYPE {family}{suffix} {kind}\n"));
        } else if !line.starts_with('#') {
            // Without exemplars, which Tagway does not record, samples are the same in both.
            out.push_str(line);
            out.push('\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use tagway_core::metrics::{Metrics, RequestLabels, RouteLabels};

    #[test]
    fn every_classic_sample_belongs_to_a_declared_family() {
        let metrics = Metrics::new();
        let labels = RequestLabels { site: "a\"b # {".into(), route: "e", code: 204 };
        metrics.requests.get_or_create(&labels).inc();
        metrics.request_duration.get_or_create(&RouteLabels { route: "e" }).observe(0.001);
        let text = classic(&metrics.render());
        assert!(text.contains("# HELP tagway_requests_total HTTP requests answered"), "{text}");
        assert!(text.contains("\n# TYPE tagway_requests_total counter\n"), "{text}");
        assert!(text.contains("\n# TYPE tagway_build_info gauge\n"), "{text}");
        assert!(text.contains("\n# TYPE tagway_request_duration_seconds histogram\n"), "{text}");
        assert!(!text.contains("EOF") && !text.contains("# UNIT"), "{text}");
        let families: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
            .collect();
        for sample in text.lines().filter(|line| !line.starts_with('#')) {
            let name = sample.split(['{', ' ']).next().unwrap();
            let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
            assert!(
                families.contains(&name) || stem.is_some_and(|stem| families.contains(&stem)),
                "{sample}"
            );
        }
    }

    #[test]
    fn wants_openmetrics_follows_the_accept_field() {
        assert!(wants_openmetrics("application/openmetrics-text;version=1.0.0;q=0.5,text/plain"));
        assert!(!wants_openmetrics("application/openmetrics-text;q=0,*/*"));
        assert!(!wants_openmetrics("text/plain;version=0.0.4,*/*;q=0.1"));
    }
}
