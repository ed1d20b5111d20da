//! The store as `pingora-cache` uses it: lookups, bodies that are read, and bodies that are received.

use std::any::Any;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use pingora::{Error, ErrorType, Result};
use pingora_cache::key::{CacheHashKey, HashBinary};
use pingora_cache::storage::{
    HandleHit, HandleMiss, HitHandler, MissFinishType, MissHandler, PurgeOutcome, PurgeTarget, PurgeType,
};
use pingora_cache::trace::SpanHandle;
use pingora_cache::{CacheKey, CacheMeta, Storage};

use super::store::{Entry, Reservation, Store, StoredMeta};

/// The part of a body that is written at once, and compressed at once: other requests run between two of them.
const PIECE: usize = 64 * 1024;

#[async_trait]
impl Storage for Store {
    async fn lookup(
        &'static self,
        key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<Option<(CacheMeta, HitHandler)>> {
        let Some(entry) = self.get(&key.combined_bin(), key.primary_key()) else { return Ok(None) };
        let meta = CacheMeta::deserialize(&entry.meta.0, &entry.meta.1)?;
        Ok(Some((meta, Box::new(Hit { left: entry.body.clone(), body: entry }))))
    }

    async fn get_miss_handler(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<MissHandler> {
        Ok(Box::new(Miss {
            hash: key.combined_bin(),
            key: key.primary_key().into(),
            meta: serialized(meta)?,
            body: Vec::new(),
            reservation: Some(Reservation::new(self)),
            generation: self.generation(),
            store: self,
        }))
    }

    async fn purge(
        &'static self,
        target: PurgeTarget<'_>,
        _purge_type: PurgeType,
        _trace: &SpanHandle,
    ) -> Result<PurgeOutcome> {
        let removed = self.remove(&target.key().combined_bin());
        Ok(if removed { PurgeOutcome::Purged(None) } else { PurgeOutcome::NotFound })
    }

    async fn update_meta(
        &'static self,
        key: &CacheKey,
        meta: &CacheMeta,
        _trace: &SpanHandle,
    ) -> Result<bool> {
        Ok(self.set_meta(&key.combined_bin(), key.primary_key(), serialized(meta)?))
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync + 'static) {
        self
    }
}

fn serialized(meta: &CacheMeta) -> Result<StoredMeta> {
    let (internal, header) = meta.serialize()?;
    Ok((internal.into(), header.into()))
}

/// A body that is read. An evicted entry lives until its last reader is done.
struct Hit {
    body: Arc<Entry>,
    left: Bytes,
}

#[async_trait]
impl HandleHit for Hit {
    async fn read_body(&mut self) -> Result<Option<Bytes>> {
        let piece = self.left.split_to(self.left.len().min(PIECE));
        Ok((!piece.is_empty()).then_some(piece))
    }

    async fn finish(
        self: Box<Self>,
        _storage: &'static (dyn Storage + Sync),
        _key: &CacheKey,
        _trace: &SpanHandle,
    ) -> Result<()> {
        Ok(())
    }

    fn can_seek(&self) -> bool {
        true
    }

    fn seek(&mut self, start: usize, end: Option<usize>) -> Result<()> {
        let whole = &self.body.body;
        let end = end.unwrap_or(whole.len()).min(whole.len());
        if start >= end {
            return Error::e_explain(ErrorType::InternalError, "a range is outside the cached body");
        }
        self.left = whole.slice(start..end);
        Ok(())
    }

    fn as_any(&self) -> &(dyn Any + Send + Sync) {
        self
    }

    fn as_any_mut(&mut self) -> &mut (dyn Any + Send + Sync) {
        self
    }
}

/// A body that is received. It is stored as a whole when it is complete.
struct Miss {
    hash: HashBinary,
    key: Box<[u8]>,
    meta: StoredMeta,
    body: Vec<u8>,
    /// `None` if there was no room.
    reservation: Option<Reservation>,
    generation: u64,
    store: &'static Store,
}

#[async_trait]
impl HandleMiss for Miss {
    async fn write_body(&mut self, data: Bytes, _eof: bool) -> Result<()> {
        // Copied: a slice would keep the whole buffer of a read in memory.
        if self.reservation.as_mut().is_some_and(|reservation| reservation.grow(data.len())) {
            self.body.extend_from_slice(&data);
        } else {
            // An error would be a line in the log for each response.
            self.reservation = None;
            self.body = Vec::new();
        }
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<MissFinishType> {
        let size = self.body.len();
        if let Some(reservation) = self.reservation
            && self.generation == self.store.generation()
        {
            let body = Bytes::from(self.body.into_boxed_slice());
            self.store.put(self.hash, Entry { key: self.key, meta: self.meta, body }, reservation);
        }
        Ok(MissFinishType::Created(size))
    }
}
