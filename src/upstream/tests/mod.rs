//! Tests of the reading of responses.

use super::{raw_response_head, response_body, response_head};

mod against_pingora;
mod body;
mod head;
mod responses;
