//! Reads the records of a CSV file, one at a time and none larger than the limit.
//!
//! A record ends as RFC 4180 and the `csv` crate define. An unclosed quote would make the rest of the file
//! one cell: it is detected by the text after the next quote, or by the end of the file. Then only its line
//! is broken, and reading continues after that line. A cell with a closing quote is never read as lines,
//! however long it is: otherwise its author could inject rows.

use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom};

use anyhow::{Context as _, bail};

/// The bytes shown of a record that is too large.
const SHOWN_BYTES: usize = 1024;

/// The next record of a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum CsvRecord {
    /// The complete record, without its line end.
    Whole(Vec<u8>),
    /// A record longer than the limit; its beginning.
    TooLong(Vec<u8>),
    /// A line that opens a quote and does not close it; its beginning.
    OpenQuote(Vec<u8>),
}

/// Rejects a file that is not UTF-8 by its first bytes, and skips a byte order mark.
pub(super) fn skip_bom(reader: &mut BufReader<File>) -> anyhow::Result<()> {
    let start = reader.fill_buf().context("the file cannot be read")?;
    let mark = start.len() - strip_bom(start)?.len();
    reader.consume(mark);
    Ok(())
}

/// The bytes of a text after its byte order mark.
pub(super) fn strip_bom(start: &[u8]) -> anyhow::Result<&[u8]> {
    let is_wide = start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff");
    // The first two characters of a readable file are not NUL.
    if is_wide || start.iter().take(2).any(|byte| *byte == 0) {
        bail!(
            "the file is UTF-16 or UTF-32: convert it to UTF-8, as with iconv -f UTF-16 -t UTF-8"
        );
    }
    Ok(start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start))
}

/// The records of a file.
pub(super) struct CsvRecordReader {
    reader: BufReader<File>,
    /// The reader's position in the file.
    at: u64,
    most: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum CsvScanState {
    FieldStart,
    Field,
    Quoted,
    /// After a quote in a quoted cell: it ends the cell, or a second one escapes it.
    Quote,
}

/// One record during reading.
struct CsvRecordScan {
    state: CsvScanState,
    held: Vec<u8>,
    length: u64,
    /// The length of its first line, with the line end.
    first_line: Option<u64>,
}

enum CsvScanStep {
    More,
    End,
    /// A quoted cell of several lines continues after its quote.
    Broken,
}

impl CsvRecordReader {
    /// Reads the records of a file, with at most this many bytes of one in memory.
    pub(super) fn new(mut file: File, most: usize) -> anyhow::Result<Self> {
        file.seek(SeekFrom::Start(0)).context("the file cannot be read from its beginning")?;
        let mut reader = BufReader::new(file);
        skip_bom(&mut reader)?;
        let at = reader.stream_position().context("the file cannot be read")?;
        Ok(Self { reader, at, most })
    }

    /// The number of bytes read of the file.
    pub(super) const fn position(&self) -> u64 {
        self.at
    }

    /// Returns the next record that is not empty; `None` at the end.
    pub(super) fn next(&mut self) -> io::Result<Option<CsvRecord>> {
        loop {
            let Some(record) = self.read()? else { return Ok(None) };
            if !matches!(&record, CsvRecord::Whole(bytes) if bytes.is_empty()) {
                return Ok(Some(record));
            }
        }
    }

    fn read(&mut self) -> io::Result<Option<CsvRecord>> {
        let start = self.at;
        let (mut scan, most) = (CsvRecordScan::new(), self.most);
        let is_whole = loop {
            let buffer = self.reader.fill_buf()?;
            if buffer.is_empty() {
                if scan.length == 0 {
                    return Ok(None);
                }
                break scan.state != CsvScanState::Quoted;
            }
            let mut used = 0;
            let step = buffer.iter().try_for_each(|byte| {
                used += 1;
                match scan.step(*byte, most) {
                    CsvScanStep::More => Ok(()),
                    end => Err(end),
                }
            });
            self.reader.consume(used);
            self.at += used as u64;
            match step {
                Ok(()) => {}
                Err(CsvScanStep::Broken) => break false,
                Err(_end) => break true,
            }
        };
        if !is_whole {
            return self.break_off(start, scan).map(Some);
        }
        let mut held = scan.held;
        Ok(Some(match scan.length > most as u64 {
            true => {
                held.truncate(SHOWN_BYTES);
                CsvRecord::TooLong(held)
            }
            false => CsvRecord::Whole(held),
        }))
    }

    /// Continues after the first line of an invalid record.
    fn break_off(&mut self, start: u64, scan: CsvRecordScan) -> io::Result<CsvRecord> {
        let mut held = scan.held;
        if let Some(length) = scan.first_line {
            self.at = start + length;
            self.reader.seek(SeekFrom::Start(self.at))?;
            held.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        }
        held.truncate(SHOWN_BYTES);
        Ok(CsvRecord::OpenQuote(held.trim_ascii_end().to_vec()))
    }
}

impl CsvRecordScan {
    const fn new() -> Self {
        Self { state: CsvScanState::FieldStart, held: Vec::new(), length: 0, first_line: None }
    }

    fn step(&mut self, byte: u8, most: usize) -> CsvScanStep {
        let is_end = matches!(byte, b'\n' | b'\r');
        if is_end && self.state != CsvScanState::Quoted {
            return CsvScanStep::End;
        }
        self.length += 1;
        if self.held.len() < most {
            self.held.push(byte);
        }
        if byte == b'\n' {
            self.first_line.get_or_insert(self.length);
        }
        self.state = match (self.state, byte) {
            (CsvScanState::FieldStart | CsvScanState::Quote, b'"') => CsvScanState::Quoted,
            (CsvScanState::Quoted, b'"') => CsvScanState::Quote,
            (CsvScanState::Quoted, _) => CsvScanState::Quoted,
            (_, b',') => CsvScanState::FieldStart,
            (CsvScanState::Quote, _) if self.first_line.is_some() => return CsvScanStep::Broken,
            _ => CsvScanState::Field,
        };
        CsvScanStep::More
    }
}

/// Returns the next line, without its end; `Err` with its beginning if it is longer than the limit.
pub(super) fn read_line(
    reader: &mut BufReader<File>,
    most: usize,
) -> io::Result<Option<Result<Vec<u8>, Vec<u8>>>> {
    let mut line = Vec::new();
    let limit = (most as u64).saturating_add(1);
    if reader.by_ref().take(limit).read_until(b'\n', &mut line)? == 0 {
        return Ok(None);
    }
    if line.len() > most && !line.ends_with(b"\n") {
        reader.skip_until(b'\n')?;
        line.truncate(SHOWN_BYTES);
        return Ok(Some(Err(line)));
    }
    Ok(Some(Ok(line)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn all(text: &[u8], most: usize) -> Vec<CsvRecord> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let mut records = CsvRecordReader::new(file, most).unwrap();
        std::iter::from_fn(|| records.next().unwrap()).collect()
    }

    fn whole(text: &str) -> CsvRecord {
        CsvRecord::Whole(text.as_bytes().to_vec())
    }

    fn open(text: &str) -> CsvRecord {
        CsvRecord::OpenQuote(text.as_bytes().to_vec())
    }

    #[test]
    fn records_end_where_the_csv_crate_ends_them() {
        let text = "a,b\r\n\"x\n\"\"y\",z\n\n\"p\"q,r\rl\"m,n\n\"\",\"\"\nlast";
        let found = all(text.as_bytes(), 100);
        let expected =
            ["a,b", "\"x\n\"\"y\",z", "\"p\"q,r", "l\"m,n", "\"\",\"\"", "last"].map(whole);
        assert_eq!(found, expected);
        let mut reader = csv::ReaderBuilder::new();
        let reader = reader.has_headers(false).flexible(true).from_reader(text.as_bytes());
        assert_eq!(reader.into_records().count(), expected.len());
    }

    #[test]
    fn open_quote_breaks_its_own_line_alone() {
        let text = "1,a\n2,\"open\n3,b\n4,\"c\"\n5,d\n6,\"end\n7,e";
        let expected = [
            whole("1,a"),
            open("2,\"open"),
            whole("3,b"),
            whole("4,\"c\""),
            whole("5,d"),
            open("6,\"end"),
            whole("7,e"),
        ];
        assert_eq!(all(text.as_bytes(), 100), expected);
        // With any limit.
        assert_eq!(all(text.as_bytes(), 8), expected);
        assert_eq!(all(b"\"", 8), [open("\"")]);
    }

    #[test]
    fn record_over_the_limit_is_skipped_and_never_read_as_rows() {
        let cell = "x\nvictim,evil\n".repeat(1000);
        let text = format!("1,\"{cell}\"\n2,b\n{}\n3,c\n", "y".repeat(5000));
        let found = all(text.as_bytes(), 2000);
        assert_eq!(found.len(), 4);
        assert!(matches!(&found[0], CsvRecord::TooLong(shown) if shown.len() == SHOWN_BYTES));
        assert!(matches!(&found[2], CsvRecord::TooLong(_)));
        assert_eq!((&found[1], &found[3]), (&whole("2,b"), &whole("3,c")));
    }

    #[test]
    fn byte_order_marks_are_skipped_or_rejected() {
        assert_eq!(all(b"\xef\xbb\xbfa,b\n", 100), [whole("a,b")]);
        for wide in [&b"\xff\xfea\0"[..], b"\xfe\xff\0a", b"a\0b\0", b"\0a\0b"] {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(wide).unwrap();
            assert!(CsvRecordReader::new(file, 100).is_err(), "{wide:?}");
        }
    }
}
