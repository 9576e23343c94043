//! A JSON object whose fields keep their order.

use serde::{Serialize, Serializer};

/// Names and values of the fields, in the order of the output.
pub(crate) struct JsonObject<V>(pub Vec<(&'static str, V)>);

impl<V: Serialize> Serialize for JsonObject<V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}
