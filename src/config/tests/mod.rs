//! Tests of the configuration: errors with their positions, defaults, the files under `conf/`.

mod client_certificates;
mod companion;
mod conf_folder;
mod defaults;
mod errors;
mod ignored_keys;
mod places;
mod routes;
mod sites_and_headers;
mod support;
mod tls;
