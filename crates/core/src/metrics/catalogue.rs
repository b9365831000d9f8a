//! The catalogue of metrics: registers each for the exposition, and knows each one's name, type, labels and
//! meaning for the reference.

use std::fmt::Debug;
use std::hash::Hash;

use prometheus_client::encoding::{EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::{MetricType, TypedMetric};
use prometheus_client::registry::{Metric, Registry};

/// A metric in the reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MetricEntry {
    /// The name as in a scrape.
    pub name: String,
    /// `counter`, `gauge`, `histogram` or `info`.
    pub kind: &'static str,
    /// The names of its labels, in their order.
    pub labels: Vec<String>,
    /// Its meaning: one or two sentences.
    pub help: &'static str,
}

/// The metrics of one gateway.
pub(super) struct MetricCatalogue {
    prefix: &'static str,
    registry: Registry,
    entries: Vec<MetricEntry>,
}

impl MetricCatalogue {
    pub(super) fn new(prefix: &'static str) -> Self {
        Self { prefix, registry: Registry::with_prefix(prefix), entries: Vec::new() }
    }

    pub(super) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(super) fn entries(&self) -> &[MetricEntry] {
        &self.entries
    }

    /// Adds a metric without labels.
    pub(super) fn add<M: Metric + TypedMetric>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: M,
    ) {
        self.put(name, (M::TYPE, Vec::new()), help, metric);
    }

    /// Adds a metric with labels.
    pub(super) fn family<S, M, C>(
        &mut self,
        name: &'static str,
        help: &'static str,
        metric: &Family<S, M, C>,
    ) where
        S: Clone + Debug + Default + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
        M: EncodeMetric + TypedMetric + Debug + Send + Sync + 'static,
        C: MetricConstructor<M> + Clone + Send + Sync + 'static,
        Family<S, M, C>: Metric,
    {
        self.put(name, (M::TYPE, label_names::<S>()), help, metric.clone());
    }

    fn put(
        &mut self,
        name: &'static str,
        (kind, labels): (MetricType, Vec<String>),
        help: &'static str,
        metric: impl Metric,
    ) {
        let (kind, ending) = match kind {
            MetricType::Counter => ("counter", "_total"),
            MetricType::Gauge => ("gauge", ""),
            MetricType::Histogram => ("histogram", ""),
            MetricType::Info => ("info", "_info"),
            _ => ("unknown", ""),
        };
        let full = format!("{}_{name}{ending}", self.prefix);
        self.entries.push(MetricEntry { name: full, kind, labels, help });
        // The exposition adds a full stop to each text.
        self.registry.register(name, help.trim_end_matches('.'), metric);
    }
}

/// The names of a set of labels, as in a scrape.
fn label_names<S>() -> Vec<String>
where
    S: Clone + Debug + Default + Eq + Hash + EncodeLabelSet + Send + Sync + 'static,
{
    let family = Family::<S, Counter>::default();
    family.get_or_create(&S::default()).inc();
    let (mut registry, mut text) = (Registry::default(), String::new());
    registry.register("x", "x", family);
    // Writing to a String cannot fail.
    let _infallible = text::encode(&mut text, &registry);
    let set = text.split_once('{').and_then(|(_, rest)| rest.split_once('}'));
    let pairs = set.map_or("", |(set, _)| set).split(',');
    pairs.filter_map(|pair| Some(pair.split_once('=')?.0.to_owned())).collect()
}
