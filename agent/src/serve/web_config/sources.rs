//! The files that a web configuration was made from, and whether they are still the same.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::config::read_file;

/// What changes when a file is written, replaced, or put behind another link.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

/// So large may each of them be, in bytes.
const LIMIT: u64 = 1024 * 1024;

#[derive(Default)]
pub(super) struct Sources(Vec<(PathBuf, Stamp)>);

impl Sources {
    /// Reads a file and remembers it as it was before, so that a change while it is read is seen later.
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        self.0.push((path.to_owned(), stamp(path)));
        read_file(path, LIMIT)
    }

    /// Whether a file is no longer what was read, or was not there and is now.
    pub fn have_changed(&self) -> bool {
        self.0.iter().any(|(path, then)| stamp(path) != *then)
    }
}

fn stamp(path: &Path) -> Stamp {
    let now = fs::metadata(path).ok()?;
    Some((now.dev(), now.ino(), now.size(), (now.mtime(), now.mtime_nsec()), (now.ctime(), now.ctime_nsec())))
}
