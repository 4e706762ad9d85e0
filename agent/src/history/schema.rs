//! The shape of the file, and how one of an older version gets it.

use rusqlite::Connection;

/// Says that a file is ours: "tcpw" (`PRAGMA application_id`, https://www.sqlite.org/fileformat2.html §1.3.18).
const APPLICATION: i64 = 0x7463_7077;

/// What makes each version out of the one before; the first out of nothing.
const VERSIONS: [&str; 1] = [
    // Whose samples there are. The host has no name and port 0.
    "CREATE TABLE series (
        id INTEGER PRIMARY KEY,
        peer TEXT NOT NULL,
        is_group INTEGER NOT NULL,
        port INTEGER NOT NULL,
        outbound INTEGER NOT NULL,
        UNIQUE (peer, is_group, port, outbound)
    ) STRICT;
    -- Samples, 60 in a row: `step` is the seconds that each stands for, `start` the first second (of 60 steps) since the epoch.
    CREATE TABLE block (
        step INTEGER NOT NULL,
        start INTEGER NOT NULL,
        series INTEGER NOT NULL REFERENCES series,
        data BLOB NOT NULL,
        PRIMARY KEY (step, start, series)
    ) STRICT, WITHOUT ROWID;
    -- What happened; `data` is JSON.
    CREATE TABLE event (
        id INTEGER PRIMARY KEY,
        time REAL NOT NULL,
        data TEXT NOT NULL
    ) STRICT;
    CREATE INDEX event_by_time ON event (time);",
];

/// What a file turned out to be.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Ours, of the present version.
    Ours,
    /// None of ours, or of a version that is newer than this agent.
    Foreign(String),
}

/// Brings a file to the present version, if it is ours or empty.
pub(super) fn settle(connection: &mut Connection) -> rusqlite::Result<Shape> {
    settle_as(connection, &VERSIONS)
}

fn settle_as(connection: &mut Connection, versions: &[&str]) -> rusqlite::Result<Shape> {
    let transaction = connection.transaction()?;
    let application: i64 = pragma(&transaction, "application_id")?;
    let version = version(&transaction)?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if application != APPLICATION && tables > 0 {
        return Ok(Shape::Foreign("is a database of another program".to_owned()));
    }
    let Some(missing) = versions.get(version..) else {
        let newest = versions.len();
        let why = format!("has version {version}, and this agent knows versions up to {newest}");
        return Ok(Shape::Foreign(why));
    };
    for change in missing {
        transaction.execute_batch(change)?;
    }
    if !missing.is_empty() {
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", i64::try_from(versions.len()).unwrap_or(i64::MAX))?;
    }
    transaction.commit()?;
    Ok(Shape::Ours)
}

/// Whether a file that is only read is ours and of the present version; it is not changed.
pub(super) fn look(connection: &Connection) -> rusqlite::Result<Shape> {
    let application: i64 = pragma(connection, "application_id")?;
    let version = version(connection)?;
    Ok(if application != APPLICATION {
        Shape::Foreign("is not a history of tcpwarden".to_owned())
    } else if version == VERSIONS.len() {
        Shape::Ours
    } else {
        Shape::Foreign(format!("has version {version}, not {}", VERSIONS.len()))
    })
}

/// The version that a file says it has; one that cannot be is as good as the newest.
fn version(connection: &Connection) -> rusqlite::Result<usize> {
    let version: i64 = pragma(connection, "user_version")?;
    Ok(usize::try_from(version).unwrap_or(usize::MAX))
}

fn pragma<T: rusqlite::types::FromSql>(connection: &Connection, name: &str) -> rusqlite::Result<T> {
    connection.pragma_query_value(None, name, |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty() -> Connection {
        Connection::open_in_memory().expect("a database")
    }

    #[test]
    fn an_empty_file_becomes_ours_and_stays_so() {
        let mut connection = empty();
        assert_eq!(settle(&mut connection), Ok(Shape::Ours));
        assert_eq!(settle(&mut connection), Ok(Shape::Ours), "a second time changes nothing");
        assert_eq!(look(&connection), Ok(Shape::Ours));
    }

    #[test]
    fn an_older_file_keeps_what_is_in_it() {
        let mut connection = empty();
        settle_as(&mut connection, &VERSIONS).expect("the present version");
        connection.execute("INSERT INTO event (time, data) VALUES (7.0, '{}')", []).expect("an event");
        // A version that does not exist yet stands for the next one.
        let later = [VERSIONS[0], "ALTER TABLE event ADD COLUMN peer TEXT NOT NULL DEFAULT ''"];
        assert_eq!(settle_as(&mut connection, &later), Ok(Shape::Ours));
        let kept: (f64, String) = connection
            .query_row("SELECT time, peer FROM event", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .expect("the event");
        assert_eq!(kept, (7.0, String::new()));
        // And for the agent of today, that file is a newer one.
        assert!(matches!(settle(&mut connection), Ok(Shape::Foreign(why)) if why.contains("version 2")));
    }

    #[test]
    fn a_change_that_fails_leaves_the_old_version() {
        let mut connection = empty();
        settle(&mut connection).expect("the present version");
        let wrong = [VERSIONS[0], "CREATE TABLE more (id INTEGER); SELECT no_such_thing()"];
        assert!(settle_as(&mut connection, &wrong).is_err());
        assert_eq!(look(&connection), Ok(Shape::Ours));
        let more = "SELECT count(*) FROM sqlite_schema WHERE name = 'more'";
        assert_eq!(connection.query_row(more, [], |row| row.get::<_, i64>(0)), Ok(0));
    }

    #[test]
    fn the_file_of_another_program_is_not_touched() {
        let mut connection = empty();
        connection.execute_batch("CREATE TABLE theirs (id INTEGER)").expect("a table");
        assert!(matches!(settle(&mut connection), Ok(Shape::Foreign(_))));
        let tables: i64 = connection
            .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
            .expect("a count");
        assert_eq!(tables, 1);
    }
}
