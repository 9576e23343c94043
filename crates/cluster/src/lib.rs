//! The cluster as pure state machines: events in, actions out
