//! The table headers of a file, to report once a mistake that the TOML parser reports for each key: a list's
//! table that is written as a single table, again and again.

/// A header of a file: `[a.b]` or `[[a.b]]`.
#[derive(Debug, PartialEq, Eq)]
struct TableHeader<'t> {
    line: usize,
    name: &'t str,
    is_of_list: bool,
}

/// A table that occurs a second time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RepeatedTable {
    /// The table's name: `sites.destinations`.
    pub(super) name: String,
    /// The line of its second header.
    pub(super) line: usize,
    /// The message, with the cure.
    pub(super) message: String,
}

/// The tables that occur twice in this text, each once.
pub(super) fn repeated(text: &str) -> Vec<RepeatedTable> {
    let mut repeated: Vec<RepeatedTable> = Vec::new();
    let mut seen: Vec<TableHeader<'_>> = Vec::new();
    for header in headers(text) {
        let is_known = |it: &RepeatedTable| is_within(header.name, &it.name);
        if repeated.iter().any(is_known) {
            continue;
        }
        let name = header.name;
        if header.is_of_list {
            // A table of the previous list item may occur again in the next item.
            let before = seen.iter().find(|it| !it.is_of_list && is_within(it.name, name));
            let is_list = seen.iter().any(|it| it.is_of_list && it.name == name);
            match before.filter(|_| !is_list) {
                Some(before) => repeated.push(RepeatedTable {
                    name: name.to_owned(),
                    line: header.line,
                    message: format!(
                        "[[{name}]] follows [{}] of line {}: move that table below the [[{name}]] that \
                        it belongs to",
                        before.name, before.line
                    ),
                }),
                None => seen.retain(|it| it.name == name || !is_within(it.name, name)),
            }
        } else if let Some(before) = seen.iter().find(|it| !it.is_of_list && it.name == name) {
            repeated.push(RepeatedTable {
                name: name.to_owned(),
                line: header.line,
                message: format!(
                    "[{name}] is there already, in line {}: write [[{name}]] for each one of a list, and any \
                     other table once",
                    before.line
                ),
            });
        }
        seen.push(header);
    }
    repeated
}

/// Returns true if a name is that of this table, or of one within it.
pub(super) fn is_within(name: &str, table: &str) -> bool {
    name.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A path without its list indexes: `sites[0].hosts` is `sites.hosts`.
pub(super) fn without_places(path: &str) -> String {
    let mut name = String::with_capacity(path.len());
    let mut is_place = false;
    for c in path.chars() {
        match c {
            '[' => is_place = true,
            ']' => is_place = false,
            c if !is_place => name.push(c),
            _ => {}
        }
    }
    name
}

/// The name of the table whose header is the last before a line.
pub(super) fn enclosing(text: &str, line: usize) -> Option<&str> {
    headers(text).take_while(|header| header.line <= line).last().map(|header| header.name)
}

/// The headers in the usual form: alone on their lines, with bare names. Others are ignored.
fn headers(text: &str) -> impl Iterator<Item = TableHeader<'_>> {
    text.lines().zip(1..).filter_map(|(text, line)| {
        let text = text.split('#').next().unwrap_or_default().trim();
        let inner = text.strip_prefix('[')?.strip_suffix(']')?;
        let of_list = inner.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
        let name = of_list.unwrap_or(inner).trim();
        let is_bare = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.');
        (!name.is_empty() && name.chars().all(is_bare)).then_some(TableHeader {
            line,
            name,
            is_of_list: of_list.is_some(),
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<(String, usize)> {
        repeated(text).into_iter().map(|it| (it.name, it.line)).collect()
    }

    #[test]
    fn repeated_finds_each_repeated_table_once() {
        let list = "[[s]]\n[s.d]\n[s.d.set]\n[s.d]\n[s.d.set]\n[s.d]\n";
        assert_eq!(found(list), [("s.d".to_owned(), 4)]);
        assert_eq!(found("[log]\n[limits]\n[log]\n"), [("log".to_owned(), 3)]);
        assert_eq!(found("[s.d]\n[[s]]\n[[s]]\n"), [("s".to_owned(), 2)]);
        for fine in [
            "[[s]]\n[s.d]\n[[s]]\n[s.d]\n",
            "[[s]]\n[[s.d]]\n[s.d.set]\n[[s.d]]\n[s.d.set]\n",
            "[a]\n[a.b]\n[ab]\n",
            "x = '''\n[a.b\n'''\n",
        ] {
            assert_eq!(found(fine), [], "{fine}");
        }
    }

    #[test]
    fn enclosing_returns_the_table_of_the_last_header() {
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 1), None);
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 3), Some("a"));
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 4), Some("b.c"));
        assert_eq!(without_places("sites[0].destinations[12].name"), "sites.destinations.name");
    }
}
