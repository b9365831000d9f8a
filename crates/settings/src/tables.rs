//! Reads tables and lists of tables, and reports the cure if one is written for the other.

use super::headers::without_places;
use super::layer::{FoundSetting, SettingsLayer};
use super::section::SettingsSection;

impl<'a> SettingsSection<'a> {
    /// The table that was found. For a list of tables, which is a mistake, its first table, so that its
    /// contents are still read.
    pub(super) fn one_table(&self, found: FoundSetting<'a>) -> Option<SettingsLayer<'a>> {
        if let Some(table) = found.value.as_table() {
            return Some(SettingsLayer {
                source: found.source,
                table,
                span: found.span,
                path: found.path,
            });
        }
        let items = found.value.as_array();
        let first = items.and_then(|items| items.first()).map(|item| found.item(0, item));
        match first.filter(|first| first.value.is_table()) {
            Some(first) => {
                let header = without_places(&found.path);
                let message = format!("is one table: write [{header}] in place of [[{header}]]");
                self.error_at(&first, &message);
                self.one_table(first)
            }
            None => {
                self.wrong_type(&found, "a table");
                None
            }
        }
    }

    /// The tables of the list that was found. For a single table, which is a mistake, only that table.
    pub(super) fn tables(&self, found: &FoundSetting<'a>) -> Vec<SettingsLayer<'a>> {
        let Some(items) = found.value.as_array() else {
            if found.value.is_table() {
                let header = without_places(&found.path);
                let message = format!(
                    "is a list of tables: write [[{header}]] for each, in place of [{header}]"
                );
                self.error_at(found, &message);
                return self.one_table(found.clone()).into_iter().collect();
            }
            self.wrong_type(found, "a list of tables");
            return Vec::new();
        };
        let items = items.iter().enumerate().map(|(index, item)| found.item(index, item));
        let table = |item: FoundSetting<'a>| {
            let Some(table) = item.value.as_table() else {
                self.wrong_type(&item, "a table");
                return None;
            };
            Some(SettingsLayer { source: item.source, table, span: item.span, path: item.path })
        };
        items.filter_map(table).collect()
    }
}
