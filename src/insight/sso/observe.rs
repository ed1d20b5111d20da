//! What was seen at the servers, as plain data, so that every judgement can be tested without a server.

/// A server and its login.
#[derive(Clone, Debug)]
pub struct SeenServer {
    /// The abbreviated Domino name.
    pub name: String,
    /// Its name on the network.
    pub hostname: String,
    pub login: SeenLogin,
    /// Its clock minus ours, in milliseconds. `None`: it sent no `Date`.
    pub clock_ms: Option<i64>,
}

/// What became of the login.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenLogin {
    /// The server has set these cookies.
    Session(Vec<SeenCookie>),
    /// It takes the password with every request.
    Basic,
    /// It refuses the account.
    Refused,
    /// It was not seen, and why.
    Unknown(String),
}

/// A login cookie without its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenCookie {
    pub name: String,
    pub is_sso: bool,
    pub domain: Option<String>,
    pub secure: bool,
}

/// A database, and how its holders answered.
#[derive(Clone, Debug)]
pub struct SeenDatabase {
    pub path: String,
    /// Positions among the servers, in order.
    pub holders: Vec<usize>,
    /// The answer to Anonymous, by holder.
    pub anonymous: Vec<SeenAnswer>,
    /// The answer to each session (rows) at each holder (columns), by position in `holders`.
    pub answers: Vec<Vec<SeenAnswer>>,
}

/// What a server answered for a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SeenAnswer {
    /// The database, and a login was needed for it.
    Opens,
    /// The database, but Anonymous gets it just as well.
    OpensForAll,
    /// A login form, a challenge, or 403.
    WantsLogin,
    /// It was not seen, and why.
    Unknown(String),
}

/// Everything that was seen in one cluster.
#[derive(Clone, Debug)]
pub struct SeenCluster {
    pub name: String,
    pub user: String,
    pub servers: Vec<SeenServer>,
    pub databases: Vec<SeenDatabase>,
    /// Databases with several replicas that were not opened, because of the limit.
    pub left_out: usize,
    /// Databases that have one replica, which no failover can move.
    pub single: usize,
    /// Wanted databases that are not in the directory.
    pub unknown: Vec<String>,
}

impl SeenAnswer {
    /// Whether the database came, for whatever reason.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Opens | Self::OpensForAll)
    }
}
