//! Transfers: what is sent, what ends them, and that a cut upload is never published.

mod cut_in_cluster;
mod cut_uploads;
mod data_ports;
mod downloads;
mod encrypted;
mod slow_peers;
mod uploads;
