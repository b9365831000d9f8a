//! Converts rows of a CSV or NDJSON file to identify messages.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::csv_records::{CsvRecord, CsvRecordReader, read_line, skip_bom};
use tagway_core::event::is_identifying_id;
use tagway_core::values::digits;

/// The format of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum ImportFormat {
    /// Comma-separated values; the first line names the columns.
    Csv,
    /// One JSON object on each line.
    Ndjson,
}

/// The mapping of a column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImportColumn {
    name: String,
    target: ColumnTarget,
    conversion: ColumnConversion,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum ColumnTarget {
    Member(&'static str),
    Trait(String),
    Nowhere,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ColumnConversion {
    Keep,
    Number,
    Boolean,
}

/// The names of columns that need no mapping, and their targets.
const MEMBERS: [(&str, &str); 6] = [
    ("user_id", "userId"),
    ("userId", "userId"),
    ("anonymous_id", "anonymousId"),
    ("anonymousId", "anonymousId"),
    ("timestamp", "timestamp"),
    ("group_id", "groupId"),
];

/// Parses `COLUMN=TARGET`: `user_id`, `anonymous_id`, `timestamp`, `traits.NAME` or `-`, optionally with
/// `:number` or `:boolean`.
pub(super) fn column(text: &str) -> Result<ImportColumn, String> {
    let (name, target) =
        text.rsplit_once('=').ok_or("is not COLUMN=TARGET, such as plan=traits.plan")?;
    let (target, conversion) = match target.rsplit_once(':') {
        None => (target, ColumnConversion::Keep),
        Some((target, "number")) => (target, ColumnConversion::Number),
        Some((target, "boolean")) => (target, ColumnConversion::Boolean),
        Some((_, other)) => return Err(format!("{other:?} is neither number nor boolean")),
    };
    let member = MEMBERS.iter().find(|(known, _)| *known == target).map(|(_, member)| *member);
    let target = match (member, target.strip_prefix("traits.")) {
        (Some("groupId"), _) => return Err("group_id does not name a person".to_owned()),
        (Some(member), _) => ColumnTarget::Member(member),
        (None, Some(key)) if !key.is_empty() => ColumnTarget::Trait(key.to_owned()),
        (None, _) if target == "-" => ColumnTarget::Nowhere,
        (None, _) => {
            let known = "user_id, anonymous_id, timestamp, traits.NAME or -";
            return Err(format!("{target:?} is none of {known}"));
        }
    };
    Ok(ImportColumn { name: name.to_owned(), target, conversion })
}

/// A row, and its message, or the reason that it has none.
#[derive(Debug)]
pub(super) struct ImportRow {
    /// Its number from 1 on, without the line of names.
    pub(super) number: u64,
    /// Its length in the file.
    pub(super) bytes: usize,
    /// The row in the form of the file.
    pub(super) found: Value,
    pub(super) message: Result<Value, String>,
}

/// The rows of one file.
pub(super) struct ImportRowReader {
    source: ImportFileReader,
    columns: Vec<ImportColumn>,
    /// The longest row in bytes.
    row_bytes: usize,
    number: u64,
    length: u64,
}

enum ImportFileReader {
    Csv(CsvRecordReader, csv::StringRecord),
    Ndjson(BufReader<File>),
}

/// The members of a row, or its text and the reason that it is not a row.
type ParsedImportRow = Result<Map<String, Value>, (Value, &'static str)>;

const TOO_LONG: &str = "is longer than --row-bytes";

/// The cells of a record by the names of their columns. Empty cells are left out.
fn cells(record: &[u8], names: &csv::StringRecord) -> ParsedImportRow {
    let record = match parse(record) {
        Ok(record) => record,
        Err(problem) => return Err((lossy(record), problem)),
    };
    if record.len() > names.len() {
        let cells: Vec<&str> = record.iter().take(names.len() + 1).collect();
        return Err((json!(cells), "has too many columns"));
    }
    let pairs = names.iter().zip(&record).filter(|(_, value)| !value.is_empty());
    Ok(pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect())
}

fn parse(record: &[u8]) -> Result<csv::StringRecord, &'static str> {
    if record.contains(&0) {
        return Err("has NUL bytes");
    }
    let mut reader = csv::ReaderBuilder::new();
    let reader = reader.has_headers(false).flexible(true).buffer_capacity(record.len().max(1));
    let mut cells = csv::StringRecord::new();
    match reader.from_reader(record).read_record(&mut cells) {
        Ok(_) => Ok(cells),
        Err(error) if matches!(error.kind(), csv::ErrorKind::Utf8 { .. }) => Err("is not UTF-8"),
        Err(_) => Err("is not a CSV record"),
    }
}

/// The members of a line of JSON.
fn object(line: &[u8]) -> ParsedImportRow {
    if line.trim_ascii().is_empty() {
        return Err((Value::Null, "is empty"));
    }
    match digits::parse(line) {
        Ok(Value::Object(members)) => Ok(members),
        _ => Err((lossy(line), "is not a JSON object")),
    }
}

fn lossy(bytes: &[u8]) -> Value {
    String::from_utf8_lossy(bytes).trim().into()
}

impl ImportRowReader {
    /// Opens a file. By its name it is CSV, unless the name ends in `json` or `jsonl`.
    pub(super) fn open(
        path: &Path,
        format: Option<ImportFormat>,
        columns: Vec<ImportColumn>,
        row_bytes: usize,
    ) -> anyhow::Result<Self> {
        let file =
            File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        let length = file.metadata().map_or(0, |metadata| metadata.len());
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        let is_json = ending.ends_with("json") || ending.ends_with("jsonl");
        let by_name = if is_json { ImportFormat::Ndjson } else { ImportFormat::Csv };
        let source = match format.unwrap_or(by_name) {
            ImportFormat::Ndjson => {
                let mut reader = BufReader::new(file);
                skip_bom(&mut reader)?;
                ImportFileReader::Ndjson(reader)
            }
            ImportFormat::Csv => {
                let mut records = CsvRecordReader::new(file, row_bytes)?;
                let names = match records.next().context("the file cannot be read")? {
                    None => bail!("the file is empty: the first line must name the columns"),
                    Some(CsvRecord::Whole(record)) => parse(&record)
                        .map_err(|problem| anyhow::anyhow!("the first line {problem}"))?,
                    Some(CsvRecord::TooLong(_)) => bail!("the first line {TOO_LONG}"),
                    Some(CsvRecord::OpenQuote(_)) => {
                        bail!("the first line opens a quote and does not close it")
                    }
                };
                for column in &columns {
                    if !names.iter().any(|name| name == column.name) {
                        bail!("the file has no column {:?}", column.name);
                    }
                }
                ImportFileReader::Csv(records, names)
            }
        };
        Ok(Self { source, columns, row_bytes, number: 0, length })
    }

    /// The part of the file that is read, from 0 to 1.
    pub(super) fn progress(&mut self) -> f64 {
        let at = match &mut self.source {
            ImportFileReader::Csv(records, _) => records.position(),
            ImportFileReader::Ndjson(reader) => reader.stream_position().unwrap_or_default(),
        };
        #[expect(clippy::cast_precision_loss, reason = "a share for people to see")]
        let share = at as f64 / self.length.max(1) as f64;
        share.min(1.0)
    }

    /// Returns the next row; `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<ImportRow>> {
        let (bytes, found) = match &mut self.source {
            ImportFileReader::Csv(records, names) => {
                match records.next().context("the file cannot be read")? {
                    None => return Ok(None),
                    Some(CsvRecord::Whole(record)) => (record.len(), cells(&record, names)),
                    Some(CsvRecord::TooLong(shown)) => {
                        (shown.len(), Err((lossy(&shown), TOO_LONG)))
                    }
                    Some(CsvRecord::OpenQuote(shown)) => {
                        (shown.len(), Err((lossy(&shown), "opens a quote and does not close it")))
                    }
                }
            }
            ImportFileReader::Ndjson(reader) => {
                let line = read_line(reader, self.row_bytes).context("the file cannot be read")?;
                match line {
                    None => return Ok(None),
                    Some(Ok(line)) => (line.len(), object(&line)),
                    Some(Err(shown)) => (shown.len(), Err((lossy(&shown), TOO_LONG))),
                }
            }
        };
        self.number += 1;
        Ok(Some(match found {
            Ok(members) => ImportRow {
                number: self.number,
                bytes,
                message: self.message(&members),
                found: Value::Object(members),
            },
            Err((found, problem)) => {
                ImportRow { number: self.number, bytes, found, message: Err(problem.to_owned()) }
            }
        }))
    }

    fn message(&self, members: &Map<String, Value>) -> Result<Value, String> {
        let mut message = Map::from_iter([("type".to_owned(), json!("identify"))]);
        let mut traits = Map::new();
        for (name, value) in members {
            let column = self.columns.iter().find(|column| column.name == *name);
            let member = MEMBERS.iter().find(|(known, _)| known == name);
            let by_name = || match member {
                Some((_, member)) => ColumnTarget::Member(member),
                None => ColumnTarget::Trait(name.clone()),
            };
            let conversion = column.map_or(ColumnConversion::Keep, |column| column.conversion);
            let value = conversion
                .of(value)
                .ok_or_else(|| format!("column {name:?} is not a {}", conversion.name()))?;
            match column.map_or_else(by_name, |column| column.target.clone()) {
                ColumnTarget::Nowhere => {}
                ColumnTarget::Trait(key) => drop(traits.insert(key, value)),
                ColumnTarget::Member(key) => {
                    let text = match value {
                        Value::Number(number) => Value::String(number.to_string()),
                        other => other,
                    };
                    message.insert(key.to_owned(), text);
                }
            }
        }
        let says_who = ["userId", "anonymousId"]
            .iter()
            .any(|key| message.get(*key).and_then(Value::as_str).is_some_and(is_identifying_id));
        if !says_who {
            return Err("has neither user_id nor anonymous_id".to_owned());
        }
        message.insert("traits".to_owned(), Value::Object(traits));
        // A row that is sent again after a crash is the same message.
        let mut digest = Sha256::new();
        digest.update(self.number.to_le_bytes());
        digest.update(Value::Object(message.clone()).to_string());
        let digest = digest.finalize();
        let id: String = hex::encode(digest.get(..16).unwrap_or_default());
        message.insert("messageId".to_owned(), format!("import-{id}").into());
        Ok(Value::Object(message))
    }
}

impl ColumnConversion {
    const fn name(self) -> &'static str {
        match self {
            Self::Keep => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
        }
    }

    fn of(self, value: &Value) -> Option<Value> {
        let text = value.as_str().map(str::trim);
        match (self, text) {
            (Self::Keep, _) => Some(value.clone()),
            (Self::Number, None) => value.is_number().then(|| value.clone()),
            (Self::Boolean, None) => value.is_boolean().then(|| value.clone()),
            (Self::Number, Some(text)) => text.parse().ok().map(Value::Number),
            (Self::Boolean, Some(text)) => match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" => Some(true.into()),
                "false" | "0" | "no" => Some(false.into()),
                _ => None,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(name: &str, text: &str, columns: &[&str]) -> Vec<ImportRow> {
        bounded(name, text, columns, 1 << 20)
    }

    fn bounded(name: &str, text: &str, columns: &[&str], row_bytes: usize) -> Vec<ImportRow> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        let columns = columns.iter().map(|text| column(text).unwrap()).collect();
        let mut rows = ImportRowReader::open(&path, None, columns, row_bytes).unwrap();
        std::iter::from_fn(|| rows.next().unwrap()).collect()
    }

    fn message_without_id(row: &ImportRow) -> Value {
        let mut message = row.message.clone().unwrap();
        let message = message.as_object_mut().unwrap();
        message.remove("messageId");
        Value::Object(message.clone())
    }

    #[test]
    fn columns_are_mapped_to_their_targets() {
        let text = "id,plan,age,note,zip\n1,pro,41,x,0123\n2,,old,,\n,free,,,\n3,\"a, b\",7,,,9\n";
        let columns = ["id=user_id", "age=traits.years:number", "note=-"];
        let rows = rows("people.csv", text, &columns);
        let expected = json!({
            "type": "identify", "userId": "1",
            "traits": { "plan": "pro", "years": 41, "zip": "0123" },
        });
        assert_eq!(message_without_id(&rows[0]), expected);
        assert_eq!(rows[1].message, Err("column \"age\" is not a number".to_owned()));
        assert!(rows[2].message.as_ref().unwrap_err().starts_with("has neither user_id"));
        assert_eq!(rows[3].message, Err("has too many columns".to_owned()));
        assert_eq!(rows.iter().map(|row| row.number).collect::<Vec<_>>(), [1, 2, 3, 4]);
    }

    #[test]
    fn ndjson_values_keep_their_types_and_a_broken_line_fails_alone() {
        let text =
            "{\"user_id\": 7, \"tags\": [1], \"anonymous_id\": \"a\"}\nno\n\n{\"userId\":\"u\"}";
        let rows = rows("people.jsonl", text, &[]);
        let expected = json!({
            "type": "identify", "userId": "7", "anonymousId": "a", "traits": { "tags": [1] },
        });
        assert_eq!(message_without_id(&rows[0]), expected);
        assert_eq!(rows[1].found, "no");
        assert!(rows[1].message.is_err() && rows[2].message.is_err());
        assert_eq!(message_without_id(&rows[3])["userId"], "u");
    }

    #[test]
    fn unreadable_row_fails_alone() {
        let long = "x".repeat(5000);
        let text =
            format!("user_id,bio\n1,a\n2,{long}\n3,\"open\n4,b\0\n5,c\n6,\"d\"\n7,\"end\n8,e\n");
        let rows = bounded("people.csv", &text, &[], 1000);
        let problems: Vec<_> = rows.iter().map(|row| row.message.as_ref().err().cloned()).collect();
        let open = Some("opens a quote and does not close it".to_owned());
        let expected = [
            None,
            Some(TOO_LONG.to_owned()),
            open.clone(),
            Some("has NUL bytes".to_owned()),
            None,
            None,
            open,
            None,
        ];
        assert_eq!(problems, expected);
        assert_eq!(message_without_id(&rows[7])["userId"], "8");
        assert!(rows.iter().all(|row| row.bytes <= 1024), "none is held beyond the bound");
        let lines =
            format!("{{\"user_id\":\"1\",\"bio\":\"{long}\"}}\n{{\"user_id\":\"2\"}}\n{long}");
        let rows = bounded("people.jsonl", &lines, &[], 1000);
        let problems: Vec<_> = rows.iter().map(|row| row.message.is_err()).collect();
        assert_eq!(problems, [true, false, true]);
    }

    #[test]
    fn message_id_depends_on_the_row() {
        let ids = |text: &str| -> Vec<Value> {
            let rows = rows("people.csv", text, &[]);
            rows.iter().map(|row| row.message.as_ref().unwrap()["messageId"].clone()).collect()
        };
        let (once, again) = (ids("user_id,x\n1,a\n1,a\n"), ids("user_id,x\n1,b\n1,a\n"));
        assert_ne!(once[0], once[1]);
        assert_ne!(once[0], again[0]);
        assert_eq!(once[1], again[1]);
    }

    #[test]
    fn invalid_column_mapping_is_rejected() {
        for bad in ["plan", "plan=plan", "a=traits.", "a=user_id:text", "a=group_id"] {
            assert!(column(bad).is_err(), "{bad}");
        }
    }
}
