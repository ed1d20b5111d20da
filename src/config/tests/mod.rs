//! Tests of the configuration: errors with their positions, defaults, the files under `conf/`.

mod acme;
mod bytes;
mod client_certificates;
mod companion;
mod conf_folder;
mod defaults;
mod errors;
mod ignored_keys;
mod places;
mod support;
mod tls;
