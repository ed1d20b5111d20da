//! An index as octets, and back: what the last good copy on disk holds.
//!
//! In: an index, or octets that this wrote. Out: octets, or the same index. Nothing is sorted and nothing compared
//! on the way back, so that a balancer that starts with a million databases answers at once; only the hash tables
//! are made anew. Damaged octets give an error or an index of nonsense, never a panic: whoever keeps them keeps a
//! checksum beside them.
//!
//! All numbers are little endian. The octets are for this version of the program alone.

use std::io::{self, BufRead, Read, Write};

use super::build::{hash_paths, hash_replica_ids};
use super::texts::{TextIx, Texts};
use super::{AT_HOME, AmbiguousRow, DatabaseIx, DatabaseRow, Index, PathIx, PathOwner, PathRow};
use super::{ReplicaRow, ServerIx, place};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{Mark, ReplicaId};

/// Octets that are no index.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// They cannot be read, or end too early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// They say what cannot be.
    #[error("{0} cannot be understood")]
    Damaged(&'static str),
}

impl Index {
    /// Writes the whole index. Give it something that buffers.
    ///
    /// # Errors
    /// As `out` says.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        write_u64(out, self.texts.bytes() as u64)?;
        out.write_all(self.texts.arena.as_bytes())?;

        write_u64(out, self.servers.len() as u64)?;
        for name in self.servers() {
            write_u64(out, name.abbreviated().len() as u64)?;
            out.write_all(name.abbreviated().as_bytes())?;
        }

        write_u64(out, self.databases.len() as u64)?;
        for database in &self.databases {
            out.write_all(&database.replica_id.0.to_le_bytes())?;
            out.write_all(&database.title.0.to_le_bytes())?;
            out.write_all(&database.copies.to_le_bytes())?;
            for replica in self.replica_rows(database) {
                out.write_all(&replica.spelling.0.to_le_bytes())?;
                out.write_all(&replica.path.0.0.to_le_bytes())?;
                out.write_all(&replica.server.0.to_le_bytes())?;
                out.write_all(&[replica.mark as u8])?;
            }
        }

        // In the order of the texts, so that whoever reads them walks through memory.
        let mut paths: Vec<&PathRow> = self.by_path.iter().collect();
        paths.sort_unstable_by_key(|row| row.path);
        write_u64(out, paths.len() as u64)?;
        for row in paths {
            out.write_all(&row.path.0.0.to_le_bytes())?;
            out.write_all(&row.owner.0.to_le_bytes())?;
        }

        write_u64(out, self.ambiguous.len() as u64)?;
        for row in &self.ambiguous {
            out.write_all(&row.path.0.0.to_le_bytes())?;
            out.write_all(&row.end.to_le_bytes())?;
        }
        write_u64(out, self.sharers.len() as u64)?;
        for database in &self.sharers {
            out.write_all(&database.0.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads what [`Index::write_to`] wrote.
    ///
    /// # Errors
    /// When the octets end too early or say what cannot be.
    pub fn read_from(from: &mut impl BufRead) -> Result<Self, Unreadable> {
        let length = read_u64(from)?;
        let texts = Texts { arena: text(from, length)?.into_boxed_str() };

        let servers = list(from, |from| {
            let length = read_u64(from)?;
            ServerName::parse(&text(from, length)?).map_err(|_| Unreadable::Damaged("a server's name"))
        })?;
        if servers.len() > usize::from(u16::MAX) + 1 {
            return Err(Unreadable::Damaged("the number of servers"));
        }

        let (mut replicas, mut replica_count) = (Vec::new(), 0_usize);
        let databases = list(from, |from| {
            let mut database = DatabaseRow {
                replica_id: ReplicaId(read_u64(from)?),
                title: TextIx(read_u32(from)?),
                copies: read_u32(from)?,
                elsewhere: number(replicas.len(), "the number of replicas")?,
                at_home: [ReplicaRow::default(); AT_HOME],
            };
            replica_count += place(database.copies);
            match database.at_home.get_mut(..place(database.copies)) {
                Some(here) => {
                    for replica in here {
                        *replica = read_replica(from)?;
                    }
                }
                None => {
                    for _ in 0..database.copies {
                        replicas.push(read_replica(from)?);
                    }
                }
            }
            Ok(database)
        })?;
        number(databases.len(), "the number of databases")?;

        let paths = list(from, |from| {
            let path = PathIx(TextIx(read_u32(from)?));
            Ok(PathRow { path, owner: PathOwner(read_u32(from)?) })
        })?;
        let ambiguous = list(from, |from| {
            let path = PathIx(TextIx(read_u32(from)?));
            Ok(AmbiguousRow { path, end: read_u32(from)? })
        })?;
        let sharers = list(from, |from| Ok(DatabaseIx(read_u32(from)?)))?;
        Ok(Self {
            by_path: hash_paths(&texts, paths.into_iter()),
            by_replica_id: hash_replica_ids(&databases),
            texts,
            servers: servers.into(),
            databases: databases.into(),
            replicas: replicas.into(),
            replica_count,
            ambiguous: ambiguous.into(),
            sharers: sharers.into(),
        })
    }
}

fn write_u64(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn read_u64(from: &mut impl Read) -> io::Result<u64> {
    let mut octets = [0; 8];
    from.read_exact(&mut octets)?;
    Ok(u64::from_le_bytes(octets))
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut octets = [0; 4];
    from.read_exact(&mut octets)?;
    Ok(u32::from_le_bytes(octets))
}

fn read_replica(from: &mut impl Read) -> Result<ReplicaRow, Unreadable> {
    let (spelling, path) = (TextIx(read_u32(from)?), PathIx(TextIx(read_u32(from)?)));
    let mut rest = [0; 3];
    from.read_exact(&mut rest)?;
    let [low, high, mark] = rest;
    let mark = [Mark::InService, Mark::OutOfService, Mark::PendingDelete]
        .into_iter()
        .find(|known| *known as u8 == mark)
        .ok_or(Unreadable::Damaged("a mark"))?;
    Ok(ReplicaRow { spelling, path, server: ServerIx(u16::from_le_bytes([low, high])), mark })
}

fn text(from: &mut impl Read, length: u64) -> Result<String, Unreadable> {
    let mut text = Vec::new();
    // A length that lies ends with the octets; only what is there is taken.
    from.take(length).read_to_end(&mut text)?;
    if text.len() as u64 != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    String::from_utf8(text).map_err(|_| Unreadable::Damaged("a text"))
}

/// A number of things, and the things.
fn list<R: BufRead, T>(
    from: &mut R,
    mut one: impl FnMut(&mut R) -> Result<T, Unreadable>,
) -> Result<Vec<T>, Unreadable> {
    let count = usize::try_from(read_u64(from)?).unwrap_or(usize::MAX);
    let mut all = Vec::new();
    // Memory that is reserved and not touched costs nothing: a number that lies ends with the octets, too.
    all.try_reserve_exact(count).map_err(|_| Unreadable::Damaged("a number"))?;
    for _ in 0..count {
        all.push(one(from)?);
    }
    Ok(all)
}

/// In 31 bits, as an index counts.
fn number(count: usize, what: &'static str) -> Result<u32, Unreadable> {
    u32::try_from(count).ok().filter(|n| *n < PathOwner::AMBIGUOUS).ok_or(Unreadable::Damaged(what))
}
