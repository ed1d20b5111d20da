//! Tests of the configuration: errors with their positions, defaults, the files under `conf/`.

mod access;
mod acme;
mod bytes;
mod client_certificates;
mod companion;
mod conf_folder;
mod defaults;
mod errors;
mod home_mail;
mod ignored_keys;
mod places;
mod pools;
mod routes;
mod site_rules;
mod sites_and_headers;
mod support;
mod tls;
