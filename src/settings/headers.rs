//! The headers of a file's tables, for mistakes that TOML's parser tells once for each key: a list's table
//! that is written as a single one, again and again.

/// A header of a file: `[a.b]` or `[[a.b]]`.
#[derive(Debug, PartialEq, Eq)]
struct TableHeader<'t> {
    line: usize,
    name: &'t str,
    is_of_list: bool,
}

/// A table that is there a second time.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RepeatedTable {
    /// The table's name: `sites.destinations`.
    pub(super) name: String,
    /// The line of its second header.
    pub(super) line: usize,
    /// What is wrong, and the cure.
    pub(super) message: String,
}

/// The tables of this text that are there twice, each once.
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
            // Tables of the list's item before come anew with each item.
            let before = seen.iter().find(|it| !it.is_of_list && is_within(it.name, name));
            let is_list = seen.iter().any(|it| it.is_of_list && it.name == name);
            match before.filter(|_| !is_list) {
                Some(before) => repeated.push(RepeatedTable {
                    name: name.to_owned(),
                    line: header.line,
                    message: format!(
                        "[[{name}]] comes behind [{}] of line {}: what belongs to one of a list stands below it",
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

/// True if a name is that of this table, or of one within it.
pub(super) fn is_within(name: &str, table: &str) -> bool {
    name.strip_prefix(table).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// A path without its places in lists: `sites[0].hosts` is `sites.hosts`.
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

/// The line of the last header before a line, and its table's name.
pub(super) fn enclosing(text: &str, line: usize) -> Option<&str> {
    headers(text).take_while(|header| header.line <= line).last().map(|header| header.name)
}

/// The headers as they are usually written: alone on their lines, with bare names. Others are not looked at.
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
    fn tables_that_are_there_twice_are_found_once() {
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
    fn a_lines_table_is_that_of_the_header_before_it() {
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 1), None);
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 3), Some("a"));
        assert_eq!(enclosing("x = 1\n[a]\ny = 1\n[[b.c]]\n", 4), Some("b.c"));
        assert_eq!(without_places("sites[0].destinations[12].name"), "sites.destinations.name");
    }
}
