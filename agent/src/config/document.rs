//! A TOML document with its places: which mistakes it holds, all of them, and on which line a key is.

use std::{ops::Range, path::Path};

use serde::Deserialize as _;
use toml::{
    Spanned,
    de::{DeArray, DeTable, DeValue, Deserializer, Error},
};

use super::{
    mistakes::{Mistake, Mistakes},
    raw,
};

/// So many mistakes of one file are told. Each takes another look at the whole of it.
const MOST: usize = 100;

/// A key of a table, or a place in an array.
enum Step {
    Key(String),
    Place(usize),
}

/// The text of a configuration file, taken apart.
pub(super) struct Document<'a> {
    text: &'a str,
    root: Spanned<DeTable<'a>>,
}

impl<'a> Document<'a> {
    /// Takes a text apart. What is no TOML is told at once; the rest would only mislead.
    pub fn parse(text: &'a str, path: &Path) -> Result<Self, Mistakes> {
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self { text, root };
        if errors.is_empty() {
            return Ok(document);
        }
        let mut mistakes = Mistakes::new(path);
        for error in &errors {
            let mut mistake = document.mistake(error);
            mistake.line.get_or_insert_with(|| first_line(text, error.message()));
            mistakes.add(mistake);
        }
        Err(mistakes)
    }

    /// What was typed. Whatever cannot be read (a key that does not exist, a value of the wrong type) is told and left out, so
    /// that the next mistake comes to light.
    pub fn read(&mut self, mistakes: &mut Mistakes) -> raw::File {
        let mut lacks = String::new();
        for _ in 0..MOST {
            match raw::File::deserialize(Deserializer::from(self.root.clone())) {
                Ok(file) => return file,
                Err(error) => {
                    // What was left out because it is wrong is not missing.
                    if error.message() != lacks {
                        mistakes.add(self.mistake(&error));
                    }
                    let place = error.span().and_then(|span| place_of(self.root.get_ref(), &span));
                    if let Some([.., Step::Key(key)]) = place.as_deref() {
                        lacks = format!("missing field `{key}`");
                    }
                    if !place.is_some_and(|place| remove(self.root.get_mut(), &place)) {
                        return raw::File::default();
                    }
                }
            }
        }
        let what = format!("more than {MOST} mistakes; what follows is not looked at, correct these first");
        mistakes.add(Mistake { line: Some(self.text.lines().count().max(1)), what });
        raw::File::default()
    }

    fn mistake(&self, error: &Error) -> Mistake {
        let line = error.span().map(|span| self.line(span.start));
        Mistake { line, what: error.message().replace('\n', " ") }
    }

    fn line(&self, at: usize) -> usize {
        self.text[..at.min(self.text.len())].matches('\n').count() + 1
    }

    /// The line of a key such as `web.max_requests` or `peer[1].cidrs[0]`, or of the nearest table around it that there is.
    pub fn line_of(&self, key: &str) -> Option<usize> {
        let mut table = Some(self.root.get_ref());
        let mut found = None;
        for part in key.split('.') {
            let (name, places) = part.split_once('[').unwrap_or((part, ""));
            let Some((key, value)) = table.and_then(|table| table.get_key_value(name)) else { break };
            found = Some(key.span().start);
            let mut value = value.get_ref();
            for place in
                places.split('[').filter_map(|place| place.trim_end_matches(']').parse::<usize>().ok())
            {
                let Some(element) = value.get(place) else { break };
                found = Some(element.span().start);
                value = element.get_ref();
            }
            table = value.as_table();
        }
        found.map(|at| self.line(at))
    }

    /// A key as it is told: the entry `peer[1]` of a list by its name, as `peer "office"`.
    pub fn shown(&self, key: &str) -> String {
        let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
        let named = first.split_once('[').and_then(|(list, place)| {
            let place: usize = place.trim_end_matches(']').parse().ok()?;
            let entry = self.root.get_ref().get(list)?.get_ref().get(place)?.get_ref();
            Some(format!("{list} \"{}\"", entry.as_table()?.get("name")?.get_ref().as_str()?))
        });
        let first = named.as_deref().unwrap_or(first);
        rest.map_or_else(|| first.to_owned(), |rest| format!("{first}.{rest}"))
    }
}

/// The parser names no place for what lies too deep: it is the first line that makes it complain.
fn first_line(text: &str, message: &str) -> usize {
    let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
    let is_right = |end: &usize| {
        let (_, errors) = DeTable::parse_recoverable(&text[..*end]);
        errors.iter().all(|error| error.message() != message)
    };
    ends.partition_point(is_right) + 1
}

/// The innermost entry that holds a span.
fn place_of(table: &DeTable<'_>, span: &Range<usize>) -> Option<Vec<Step>> {
    table.iter().find_map(|(key, value)| {
        let inner = match value.get_ref() {
            DeValue::Table(table) => place_of(table, span),
            DeValue::Array(array) => array.iter().enumerate().find_map(|(place, element)| {
                let inner = element.get_ref().as_table().and_then(|table| place_of(table, span));
                let here = inner.or_else(|| holds(&element.span(), span).then(Vec::new))?;
                Some([vec![Step::Place(place)], here].into_iter().flatten().collect())
            }),
            _ => None,
        };
        let here =
            inner.or_else(|| (holds(&key.span(), span) || holds(&value.span(), span)).then(Vec::new))?;
        Some([vec![Step::Key(key.get_ref().to_string())], here].into_iter().flatten().collect())
    })
}

fn holds(outer: &Range<usize>, inner: &Range<usize>) -> bool {
    outer.start <= inner.start && inner.end <= outer.end
}

/// Takes an entry out; an element of an array with all that belongs to it. Returns whether it was there.
fn remove(table: &mut DeTable<'_>, place: &[Step]) -> bool {
    match place {
        [Step::Key(key)] => table.remove(key.as_str()).is_some(),
        [Step::Key(key), rest @ ..] => match table.get_mut(key.as_str()).map(Spanned::get_mut) {
            Some(DeValue::Table(inner)) => remove(inner, rest),
            Some(DeValue::Array(array)) => match rest {
                [Step::Place(place)] if *place < array.len() => {
                    let kept = std::mem::replace(array, DeArray::new())
                        .into_iter()
                        .enumerate()
                        .filter(|(at, _)| at != place);
                    *array = kept.map(|(_, element)| element).collect();
                    true
                }
                [Step::Place(place), rest @ ..] => match array.get_mut(*place).map(Spanned::get_mut) {
                    Some(DeValue::Table(inner)) => remove(inner, rest),
                    _ => false,
                },
                _ => false,
            },
            _ => false,
        },
        _ => false,
    }
}
