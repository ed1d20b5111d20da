//! Counters of requests that access rules denied. They are found by the names of the rules, so that a reload keeps them;
//! requests use the counters themselves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;

/// The counters of a cluster's rules by name.
#[derive(Debug, Default)]
pub struct DeniedCounters(Mutex<BTreeMap<Box<str>, Arc<AtomicU64>>>);

impl DeniedCounters {
    /// The counters of these rules in their order. Those of other rules are forgotten.
    pub fn of_rules<'n>(&self, names: impl Iterator<Item = &'n str>) -> Box<[Arc<AtomicU64>]> {
        let mut known = self.0.lock();
        let mut current = BTreeMap::new();
        let counters = names
            .map(|name| {
                let counter = current
                    .entry(Box::<str>::from(name))
                    .or_insert_with(|| known.get(name).cloned().unwrap_or_default());
                Arc::clone(counter)
            })
            .collect();
        *known = current;
        counters
    }
}
