//! The control plane: resources are put, checked, kept; runtimes are made to follow.
//!
//! A **change** goes one way: HTTP ([`router`]) to the rules ([`Control`]) to the store. A **reconciler**
//! ([`Reconciler`]) takes no input but the store and the engine: whatever they hold, it makes topics, plans and
//! the topic table follow, again and again, on a signal and on a timer.
//!
//! Invariants:
//! - What isn't valid isn't stored, whoever sends it: there is one validation, on the server, and it reports
//!   every problem at once.
//! - What a write would do is decided apart from the write, and a plan of many decides by the same code.
//! - A spec that didn't change makes no new revision and no new generation, so that applying again is free.
//! - A stage gets its plan only after all of its topics exist; a plan names no topic of another workspace.
//! - No secret is stored: a config value that is one must be a reference (see `resources`' connector).
//!
//! It must not know how stages work: it talks to them by [`Stages`], and to the engine by [`Engine`].
//!
//! - Nobody does what he has no permission for: each route demands one before its handler runs, and what a write would do is
//!   decided within its caller's.
//!
//! Not here yet: people and their roles, policies, audit, the OpenAPI document, several control planes on one store.

mod action;
mod admit;
mod api;
mod backtest;
mod clients;
mod config;
mod control;
mod decide;
mod drift;
mod engine;
mod error;
mod evaluate;
mod excerpt;
pub mod metrics;
mod offsets;
mod plan;
mod reconcile;
mod redrive;
mod rehearse;
mod resource;
mod rollback;
mod seen;
mod stages;
pub mod transform_test;

pub use action::Action;
pub use admit::Sample;
pub use api::router;
pub use clients::{AskedOfClient, client_key};
pub use config::{Config, EngineKind};
pub use control::{Change, Control, Deps, Listed, Precondition, Put, Write};
pub use engine::{Created, Engine, EngineError, EngineTopic, KafkaEngine, NewTopic};
pub use error::Error;
pub use evaluate::{Evaluate, Evaluated, Failure, Place};
pub use offsets::{Moved, Reset};
pub use reconcile::Reconciler;
pub use rollback::{RollBack, Rollout};
pub use stages::{NoStages, Stages};
