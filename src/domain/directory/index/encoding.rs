//! The binary form of an index, for the last good copy on disk.
//!
//! Reading sorts and compares nothing and rebuilds only the hash tables, so that a balancer with a million databases
//! starts fast. Damaged bytes give an error or a wrong index, never a panic; the file has a checksum. Numbers are
//! little endian, and only the same version of the program reads the bytes.

use std::io::{self, BufRead, Read, Write};

use super::build::{hash_paths, hash_replica_ids};
use super::string_pool::{StringId, StringPool};
use super::{
    AmbiguousRow, DatabaseId, DatabaseRow, DirectoryIndex, INLINE_REPLICAS, PathId, PathOwner, PathRow,
};
use super::{DirectoryServerId, ReplicaRow, to_usize};
use crate::domain::cluster::ServerName;
use crate::domain::directory::{ReplicaId, ReplicaStatus};

/// Why bytes are not an index.
#[derive(Debug, thiserror::Error)]
pub enum IndexReadError {
    /// The bytes cannot be read or end too early.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A value is impossible.
    #[error("invalid {0}")]
    Damaged(&'static str),
}

impl DirectoryIndex {
    /// Writes the index in many small pieces, so `out` should buffer.
    pub fn write_to(&self, out: &mut impl Write) -> io::Result<()> {
        write_u64(out, self.strings.memory_size() as u64)?;
        out.write_all(self.strings.arena.as_bytes())?;

        write_u64(out, self.servers.len() as u64)?;
        for name in self.servers() {
            write_u64(out, name.abbreviated().len() as u64)?;
            out.write_all(name.abbreviated().as_bytes())?;
        }

        write_u64(out, self.databases.len() as u64)?;
        for database in &self.databases {
            out.write_all(&database.replica_id.0.to_le_bytes())?;
            out.write_all(&database.title.0.to_le_bytes())?;
            out.write_all(&database.replica_count.to_le_bytes())?;
            for replica in self.replica_rows(database) {
                out.write_all(&replica.display_path.0.to_le_bytes())?;
                out.write_all(&replica.path.0.0.to_le_bytes())?;
                out.write_all(&replica.server.0.to_le_bytes())?;
                out.write_all(&[replica.status as u8])?;
            }
        }

        // In the order of the strings, so that reading accesses memory sequentially.
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
        write_u64(out, self.ambiguous_databases.len() as u64)?;
        for database in &self.ambiguous_databases {
            out.write_all(&database.0.to_le_bytes())?;
        }
        Ok(())
    }

    /// Reads the bytes of [`DirectoryIndex::write_to`].
    pub fn read_from(from: &mut impl BufRead) -> Result<Self, IndexReadError> {
        let length = read_u64(from)?;
        let strings = StringPool { arena: read_string(from, length)?.into_boxed_str() };

        let servers = read_list(from, |from| {
            let length = read_u64(from)?;
            ServerName::parse(&read_string(from, length)?).map_err(|_| IndexReadError::Damaged("server name"))
        })?;
        if servers.len() > usize::from(u16::MAX) + 1 {
            return Err(IndexReadError::Damaged("number of servers"));
        }

        let (databases, replicas, replica_count) = read_databases(from)?;
        let paths = read_list(from, |from| {
            let path = PathId(StringId(read_u32(from)?));
            Ok(PathRow { path, owner: PathOwner(read_u32(from)?) })
        })?;
        let ambiguous = read_list(from, |from| {
            let path = PathId(StringId(read_u32(from)?));
            Ok(AmbiguousRow { path, end: read_u32(from)? })
        })?;
        let ambiguous_databases = read_list(from, |from| Ok(DatabaseId(read_u32(from)?)))?;
        Ok(Self {
            by_path: hash_paths(&strings, paths.into_iter()),
            by_replica_id: hash_replica_ids(&databases),
            strings,
            servers: servers.into(),
            databases: databases.into(),
            replicas: replicas.into(),
            replica_count,
            ambiguous: ambiguous.into(),
            ambiguous_databases: ambiguous_databases.into(),
        })
    }
}

fn write_u64(out: &mut impl Write, number: u64) -> io::Result<()> {
    out.write_all(&number.to_le_bytes())
}

fn read_u64(from: &mut impl Read) -> io::Result<u64> {
    let mut bytes = [0; 8];
    from.read_exact(&mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn read_u32(from: &mut impl Read) -> io::Result<u32> {
    let mut bytes = [0; 4];
    from.read_exact(&mut bytes)?;
    Ok(u32::from_le_bytes(bytes))
}

/// The databases, the replicas that do not fit in their rows, and the number of all replicas.
fn read_databases(
    from: &mut impl BufRead,
) -> Result<(Vec<DatabaseRow>, Vec<ReplicaRow>, usize), IndexReadError> {
    let (mut overflow, mut replica_count) = (Vec::new(), 0_usize);
    let databases = read_list(from, |from| {
        let mut database = DatabaseRow {
            replica_id: ReplicaId(read_u64(from)?),
            title: StringId(read_u32(from)?),
            replica_count: read_u32(from)?,
            overflow_start: checked_count(overflow.len(), "number of replicas")?,
            inline_replicas: [ReplicaRow::default(); INLINE_REPLICAS],
        };
        replica_count += to_usize(database.replica_count);
        match database.inline_replicas.get_mut(..to_usize(database.replica_count)) {
            Some(inline) => {
                for replica in inline {
                    *replica = read_replica(from)?;
                }
            }
            None => {
                for _ in 0..database.replica_count {
                    overflow.push(read_replica(from)?);
                }
            }
        }
        Ok(database)
    })?;
    checked_count(databases.len(), "number of databases")?;
    Ok((databases, overflow, replica_count))
}

fn read_replica(from: &mut impl Read) -> Result<ReplicaRow, IndexReadError> {
    let (display_path, path) = (StringId(read_u32(from)?), PathId(StringId(read_u32(from)?)));
    let mut rest = [0; 3];
    from.read_exact(&mut rest)?;
    let [low, high, status] = rest;
    let status = [ReplicaStatus::InService, ReplicaStatus::OutOfService, ReplicaStatus::PendingDelete]
        .into_iter()
        .find(|known| *known as u8 == status)
        .ok_or(IndexReadError::Damaged("status"))?;
    Ok(ReplicaRow { display_path, path, server: DirectoryServerId(u16::from_le_bytes([low, high])), status })
}

fn read_string(from: &mut impl Read, length: u64) -> Result<String, IndexReadError> {
    let mut text = Vec::new();
    // A wrong length does not allocate more than the bytes that are there.
    from.take(length).read_to_end(&mut text)?;
    if text.len() as u64 != length {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    String::from_utf8(text).map_err(|_| IndexReadError::Damaged("string"))
}

/// Reads a count and so many items.
fn read_list<R: BufRead, T>(
    from: &mut R,
    mut read_item: impl FnMut(&mut R) -> Result<T, IndexReadError>,
) -> Result<Vec<T>, IndexReadError> {
    let count = usize::try_from(read_u64(from)?).unwrap_or(usize::MAX);
    let mut items = Vec::new();
    // A wrong count is harmless: reserved memory that is not touched costs nothing.
    items.try_reserve_exact(count).map_err(|_| IndexReadError::Damaged("length of a list"))?;
    for _ in 0..count {
        items.push(read_item(from)?);
    }
    Ok(items)
}

/// An index counts in 31 bits.
fn checked_count(count: usize, what: &'static str) -> Result<u32, IndexReadError> {
    u32::try_from(count).ok().filter(|n| *n < PathOwner::AMBIGUOUS_BIT).ok_or(IndexReadError::Damaged(what))
}
