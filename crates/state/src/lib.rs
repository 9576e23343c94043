//! Cluster key, tickets and what else a server remembers
