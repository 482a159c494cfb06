//! Rows of grey-scale images, as one SVG that contains a PNG for each image.

use super::chart::{escape, sized};
use flate2::{Compression, Crc, write::ZlibEncoder};
use std::io::Write;

/// A row of images of one kind, with its label.
pub struct Strip<'a> {
    pub label: &'a str,
    /// The pixels of the images, one image after the other, each row by row.
    pub pixels: &'a [f64],
}

/// Draws rows of images: the value `ink` is black and `paper` white. Values outside this range are
/// clamped, values that are not finite are red.
///
/// `height` and `width` are the sizes of an image in pixels.
pub fn strips(
    title: &str,
    strips: &[Strip<'_>],
    (height, width): (usize, usize),
    (paper, ink): (f64, f64),
) -> String {
    let (height, width) = (height.max(1), width.max(1));
    let each = height * width;
    let columns = strips.iter().map(|strip| strip.pixels.len() / each).max().unwrap_or(0);
    let labels = strips.iter().map(|strip| strip.label.chars().count()).max().unwrap_or(0);
    let (left, top, gap) = (if labels > 0 { 12.0 + 6.6 * labels as f64 } else { 6.0 }, 34.0, 5.0);
    // An image is about 42 px wide on the page, whatever its number of pixels.
    let scale = 42.0 / height.max(width) as f64;
    let (cell_w, cell_h) = (scale * width as f64, scale * height as f64);
    let total_w = (left + columns as f64 * (cell_w + gap)).max(9.5 * title.chars().count() as f64);
    let total_h = top + strips.len() as f64 * (cell_h + gap) + 2.0;
    let mut body = format!(
        "<text x=\"{:.1}\" y=\"18\" text-anchor=\"middle\" font-size=\"15\" font-weight=\"600\">{}</text>",
        total_w / 2.0,
        escape(title)
    );
    for (row, strip) in strips.iter().enumerate() {
        let y = top + row as f64 * (cell_h + gap);
        if !strip.label.is_empty() {
            body += &format!(
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" font-size=\"12\">{}</text>",
                left - 8.0,
                y + cell_h / 2.0 + 4.0,
                escape(strip.label)
            );
        }
        for (column, pixels) in strip.pixels.chunks_exact(each).enumerate() {
            let x = left + column as f64 * (cell_w + gap);
            body += &format!(
                "<image x=\"{x:.1}\" y=\"{y:.1}\" width=\"{cell_w:.2}\" height=\"{cell_h:.2}\" preserveAspectRatio=\"none\" style=\"image-rendering:crisp-edges;image-rendering:pixelated\" href=\"data:image/png;base64,{}\"/>",
                base64(&png(pixels, width, (paper, ink)))
            );
        }
    }
    sized(&body, total_w, total_h, 1.0)
}

/// Height and width of a square image of this many pixels; `None` if it would not be square.
pub fn square(pixels: usize) -> Option<(usize, usize)> {
    let side = pixels.isqrt();
    (side > 1 && side * side == pixels).then_some((side, side))
}

/// A PNG in indexed colour: 0 to 254 are greys, 255 marks values that are not finite.
fn png(pixels: &[f64], width: usize, (paper, ink): (f64, f64)) -> Vec<u8> {
    let span = if ink == paper { 1.0 } else { ink - paper };
    let index = |&value: &f64| match value.is_finite() {
        true => (254.0 * ((value - paper) / span).clamp(0.0, 1.0)).round() as u8,
        false => 255,
    };
    // Each line of a PNG starts with its filter type: 0, none.
    let lines: Vec<u8> = pixels
        .chunks(width)
        .flat_map(|line| std::iter::once(0).chain(line.iter().map(index)))
        .collect();
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
    let data = encoder.write_all(&lines).and_then(|()| encoder.finish()).unwrap_or_default();
    // The greys are slightly blue, like the text of the page.
    let shade = |from: u8, to: u8, i: u16| {
        (f64::from(from) + (f64::from(to) - f64::from(from)) * f64::from(i) / 254.0) as u8
    };
    let palette: Vec<u8> = (0..255)
        .flat_map(|i| [shade(250, 16, i), shade(250, 24, i), shade(252, 48, i)])
        .chain([0xd6, 0x27, 0x28])
        .collect();
    let size = |n: usize| (n as u32).to_be_bytes();
    let header = [size(width).as_slice(), &size(pixels.len() / width), &[8, 3, 0, 0, 0]].concat();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    for (kind, data) in
        [(b"IHDR", header), (b"PLTE", palette), (b"IDAT", data), (b"IEND", Vec::new())]
    {
        let body = [kind.as_slice(), &data].concat();
        let mut crc = Crc::new();
        crc.update(&body);
        file.extend(size(data.len()));
        file.extend(body);
        file.extend(crc.sum().to_be_bytes());
    }
    file
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    bytes
        .chunks(3)
        .flat_map(|three| {
            let word = three.iter().fold(0u32, |word, &byte| word << 8 | u32::from(byte))
                << (8 * (3 - three.len()));
            (0..4).map(move |digit| match digit <= three.len() {
                true => DIGITS[(word >> (18 - 6 * digit) & 63) as usize] as char,
                false => '=',
            })
        })
        .collect()
}
