//! The wire formats as producers and consumers see them.

mod decode;
mod encode;
mod fake_registry;
mod files;
mod schemas;
