//! The connectors that ship with Vltava, one folder each. A connector only writes (or reads): order,
//! retries, dead letters and offsets belong to the runner in `connect`, and none of them sees the store.

pub mod http;
