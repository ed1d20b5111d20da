//! A generated directory of any size: nested folders, mixed case, three replicas of each database, some of them at another
//! path or twice on one server. Replicas are computed from the number of the database and the edition of the directory, so
//! nothing is stored.

use std::fmt::Write;

/// The servers of the cluster; a database is on two or three of them.
pub const SERVERS: [&str; 6] = ["Web1/Acme", "Web2/Acme", "Web3/Acme", "Web4/Acme", "Web5/Acme", "Web6/Acme"];
pub const REPLICAS_PER_DATABASE: u64 = 3;
/// Every nth database is at another path in each of the first [`EDITIONS`].
const MOVE_EVERY: u64 = 1_000;
/// Number of different editions.
const EDITIONS: u64 = 100;
/// The edition in which nothing has moved.
pub const UNMOVED_EDITION: u64 = u64::MAX;

const FOLDERS: [&str; 8] =
    ["Sales", "Marketing", "HR", "Finance", "Legal", "Engineering", "Support", "Quality"];
const REGIONS: [&str; 6] = ["EMEA", "Americas", "Asia-Pacific", "North", "South", "Headquarters"];
const KINDS: [&str; 6] = ["Leads", "TeamRoom", "Discussion", "Documents", "Projects", "Archive"];

/// A pseudo-random number for an input (SplitMix64).
#[must_use]
pub fn shuffle(number: u64) -> u64 {
    let mut bits = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

/// The replica ID of a database; it contains the number, so it is unique.
#[must_use]
pub fn replica_id(number: u64) -> u64 {
    0xC125_0000_0000_0000 | (shuffle(number) & 0xFFFF) << 32 | number
}

#[must_use]
pub fn title(number: u64) -> String {
    format!("{} {} {number}", pick(&KINDS, number, 3), pick(&REGIONS, number, 5))
}

/// The server's number and the path, for `replica` of 0 to 2.
#[must_use]
pub fn replica(number: u64, replica: u64, edition: u64) -> (usize, String) {
    let first = at(number, 1, SERVERS.len());
    let several = at(number, 11, 256) == 0;
    let server = match (replica, several) {
        // Two instances on one server.
        (2, true) => (first + 1) % SERVERS.len(),
        _ => (first + replica as usize) % SERVERS.len(),
    };
    let mut path = String::with_capacity(64);
    if number % MOVE_EVERY == edition {
        let _ = write!(path, "Moved\\{edition}\\");
    }
    if (replica == 2 && several) || (replica == 1 && at(number, 13, 50) == 0) {
        path.push_str("Copies\\");
    }
    match number % 2 {
        0 => {
            let _ = write!(path, "mail\\{:02}\\User{number:07}.nsf", number / 2 % 64);
        }
        _ => {
            let _ = write!(
                path,
                "Apps\\{}\\{}\\Team{:03}\\{}{number:07}.nsf",
                pick(&FOLDERS, number, 2),
                pick(&REGIONS, number, 5),
                at(number, 7, 400),
                pick(&KINDS, number, 3),
            );
        }
    }
    (server, path)
}

/// Whether the path of a database depends on the edition.
#[must_use]
pub fn moves(number: u64) -> bool {
    number % MOVE_EVERY < EDITIONS
}

fn pick(words: &[&'static str], number: u64, salt: u64) -> &'static str {
    words.get(at(number, salt, words.len())).copied().unwrap_or_default()
}

fn at(number: u64, salt: u64, of: usize) -> usize {
    (shuffle(number ^ salt << 48) % of as u64) as usize
}
