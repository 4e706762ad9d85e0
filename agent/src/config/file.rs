//! Files that a configuration names.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
};

/// Reads a file that may have `limit` bytes. What has more is not read to its end: a device has none.
///
/// # Errors
/// When it cannot be read or is larger.
pub fn read_file(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    File::open(path)?.take(limit + 1).read_to_end(&mut content)?;
    if content.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("has more than {limit} bytes")));
    }
    Ok(content)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_end_is_not_read_to_it() {
        let error = read_file(Path::new("/dev/zero"), 1000).expect_err("too large");
        assert_eq!(error.to_string(), "has more than 1000 bytes");
        assert_eq!(read_file(Path::new("/dev/null"), 0).expect("nothing"), b"");
    }
}
