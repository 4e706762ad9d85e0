//! One database: the file, or what stands in for it in memory.

use std::{net::IpAddr, path::Path, time::Duration};

use rusqlite::{
    Connection, ErrorCode, OpenFlags, OptionalExtension as _, Row as SqlRow, config::DbConfig, params,
};
use thiserror::Error;

use super::{
    codec::{pack, unpack},
    schema::{self, Shape},
};
use crate::model::{
    AccountId, Direction, Peer,
    past::{Block, Event, Happened, Past, SLOTS, Sample, Series, Span},
};

/// As long is waited for whoever holds the file for a moment.
const BUSY: Duration = Duration::from_secs(2);

/// So many events are kept.
const MOST_EVENTS: i64 = 100_000;

/// Pages are freed before the last so many bytes are needed.
const SLACK_BYTES: u64 = 2 * 1024 * 1024;

/// Bytes of a page.
const PAGE_BYTES: i64 = 16_384;

/// The log beside the file is cut back to so many bytes.
pub(super) const LOG_BYTES: u64 = 4 * 1024 * 1024;

/// The finest figures: of every second.
pub(super) const SECOND: u64 = 1;
/// The coarse ones: of every minute.
pub(super) const MINUTE: u64 = 60;

/// A span of up to so many seconds is read second by second.
const FINE: u64 = 2 * 3_600;

/// Why the past cannot be read or written.
#[derive(Debug, Error)]
pub enum HistoryError {
    /// The thread that keeps it has too much to do.
    #[error("the history is busy; try again")]
    Busy,
    /// No past is kept.
    #[error("no history is kept ([history] size_mib is 0)")]
    Off,
    /// The file is no longer where it was.
    #[error("the file is gone")]
    Gone,
    /// The file is not ours, or not of this version.
    #[error("{0}")]
    Foreign(String),
    /// What SQLite met.
    #[error(transparent)]
    Sqlite(#[from] rusqlite::Error),
}

impl HistoryError {
    /// Whether the file is of no use as it is, now and later.
    pub(super) fn is_broken(&self) -> bool {
        let Self::Sqlite(error) = self else { return matches!(self, Self::Foreign(_)) };
        matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
    }
}

/// A block of one series, to be written.
#[derive(Clone, Debug)]
pub(super) struct Row {
    /// Seconds that each sample stands for.
    pub step: u64,
    /// The first of its seconds.
    pub start: u64,
    pub series: Series,
    pub block: Block,
}

/// A database.
#[derive(Debug)]
pub struct Store {
    connection: Connection,
}

impl Store {
    /// Opens the file for writing, or makes it.
    pub(super) fn open(path: &Path) -> Result<Self, HistoryError> {
        let mut connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        // Only a file without tables takes these, and they have to come first. A block of a busy minute is about 1 KB, and what is larger
        // than a sixteenth of a page or so goes into a page of its own (https://www.sqlite.org/fileformat2.html §1.6).
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        if let Shape::Foreign(why) = schema::settle(&mut connection)? {
            return Err(HistoryError::Foreign(why));
        }
        let sound: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0))?;
        if sound != "ok" {
            return Err(HistoryError::Foreign(format!("is damaged: {sound}")));
        }
        connection.pragma_update(None, "wal_autocheckpoint", signed(LOG_BYTES) / PAGE_BYTES)?;
        connection.pragma_update(None, "journal_size_limit", signed(LOG_BYTES))?;
        Self::tuned(connection)
    }

    /// A database in memory.
    pub(super) fn in_memory() -> Result<Self, HistoryError> {
        let mut connection = Connection::open_in_memory()?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        schema::settle(&mut connection)?;
        Self::tuned(connection)
    }

    /// Opens the file for reading, whether an agent writes it or not.
    ///
    /// # Errors
    /// When it is not there, not readable, or not ours.
    pub fn read(path: &Path) -> Result<Self, HistoryError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        match schema::look(&connection)? {
            Shape::Ours => Ok(Self { connection }),
            Shape::Foreign(why) => Err(HistoryError::Foreign(why)),
        }
    }

    fn tuned(connection: Connection) -> Result<Self, HistoryError> {
        // The log is not forced to the disk at each write: after a crash of the whole machine the last seconds may lack; the file
        // stays sound (https://www.sqlite.org/pragma.html#pragma_synchronous).
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        // In KiB where it is negative.
        connection.pragma_update(None, "cache_size", -512)?;
        // What a damaged file holds is not to be trusted (https://www.sqlite.org/security.html).
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        connection.set_prepared_statement_cache_capacity(16);
        Ok(Self { connection })
    }

    /// Adds these samples to what there is, and these events: all of it, or nothing. A second takes the place of itself, a part of a minute
    /// is added to the other.
    pub(super) fn add(&mut self, rows: &[Row], events: &[Happened]) -> Result<(), HistoryError> {
        let transaction = self.connection.transaction()?;
        {
            let mut add = transaction.prepare_cached(
                "INSERT INTO series (peer, is_group, port, outbound) VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )?;
            let mut find = transaction.prepare_cached(
                "SELECT id FROM series WHERE peer = ?1 AND is_group = ?2 AND port = ?3 AND outbound = ?4",
            )?;
            let mut put = transaction.prepare_cached(
                "INSERT OR REPLACE INTO block (step, start, series, data) VALUES (?1, ?2, ?3, ?4)",
            )?;
            let mut get = transaction
                .prepare_cached("SELECT data FROM block WHERE step = ?1 AND start = ?2 AND series = ?3")?;
            for Row { step, start, series, block } in rows {
                let (peer, is_group, port, outbound) = key(series);
                let named = params![peer, is_group, port, outbound];
                let known: Option<i64> = find.query_row(named, |row| row.get(0)).optional()?;
                let id = if let Some(id) = known {
                    id
                } else {
                    add.execute(named)?;
                    transaction.last_insert_rowid()
                };
                let place = params![signed(*step), signed(*start), id];
                let before: Option<Vec<u8>> = get.query_row(place, |row| row.get(0)).optional()?;
                let mut whole = before.and_then(|packed| unpack(&packed)).unwrap_or_default();
                for (slot, sample) in block.samples() {
                    if *step == MINUTE { whole.take_in(slot, *sample) } else { whole.set(slot, *sample) }
                }
                if let Some(packed) = pack(&whole) {
                    put.execute(params![signed(*step), signed(*start), id, packed])?;
                }
            }
            let mut note = transaction.prepare_cached("INSERT INTO event (time, data) VALUES (?1, ?2)")?;
            for happened in events {
                if let Ok(data) = serde_json::to_string(happened) {
                    note.execute(params![happened.time, data])?;
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// One block, if it is there.
    pub(super) fn block(
        &self,
        step: u64,
        start: u64,
        series: &Series,
    ) -> Result<Option<Block>, HistoryError> {
        let mut find = self.connection.prepare_cached(
            "SELECT data FROM block JOIN series ON series.id = block.series
             WHERE step = ?1 AND start = ?2 AND peer = ?3 AND is_group = ?4 AND port = ?5 AND outbound = ?6",
        )?;
        let (peer, is_group, port, outbound) = key(series);
        let found = find
            .query_row(params![signed(step), signed(start), peer, is_group, port, outbound], |row| {
                row.get::<_, Vec<u8>>(0)
            });
        let Some(packed) = found.optional()? else { return Ok(None) };
        let block = unpack(&packed);
        if block.is_none() {
            log::warn!("history: a block of {series} from {start} on cannot be read and is left out");
        }
        Ok(block)
    }

    /// Whose samples there are within a span.
    ///
    /// # Errors
    /// What SQLite met.
    pub fn series(&self, span: Span) -> Result<Vec<Series>, HistoryError> {
        let mut list = self.connection.prepare_cached(
            "SELECT peer, is_group, port, outbound FROM series WHERE id IN (
                SELECT series FROM block WHERE step = 1 AND start > ?1 - 60 AND start < ?2
                UNION SELECT series FROM block WHERE step = 60 AND start > ?1 - 3600 AND start < ?2)",
        )?;
        let rows = list.query_map(params![signed(span.from), signed(span.to)], named)?;
        let mut series =
            rows.collect::<rusqlite::Result<Vec<_>>>()?.into_iter().flatten().collect::<Vec<_>>();
        series.sort();
        Ok(series)
    }

    /// The samples of one series within a span: second by second where it is short and these are still there, else minute by minute.
    /// Each comes with the first second it stands for.
    ///
    /// # Errors
    /// What SQLite met.
    pub fn samples(&self, series: &Series, span: Span) -> Result<Vec<(u64, Sample)>, HistoryError> {
        if span.seconds() <= FINE {
            let fine = self.samples_of(series, span, SECOND)?;
            if !fine.is_empty() {
                return Ok(fine);
            }
        }
        self.samples_of(series, span, MINUTE)
    }

    fn samples_of(&self, series: &Series, span: Span, step: u64) -> Result<Vec<(u64, Sample)>, HistoryError> {
        let whole = step * SLOTS as u64;
        // However long the span is, nothing is looked for where nothing is.
        let (oldest, newest): (Option<i64>, Option<i64>) = self.connection.query_row(
            "SELECT min(start), max(start) FROM block WHERE step = ?1",
            [signed(step)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let (Some(oldest), Some(newest)) = (oldest, newest) else { return Ok(Vec::new()) };
        let first = (span.from - span.from % whole).max(oldest.unsigned_abs());
        let end = span.to.min(newest.unsigned_abs() + 1);
        let starts = (first..end).step_by(usize::try_from(whole).unwrap_or(usize::MAX));
        let mut samples = Vec::new();
        for start in starts {
            let Some(block) = self.block(step, start, series)? else { continue };
            let each = block.samples().map(|(slot, sample)| (start + slot as u64 * step, *sample));
            samples.extend(each.filter(|(time, _)| span.contains(*time)));
        }
        Ok(samples)
    }

    /// The last events within a span, the oldest first; at most so many.
    ///
    /// # Errors
    /// What SQLite met.
    pub fn events(&self, span: Span, most: usize) -> Result<Vec<Happened>, HistoryError> {
        let mut list = self.connection.prepare_cached(
            "SELECT data FROM event WHERE time >= ?1 AND time < ?2 ORDER BY time DESC, id DESC LIMIT ?3",
        )?;
        let span = params![span.from as f64, span.to as f64, i64::try_from(most).unwrap_or(i64::MAX)];
        let rows = list.query_map(span, |row| row.get::<_, String>(0))?;
        let mut events = Vec::new();
        for data in rows {
            // An event of a newer agent that this one does not know says nothing to it.
            match serde_json::from_str(&data?) {
                Ok(happened) => events.push(happened),
                Err(error) => log::debug!("history: an event cannot be read: {error}"),
            }
        }
        events.reverse();
        Ok(events)
    }

    /// Everything within a span, and what happened before it that says how things stood when it began.
    ///
    /// # Errors
    /// What SQLite met.
    pub fn past(&self, span: Span) -> Result<Past, HistoryError> {
        let mut past = Past { span, ..Past::default() };
        for series in self.series(span)? {
            let samples = self.samples(&series, span)?;
            past.series.insert(series, samples);
        }
        let before = self.events(Span { from: 0, to: span.from }, usize::MAX)?;
        let stated =
            before.iter().rposition(|happened| matches!(happened.event, Event::Settings { .. })).unwrap_or(0);
        past.events.extend(before.into_iter().skip(stated).filter(|happened| happened.event.stands()));
        past.events.extend(self.events(span, usize::MAX)?);
        Ok(past)
    }

    /// How large it is.
    pub(super) fn bytes(&self) -> Result<u64, HistoryError> {
        Ok(self.pages("page_count")? * self.pages("page_size")?)
    }

    /// Sets how large it may become at most.
    pub(super) fn bound(&self, bytes: u64) -> Result<(), HistoryError> {
        let pages = bytes / self.pages("page_size")?;
        self.connection.pragma_update(None, "max_page_count", signed(pages))?;
        Ok(())
    }

    /// Forgets what is older than it need be, and the oldest as long as little room is left below a number of bytes.
    pub(super) fn trim(&mut self, fine_from: u64, from: u64, bytes: u64) -> Result<(), HistoryError> {
        let delete = |sql: &str, limit: i64| self.connection.prepare_cached(sql)?.execute([limit]);
        delete("DELETE FROM block WHERE step = 1 AND start < ?1", signed(fine_from))?;
        delete("DELETE FROM block WHERE step = 60 AND start < ?1", signed(from))?;
        delete("DELETE FROM event WHERE time < ?1", signed(from))?;
        delete("DELETE FROM event WHERE id <= (SELECT max(id) FROM event) - ?1", MOST_EVENTS)?;
        while self.is_crowded(bytes)? {
            // An hour of seconds, or else a day of minutes, or else some events.
            let oldest = [
                (
                    "DELETE FROM block WHERE step = 1 AND start < ?1 + (SELECT min(start) FROM block WHERE step = 1)",
                    3_600,
                ),
                (
                    "DELETE FROM block WHERE step = 60 AND start < ?1 + (SELECT min(start) FROM block WHERE step = 60)",
                    86_400,
                ),
                ("DELETE FROM event WHERE id < ?1 + (SELECT min(id) FROM event)", 1_000),
            ];
            let mut gone = 0;
            for (sql, part) in oldest {
                gone = delete(sql, part)?;
                if gone > 0 {
                    break;
                }
            }
            if gone == 0 {
                break;
            }
        }
        delete("DELETE FROM series WHERE id NOT IN (SELECT series FROM block WHERE step >= ?1)", 0)?;
        // Gives free pages back to the file system, so many at a time.
        let mut vacuum = self.connection.prepare_cached("PRAGMA incremental_vacuum(1024)")?;
        let mut freed = vacuum.query([])?;
        while freed.next()?.is_some() {}
        Ok(())
    }

    /// Moves everything into another database.
    pub(super) fn pour_into(&self, other: &mut Self) -> Result<(), HistoryError> {
        let all = Span { from: 0, to: signed(u64::MAX).unsigned_abs() };
        let mut rows = Vec::new();
        let mut list = self.connection.prepare(
            "SELECT peer, is_group, port, outbound, step, start, data FROM block JOIN series ON series.id = block.series",
        )?;
        let mut found = list.query([])?;
        while let Some(row) = found.next()? {
            let (Some(series), Some(block)) = (named(row)?, unpack(&row.get::<_, Vec<u8>>(6)?)) else {
                continue;
            };
            let (step, start): (i64, i64) = (row.get(4)?, row.get(5)?);
            rows.push(Row { step: step.unsigned_abs(), start: start.unsigned_abs(), series, block });
        }
        other.add(&rows, &self.events(all, usize::MAX)?)
    }

    /// Whether little room is left below a number of bytes.
    pub(super) fn is_crowded(&self, bytes: u64) -> Result<bool, HistoryError> {
        let used = (self.pages("page_count")? - self.pages("freelist_count")?) * self.pages("page_size")?;
        Ok(used + SLACK_BYTES > bytes)
    }

    fn pages(&self, pragma: &str) -> Result<u64, HistoryError> {
        let number: i64 = self.connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        Ok(number.unsigned_abs())
    }
}

/// A number as SQLite keeps it; none of ours is as large.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// What names a series in the file.
fn key(series: &Series) -> (String, bool, u16, bool) {
    match series {
        Series::Host => (String::new(), false, 0, false),
        Series::Account(AccountId { peer, port, direction }) => {
            let is_group = matches!(peer, Peer::Group(_));
            (peer.to_string(), is_group, *port, *direction == Direction::Outbound)
        }
    }
}

/// The series that a row names; `None` if it names none.
fn named(row: &SqlRow<'_>) -> rusqlite::Result<Option<Series>> {
    let (peer, is_group, port, outbound): (String, bool, u16, bool) =
        (row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?);
    if peer.is_empty() && port == 0 {
        return Ok(Some(Series::Host));
    }
    let peer = if is_group {
        Peer::Group(peer.into())
    } else {
        match peer.parse::<IpAddr>() {
            Ok(address) => Peer::Address(address),
            Err(_) => return Ok(None),
        }
    };
    let direction = if outbound { Direction::Outbound } else { Direction::Inbound };
    Ok(Some(Series::Account(AccountId { peer, port, direction })))
}

#[cfg(test)]
mod tests;
