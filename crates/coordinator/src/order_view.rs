//! A view of the order for other threads, so that a look-up costs no round trip through its thread.

use std::sync::Arc;

use parking_lot::{RwLock, RwLockReadGuard};
use relais_cluster::{Coordinator, CoordinatorAction, CoordinatorEvent};

/// The coordinator. Only the order thread changes it, and it holds the lock for one event.
///
/// No lock is held while the journal is written or a message is sent.
#[derive(Clone)]
pub struct OrderView(Arc<RwLock<Coordinator>>);

impl OrderView {
    pub(crate) fn new(order: Coordinator) -> Self {
        Self(Arc::new(RwLock::new(order)))
    }

    /// Returns the present state. The order thread waits until the result is dropped.
    pub fn get(&self) -> RwLockReadGuard<'_, Coordinator> {
        self.0.read()
    }

    pub(crate) fn on(&self, event: CoordinatorEvent, now_ms: u64) -> Vec<CoordinatorAction> {
        self.0.write().on(event, now_ms)
    }

    pub(crate) fn replace(&self, order: Coordinator) {
        *self.0.write() = order;
    }
}
