//! Numbers and missing values as people write them in text: decimal commas, marks between groups of
//! thousands, typographic minus signs, Fortran exponents, and marks of missing values.

use super::table::parse;
use crate::Real;

/// The decimal mark of a text file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Decimal {
    #[default]
    Point,
    Comma,
}

impl Decimal {
    pub(super) fn mark(self) -> char {
        if self == Self::Comma { ',' } else { '.' }
    }

    /// The mark that separates groups of thousands where this is the decimal mark.
    fn other(self) -> char {
        if self == Self::Comma { '.' } else { ',' }
    }
}

/// How the numbers and missing values of a file are written.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Syntax {
    pub decimal: Decimal,
    /// Whether the decimal mark is known, so that `1,234` has one meaning.
    pub certain: bool,
    /// Marks of missing values that were declared, with their numeric value if they have one.
    pub marks: Vec<(String, Option<f64>)>,
}

/// The content of a numeric field.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Entry<T> {
    /// A number; infinite for a text out of the range of `T`.
    Number(T),
    Missing,
    Text,
}

/// Marks of missing values that are accepted without a declaration, in lower case: those of R,
/// pandas, NumPy, SQL dumps, Weka, SAS and spreadsheets.
const MARKS: [&str; 25] = [
    "", "na", "n/a", "nan", "-nan", "+nan", "nat", "null", "none", "<na>", "#na", "#n/a",
    "#n/a n/a", "\\n", "?", ".", "-", "--", "–", "—", "#div/0!", "1.#ind", "-1.#ind", "1.#qnan",
    "-1.#qnan",
];

/// Whether a text is one of the common marks of a missing value.
pub(super) fn is_common_mark(field: &str) -> bool {
    // The longest mark has 8 bytes, and one with digits has a `#`: most fields are neither.
    field.len() <= 8
        && (field.contains('#') || !field.bytes().any(|byte| byte.is_ascii_digit()))
        && MARKS.iter().any(|mark| mark.eq_ignore_ascii_case(field))
}

impl Syntax {
    /// A syntax with a known decimal mark and no declared marks.
    pub(super) fn known(decimal: Decimal) -> Self {
        Self { decimal, certain: true, marks: Vec::new() }
    }

    pub(super) fn read<T: Real>(&self, field: &str) -> Entry<T> {
        // The common case in one step: text that begins like a number, and is one in the syntax of
        // Rust.
        let bytes = field.as_bytes();
        let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
        let signed = matches!(bytes.first(), Some(b'-' | b'+' | b'.'));
        if self.marks.is_empty()
            && (digit(0) || signed && digit(1))
            && (self.decimal == Decimal::Point || !field.contains('.'))
            && let Some(number) = parse(field)
        {
            return Entry::Number(number);
        }
        if !self.marks.is_empty() && self.is_declared(field) || is_common_mark(field) {
            return Entry::Missing;
        }
        self.number(field).map_or(Entry::Text, Entry::Number)
    }

    /// Whether a field is a declared mark, as text or as a number: `-9999` also stands for
    /// `-9999.0`.
    fn is_declared(&self, field: &str) -> bool {
        self.marks.iter().any(|(mark, _)| mark == field)
            || self
                .number::<f64>(field)
                .is_some_and(|number| self.marks.iter().any(|(_, value)| *value == Some(number)))
    }

    /// Whether a field is a finite number.
    pub(super) fn is_number(&self, field: &str) -> bool {
        self.number::<f64>(field).is_some_and(f64::is_finite)
    }

    /// Parses a number; `None` for other text, and for `nan`.
    pub(super) fn number<T: Real>(&self, field: &str) -> Option<T> {
        // The common case: no mark but the decimal point.
        let plain = field
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E'));
        if plain && (self.decimal == Decimal::Point || !field.contains('.')) {
            return parse(field);
        }
        let unsigned = field.trim_start_matches(['+', '-']);
        if ["inf", "infinity"].iter().any(|word| unsigned.eq_ignore_ascii_case(word)) {
            return parse(field);
        }
        parse(&self.plain(field)?)
    }

    /// Whether a number has marks between groups of thousands.
    pub(super) fn has_groups(&self, field: &str) -> bool {
        let (_, unsigned) = sign(field.trim_matches(['"', '\'']));
        let whole = unsigned.split([self.decimal.mark(), 'e', 'E', 'd', 'D']).next();
        whole.is_some_and(|whole| whole.contains(|c: char| !c.is_ascii_digit()))
            && self.is_number(field)
    }

    /// Rewrites a number in the syntax of Rust; `None` for other text.
    fn plain(&self, field: &str) -> Option<String> {
        let quoted = ['"', '\''].iter().find_map(|&quote| {
            field.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote)).map(str::trim)
        });
        let (negative, unsigned) = sign(quoted.unwrap_or(field));
        let (mantissa, exponent) = match unsigned.split_once(['e', 'E', 'd', 'D']) {
            Some((mantissa, exponent)) => (mantissa, Some(sign(exponent))),
            None => (unsigned, None),
        };
        let (whole, fraction) = match mantissa.split_once(self.decimal.mark()) {
            // `1,` is the end of a clause and no number; `1.` is common.
            Some((_, "")) if self.decimal == Decimal::Comma => return None,
            Some((whole, fraction)) => (whole, fraction),
            None => (mantissa, ""),
        };
        let whole = self.without_groups(whole)?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if !digits(fraction) || whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let minus = if negative { "-" } else { "" };
        let mut text = format!("{minus}{whole}.{fraction}");
        if let Some((negative, exponent)) = exponent {
            if exponent.is_empty() || !digits(exponent) {
                return None;
            }
            text += if negative { "e-" } else { "e" };
            text += exponent;
        }
        Some(text)
    }

    /// Removes the marks between groups of three digits; `None` where the groups are not exact.
    fn without_groups(&self, whole: &str) -> Option<String> {
        let Some(mark) = whole.chars().find(|c| !c.is_ascii_digit()) else {
            return Some(whole.to_owned());
        };
        let spaces = matches!(mark, ' ' | '\u{a0}' | '\u{2009}' | '\u{202f}' | '\'' | '’');
        // One comma or point may be a decimal mark where that is not known; two cannot.
        let other = mark == self.decimal.other()
            && (self.certain || whole.chars().filter(|&c| c == mark).count() > 1);
        let mut groups = whole.split(mark);
        let first = groups.next()?;
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let exact = (1..=3).contains(&first.len())
            && digits(first)
            && !first.starts_with('0')
            && groups.all(|group| group.len() == 3 && digits(group));
        ((spaces || other) && exact).then(|| whole.replace(mark, ""))
    }
}

/// Splits off a sign, ASCII or typographic; returns whether it is negative.
fn sign(text: &str) -> (bool, &str) {
    match text.strip_prefix(['-', '\u{2212}', '\u{2013}']) {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    }
}

/// Returns the kind of a text that is not a number, for an error message; empty for plain text.
pub(super) fn kind(text: &str) -> &'static str {
    let is = |decimal| Syntax::known(decimal).is_number(text);
    let has = |marks: &[char]| text.contains(marks);
    let digits = text.chars().filter(char::is_ascii_digit).count();
    let breaks = text.chars().filter(|c| matches!(c, '-' | '/' | ':' | '.')).count();
    let truth = ["true", "false", "t", "f", "yes", "no", "y", "n"];
    match text {
        _ if truth.iter().any(|word| text.eq_ignore_ascii_case(word)) => {
            " but a truth value: write 1 and 0"
        }
        _ if is(Decimal::Comma) && !is(Decimal::Point) => {
            " with a decimal point: for decimal commas, set the option `decimal`"
        }
        _ if is(Decimal::Point) && !is(Decimal::Comma) => {
            " with a decimal comma: for decimal points, set the option `decimal`"
        }
        // Both: a comma or point before three digits.
        _ if is(Decimal::Point) => {
            " of one meaning: `,` and `.` may mark decimals or thousands; set the option `decimal`"
        }
        _ if digits > 0 && text.ends_with('%') => ": remove the percent sign",
        _ if digits > 0 && has(&['$', '€', '£', '¥']) => ": remove the currency sign",
        _ if digits > 0 && text.starts_with('(') && text.ends_with(')') => {
            ": write a negative number with a minus sign, without parentheses"
        }
        _ if digits > 1 && has(&[';', '\t', '|']) => {
            ": does it hold several fields? Then set the option `separator`"
        }
        _ if digits >= 4 && breaks >= 2 && !has(&[' ']) || digits >= 6 && has(&[':']) => {
            " but a date or time"
        }
        _ if text.starts_with('#') => ": remove comment lines",
        _ if text.starts_with(|c: char| c.is_ascii_digit()) && !has(&['\n', '"']) => {
            ": does a unit follow it? Then remove the unit"
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> Option<f64> {
        Syntax::known(Decimal::Point).number(text)
    }

    fn comma(text: &str) -> Option<f64> {
        Syntax::known(Decimal::Comma).number(text)
    }

    #[test]
    fn numbers_with_a_decimal_point() {
        for (text, value) in [
            ("1.5", 1.5),
            (".5", 0.5),
            ("1.", 1.0),
            ("+1", 1.0),
            ("1E5", 1e5),
            ("1,100.50", 1100.5),
            ("1,234,567", 1_234_567.0),
            ("1 100.50", 1100.5),
            ("1\u{a0}100", 1100.0),
            ("1\u{202f}100.25", 1100.25),
            ("1'100.50", 1100.5),
            ("12’345", 12345.0),
            ("'3.0'", 3.0),
            ("\"3.0\"", 3.0),
            ("\u{2212}2.5", -2.5),
            ("1.5D+03", 1500.0),
            ("-1d-2", -0.01),
        ] {
            assert_eq!(point(text), Some(value), "{text:?}");
        }
        for text in [
            "1,5",
            "1,10",
            "12,34.5",
            "1,2345",
            "0,123.5",
            "1 10",
            "1 1000",
            "1,100 200",
            "",
            "-",
            "e5",
            "1e",
            "1.5.2",
            "$3",
            "3 %",
            "(1.50)",
            "1_000",
            "TRUE",
            "0x10",
            "nan",
            "٣",
        ] {
            assert_eq!(point(text), None, "{text:?}");
        }
    }

    #[test]
    fn numbers_with_a_decimal_comma() {
        for (text, value) in [
            ("1,5", 1.5),
            ("12", 12.0),
            (",5", 0.5),
            ("1.100,50", 1100.5),
            ("1.100", 1100.0),
            ("1 100,50", 1100.5),
            ("-1,5e-3", -0.0015),
            ("1,234", 1.234),
        ] {
            assert_eq!(comma(text), Some(value), "{text:?}");
        }
        for text in ["1.5", "0.125", "1,", "1,2,3", "1,100.50", "1.10,5"] {
            assert_eq!(comma(text), None, "{text:?}");
        }
    }

    #[test]
    fn a_single_group_mark_needs_a_known_decimal_mark() {
        let unknown = Syntax::default();
        assert_eq!(unknown.number::<f64>("1,234"), None);
        assert_eq!(unknown.number::<f64>("1,234,567"), Some(1_234_567.0));
        assert_eq!(unknown.number::<f64>("1.234"), Some(1.234));
    }

    #[test]
    fn declared_marks_are_text_and_numbers() {
        let mut syntax = Syntax::known(Decimal::Point);
        syntax.marks = vec![("-9999".into(), Some(-9999.0)), ("gone".into(), None)];
        for text in ["-9999", "-9999.0", "-9.999e3", "gone", "NA", "n/a", "\\N", "#DIV/0!", ""] {
            assert_eq!(syntax.read::<f64>(text), Entry::Missing, "{text:?}");
        }
        assert_eq!(syntax.read::<f64>("9999"), Entry::Number(9999.0));
        assert_eq!(syntax.read::<f32>("1e39"), Entry::Number(f32::INFINITY));
        assert_eq!(syntax.read::<f64>("Gone"), Entry::Text);
    }

    #[test]
    fn the_kind_of_other_text() {
        for (text, part) in [
            ("2026-11-01", "a date"),
            ("01.11.2026", "a date"),
            ("2026-11-01 10:30", "a date"),
            ("TRUE", "a truth value"),
            ("12 %", "percent"),
            ("$3.50", "currency"),
            ("(1.50)", "minus sign"),
            ("1;2", "separator"),
            ("5 kg", "unit"),
            ("# by hand", "comment"),
            ("1,5", "decimal commas"),
            ("1,234", "thousands"),
        ] {
            assert!(kind(text).contains(part), "{text:?}: {:?}", kind(text));
        }
        assert_eq!(kind("setosa"), "");
    }
}
