//! One network's configuration, read key by key, with every problem collected.
//!
//! A bridge asks for each key that it knows, in any order, then calls [`ConfigTable::finish`], which refuses what nobody asked for.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

/// What is wrong with one key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ConfigProblem {
    /// The file, or `environment`.
    pub file: String,
    /// The key, with its table: `room[2].channels`.
    pub key: String,
    /// What stands there.
    pub found: String,
    /// What to write.
    pub instead: String,
}

impl fmt::Display for ConfigProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}: {}; {}",
            self.file, self.key, self.found, self.instead
        )
    }
}

/// A secret. Never printed.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this text.
    pub fn new(text: impl Into<String>) -> Self {
        Secret(text.into())
    }

    /// The text, for the wire only.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A table of the configuration.
#[derive(Clone, Debug)]
pub struct ConfigTable {
    file: PathBuf,
    path: String,
    values: Map<String, Value>,
    asked: Vec<String>,
    problems: Vec<ConfigProblem>,
}

impl ConfigTable {
    /// The table at `path` (empty for a file's top level) of `file`.
    pub fn new(
        file: impl Into<PathBuf>,
        path: impl Into<String>,
        values: Map<String, Value>,
    ) -> Self {
        ConfigTable {
            file: file.into(),
            path: path.into(),
            values,
            asked: Vec::new(),
            problems: Vec::new(),
        }
    }

    /// The file that the table is from. Relative paths in it start at its directory.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// Text that must be there.
    pub fn required_string(&mut self, key: &str) -> String {
        let found = self.string(key);
        if found.is_none() && !self.values.contains_key(key) {
            self.problem(key, "is missing", "it must be given");
        }
        found.unwrap_or_default()
    }

    /// Text.
    pub fn string(&mut self, key: &str) -> Option<String> {
        match self.ask(key)? {
            Value::String(text) if text.is_empty() => {
                self.problem(key, "is empty", "write a value, or leave the key out");
                None
            }
            Value::String(text) => Some(text),
            other => self.wrong_type(key, &other, "a string in quotes"),
        }
    }

    /// True or false.
    pub fn flag(&mut self, key: &str) -> Option<bool> {
        match self.ask(key)? {
            Value::Bool(flag) => Some(flag),
            // The environment has strings only.
            Value::String(text) if text == "true" || text == "false" => Some(text == "true"),
            other => self.wrong_type(key, &other, "true or false"),
        }
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, key: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let value = self.ask(key)?;
        let number = match &value {
            Value::Number(number) => number.as_u64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        match number {
            Some(number) if range.contains(&number) => Some(number),
            _ => self.wrong_type(
                key,
                &value,
                &format!("a whole number from {} to {}", range.start(), range.end()),
            ),
        }
    }

    /// A list of texts.
    pub fn strings(&mut self, key: &str) -> Option<Vec<String>> {
        let value = self.ask(key)?;
        let Value::Array(items) = &value else {
            return self.wrong_type(key, &value, "a list of strings, [\"...\"]");
        };
        let texts: Vec<String> = items
            .iter()
            .filter_map(|item| item.as_str().map(str::to_owned))
            .collect();
        if texts.len() == items.len() {
            Some(texts)
        } else {
            self.wrong_type(key, &value, "a list of strings, [\"...\"]")
        }
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = choices
            .iter()
            .find(|(word, _)| *word == text)
            .map(|(_, value)| *value);
        if found.is_none() {
            let words: Vec<String> = choices
                .iter()
                .map(|(word, _)| format!("{word:?}"))
                .collect();
            self.problem(
                key,
                format!("found {text:?}"),
                format!("write one of {}", words.join(", ")),
            );
        }
        found
    }

    /// A path; a relative one starts at the directory of the table's file.
    pub fn path(&mut self, key: &str) -> Option<PathBuf> {
        let text = self.string(key)?;
        Some(
            self.file
                .parent()
                .unwrap_or_else(|| Path::new(""))
                .join(text),
        )
    }

    /// A secret: `key`, or the contents of the file that `key_file` names, without white space at its end.
    pub fn secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let inline = self.ask(key).and_then(|value| match value {
            Value::String(text) if !text.is_empty() => Some(Secret::new(text)),
            // What stands there may well be the secret: it is never repeated.
            _ => {
                self.problem(key, "is not a text", "write the secret in quotes");
                None
            }
        });
        let from_file = self
            .path(&file_key)
            .and_then(|path| self.secret_file(&file_key, &path));
        if self.has(key) && self.has(&file_key) {
            self.problem(
                key,
                format!("is given twice, here and as {file_key}"),
                "give one of them",
            );
            return None;
        }
        inline.or(from_file)
    }

    fn secret_file(&mut self, file_key: &str, path: &Path) -> Option<Secret> {
        match std::fs::read_to_string(path) {
            Ok(text) if text.trim_end().is_empty() => {
                self.problem(
                    file_key,
                    format!("{} is empty", path.display()),
                    "put the secret into it",
                );
                None
            }
            Ok(text) => Some(Secret::new(text.trim_end())),
            Err(error) => {
                self.problem(
                    file_key,
                    format!("{} cannot be read ({error})", path.display()),
                    "name a readable file",
                );
                None
            }
        }
    }

    /// A secret that must be there.
    pub fn required_secret(&mut self, key: &str) -> Option<Secret> {
        let file_key = format!("{key}_file");
        let found = self.secret(key);
        if found.is_none() && !self.values.contains_key(key) && !self.values.contains_key(&file_key)
        {
            self.problem(key, "is missing", format!("give {key} or {file_key}"));
        }
        found
    }

    /// True when the key is there, whatever its value; does not count as asking.
    pub fn has(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// A table of tables, e.g. `[[room]]`: each with its own problems, to be merged by [`ConfigTable::absorb`].
    pub fn tables(&mut self, key: &str) -> Vec<ConfigTable> {
        let Some(value) = self.ask(key) else {
            return Vec::new();
        };
        let Value::Array(items) = value else {
            self.problem(key, "is not a list of tables", format!("write [[{key}]]"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (index, item) in items.into_iter().enumerate() {
            let name = format!("{key}[{}]", index + 1);
            match item {
                Value::Object(values) => {
                    tables.push(ConfigTable::new(&self.file, self.full(&name), values))
                }
                _ => self.problem(&name, "is not a table", format!("write [[{key}]]")),
            }
        }
        tables
    }

    /// A table within this one; empty when it is not there.
    pub fn table(&mut self, key: &str) -> ConfigTable {
        let values = match self.ask(key) {
            Some(Value::Object(values)) => values,
            Some(_) => {
                self.problem(key, "is not a table", format!("write [{key}]"));
                Map::new()
            }
            None => Map::new(),
        };
        ConfigTable::new(&self.file, self.full(key), values)
    }

    /// Notes a problem of a key.
    pub fn problem(&mut self, key: &str, found: impl Into<String>, instead: impl Into<String>) {
        self.problems.push(ConfigProblem {
            file: self.file.display().to_string(),
            key: self.full(key),
            found: found.into(),
            instead: instead.into(),
        });
    }

    /// Takes over the problems of a table within this one, unknown keys included.
    pub fn absorb(&mut self, inner: ConfigTable) {
        if let Err(problems) = inner.finish() {
            self.problems.extend(problems);
        }
    }

    /// Ends the reading: refuses every key that nobody asked for.
    pub fn finish(mut self) -> Result<(), Vec<ConfigProblem>> {
        let unknown: Vec<String> = self
            .values
            .keys()
            .filter(|key| !self.asked.contains(key))
            .cloned()
            .collect();
        for key in unknown {
            let near = self
                .asked
                .iter()
                .filter(|known| strsim::damerau_levenshtein(known, &key) <= 2)
                .min();
            let instead = match near {
                Some(near) => format!("did you mean {near:?}?"),
                None => "remove it".to_owned(),
            };
            self.problem(&key, "is not a known key", instead);
        }
        if self.problems.is_empty() {
            Ok(())
        } else {
            Err(self.problems)
        }
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    fn ask(&mut self, key: &str) -> Option<Value> {
        if !self.asked.iter().any(|asked| asked == key) {
            self.asked.push(key.to_owned());
        }
        self.values.get(key).cloned()
    }

    fn wrong_type<T>(&mut self, key: &str, found: &Value, instead: &str) -> Option<T> {
        self.problem(key, format!("found {found}"), format!("write {instead}"));
        None
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn table(value: Value) -> ConfigTable {
        let Value::Object(values) = value else {
            unreachable!("tests give objects")
        };
        ConfigTable::new("bridges.d/libera.toml", "", values)
    }

    #[test]
    fn all_problems_are_reported_at_once() {
        let mut table = table(json!({"tls": "maybe", "burst": -1, "sevrer": "x"}));
        let server = table.required_string("server");
        assert_eq!(server, "");
        assert_eq!(
            table.choice("tls", &[("required", true), ("none", false)]),
            None
        );
        assert_eq!(table.integer("burst", 1..=10), None);
        let problems: Vec<String> = table
            .finish()
            .expect_err("problems")
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            problems,
            [
                "bridges.d/libera.toml: server: is missing; it must be given",
                "bridges.d/libera.toml: tls: found \"maybe\"; write one of \"required\", \"none\"",
                "bridges.d/libera.toml: burst: found -1; write a whole number from 1 to 10",
                "bridges.d/libera.toml: sevrer: is not a known key; did you mean \"server\"?",
            ]
        );
    }

    #[test]
    fn a_secret_of_a_wrong_type_is_not_repeated() {
        let mut table = table(json!({"password": 123_456}));
        assert_eq!(table.secret("password"), None);
        let problems = table.finish().expect_err("a problem");
        assert!(
            !problems[0].to_string().contains("123456"),
            "{}",
            problems[0]
        );
    }

    #[test]
    fn a_secret_that_is_given_twice_does_not_hide_that_its_file_is_missing() {
        for inline in [json!("hunter2"), json!(2)] {
            let mut table = table(json!({"password": inline, "password_file": "no/such/file"}));
            assert_eq!(table.secret("password"), None);
            let problems = table.finish().expect_err("problems");
            let has = |key: &str, found: &str| {
                problems
                    .iter()
                    .any(|problem| problem.key == key && problem.found.contains(found))
            };
            assert!(has("password", "is given twice"), "{problems:?}");
            assert!(has("password_file", "cannot be read"), "{problems:?}");
        }
    }

    #[test]
    fn a_secret_is_read_from_its_file_and_never_printed() {
        let dir = std::env::temp_dir().join(format!("comity-secret-{}", std::process::id()));
        std::fs::write(&dir, "hunter2\n").expect("a file");
        let mut table = table(json!({"password_file": dir.to_str()}));
        let secret = table.secret("password").expect("a secret");
        std::fs::remove_file(&dir).expect("remove");
        assert_eq!(secret.expose(), "hunter2");
        assert_eq!(format!("{secret:?}"), "Secret(..)");
        assert_eq!(table.finish(), Ok(()));
    }
}
