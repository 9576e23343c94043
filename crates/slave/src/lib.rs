//! The slave: a pool of processes that serves one folder
