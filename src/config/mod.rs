//! One YAML file in, [`Settings`] or every error with its place out.

pub mod settings;

pub use settings::Settings;
