//! Reads when the data of a database was last modified. Which replica is behind is decided by
//! [`domain::freshness`](crate::domain::freshness).

pub(crate) mod head;
mod pace;

pub(crate) use head::{HeadError, HeadTarget, answers_login_form, read_head};
pub(crate) use pace::ServerPace;
