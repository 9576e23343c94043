//! The master: sends each client to the next slave in turn
