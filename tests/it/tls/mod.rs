//! Encrypted connections: function, trust, and attacks by unauthenticated peers.

mod encryption;
mod reruns;
mod trust;
