//! Elements of binary arrays.

/// Kind of an element type, without its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Bool,
    Unsigned,
    Signed,
    Float,
}

/// Element type of a binary array.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Element {
    pub kind: Kind,
    /// Bytes per element: 1, 2, 4 or 8.
    pub item: usize,
    pub big_endian: bool,
}

impl Element {
    /// The element in the low-order bytes of a word, extended by zeros.
    fn word(self, bytes: &[u8]) -> u64 {
        let mut word = [0; 8];
        match self.big_endian {
            true => {
                word[8 - self.item..].copy_from_slice(bytes);
                u64::from_be_bytes(word)
            }
            false => {
                word[..self.item].copy_from_slice(bytes);
                u64::from_le_bytes(word)
            }
        }
    }

    /// Sign extension: to the top of the word, then back by an arithmetic shift.
    fn signed(self, word: u64) -> i64 {
        let unused = 64 - 8 * self.item;
        (word << unused) as i64 >> unused
    }

    /// Returns the value of one element from exactly `item` bytes; integers beyond 2⁵³ are rounded.
    pub(super) fn value(self, bytes: &[u8]) -> f64 {
        let word = self.word(bytes);
        match (self.kind, self.item) {
            (Kind::Bool, _) => f64::from(u8::from(word != 0)),
            (Kind::Unsigned, _) => word as f64,
            (Kind::Signed, _) => self.signed(word) as f64,
            (Kind::Float, 2) => half(word as u16),
            (Kind::Float, 4) => f32::from_bits(word as u32).into(),
            (Kind::Float, _) => f64::from_bits(word),
        }
    }

    /// Returns the digits of an integer that no `f64` represents.
    pub(super) fn inexact(self, bytes: &[u8]) -> Option<String> {
        if self.item < 8 || matches!(self.kind, Kind::Bool | Kind::Float) {
            return None;
        }
        let word = self.word(bytes);
        let exact = match self.kind {
            Kind::Signed => i128::from(self.signed(word)),
            _ => i128::from(word),
        };
        (self.value(bytes) as i128 != exact).then(|| exact.to_string())
    }
}

/// The value of an IEEE 754 half-precision number: 1 bit of sign, 5 of exponent, 10 of fraction.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 0x1f), f64::from(bits & 0x3ff));
    sign * match exponent {
        // Subnormal numbers are multiples of 2⁻²⁴.
        0 => fraction * 2f64.powi(-24),
        0x1f if fraction == 0.0 => f64::INFINITY,
        0x1f => f64::NAN,
        _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves() {
        for (bits, value) in [
            (0x3c00, 1.0),
            (0xbc00, -1.0),
            (0x3555, 0.333251953125),
            (0x7bff, 65504.0),
            (0x0001, 5.960464477539063e-8),
            (0x03ff, 1023.0 / 16_777_216.0),
            (0x0400, 1.0 / 16384.0),
            (0x7c00, f64::INFINITY),
            (0xfc00, f64::NEG_INFINITY),
        ] {
            assert_eq!(half(bits), value, "{bits:#x}");
        }
        assert!(half(0x7e00).is_nan());
        assert_eq!(half(0x8000).to_bits(), (-0.0f64).to_bits());
    }

    #[test]
    fn integers_beyond_the_precision() {
        let element = |kind| Element { kind, item: 8, big_endian: false };
        let signed = |x: i64| element(Kind::Signed).inexact(&x.to_le_bytes());
        let unsigned = |x: u64| element(Kind::Unsigned).inexact(&x.to_le_bytes());
        assert_eq!(signed((1 << 53) + 1), Some("9007199254740993".into()));
        assert_eq!(signed(-(1 << 53) - 1), Some("-9007199254740993".into()));
        assert_eq!((signed(1 << 53), signed((1 << 53) + 2), signed(i64::MIN)), (None, None, None));
        assert_eq!(signed(i64::MAX), Some("9223372036854775807".into()));
        assert_eq!(unsigned(u64::MAX), Some("18446744073709551615".into()));
        assert_eq!(unsigned(1 << 63), None);
    }
}
