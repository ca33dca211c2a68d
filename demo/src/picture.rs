//! Pictures for the demo: a duck on a lake, drawn in code and written as PNG (RFC 2083).

/// Size of a picture, pixels.
const WIDTH: usize = 360;
const HEIGHT: usize = 240;
/// Where the sky ends and the water begins, from the top.
const HORIZON: f64 = 0.6;

type Colour = [f64; 3];

/// A time of day on the lake.
pub(crate) struct Scene {
    /// The sky high up, red, green and blue from 0 to 1.
    pub(crate) sky: Colour,
    /// The sky at the horizon.
    pub(crate) glow: Colour,
    /// Height of the sun's middle, from the top, 0 to 1.
    pub(crate) sun: f64,
}

fn mix(a: Colour, b: Colour, part: f64) -> Colour {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * part.clamp(0.0, 1.0))
}

fn in_ellipse(x: f64, y: f64, (cx, cy): (f64, f64), (rx, ry): (f64, f64)) -> bool {
    ((x - cx) / rx).powi(2) + ((y - cy) / ry).powi(2) < 1.0
}

impl Scene {
    fn sky_at(&self, x: f64, y: f64) -> Colour {
        if in_ellipse(x, y, (0.7, self.sun), (0.06, 0.09)) {
            return [1.0, 0.93, 0.7];
        }
        mix(self.sky, self.glow, y / HORIZON)
    }

    /// The colour at a place, both counted from the upper left corner, 0 to 1.
    fn at(&self, x: f64, y: f64) -> Colour {
        let (body, head, beak) = ((0.3, 0.72), (0.4, 0.63), (0.45, 0.64));
        if in_ellipse(x, y, (0.41, 0.62), (0.007, 0.01)) {
            [1.0, 1.0, 1.0]
        } else if in_ellipse(x, y, head, (0.04, 0.06)) {
            [0.1, 0.12, 0.2]
        } else if in_ellipse(x, y, beak, (0.03, 0.018)) {
            [0.45, 0.55, 0.65]
        } else if in_ellipse(x, y, body, (0.13, 0.07)) && y < 0.76 {
            if in_ellipse(x, y, (0.29, 0.72), (0.09, 0.045)) { [0.92, 0.92, 0.9] } else { [0.15, 0.15, 0.2] }
        } else if y < HORIZON {
            self.sky_at(x, y)
        } else {
            // The water mirrors the sky, darker and in ripples.
            let ripple = (y * 160.0 + (x * 25.0).sin() * 2.0).sin() * 0.02;
            mix(self.sky_at(x, 2.0 * HORIZON - y + ripple), [0.05, 0.15, 0.25], 0.35 + (y - HORIZON) * 0.6)
        }
    }

    /// The picture as a PNG file.
    pub(crate) fn png(&self) -> Vec<u8> {
        let mut rows = Vec::with_capacity(HEIGHT * (1 + 3 * WIDTH));
        for y in 0..HEIGHT {
            // Each row says how it is filtered: not at all.
            rows.push(0);
            for x in 0..WIDTH {
                let colour = self.at(x as f64 / WIDTH as f64, y as f64 / HEIGHT as f64);
                rows.extend(colour.map(|part| (part.clamp(0.0, 1.0) * 255.0).round() as u8));
            }
        }
        let mut header = Vec::new();
        header.extend((WIDTH as u32).to_be_bytes());
        header.extend((HEIGHT as u32).to_be_bytes());
        // Eight bits for each of three colours; the only compression, the only filter method, no interlace.
        header.extend([8, 2, 0, 0, 0]);
        let mut png = b"\x89PNG\r\n\x1a\n".to_vec();
        for (kind, data) in [(b"IHDR", header), (b"IDAT", stored(&rows)), (b"IEND", Vec::new())] {
            png.extend((data.len() as u32).to_be_bytes());
            let start = png.len();
            png.extend(kind);
            png.extend(data);
            let sum = crc32(png.get(start..).unwrap_or_default());
            png.extend(sum.to_be_bytes());
        }
        png
    }
}

/// `data` in zlib's format (RFC 1950), its blocks stored and not compressed.
fn stored(data: &[u8]) -> Vec<u8> {
    const BLOCK_MAX: usize = 65_535;
    let mut out = vec![0x78, 0x01];
    let blocks = data.len().div_ceil(BLOCK_MAX);
    for (index, block) in data.chunks(BLOCK_MAX).enumerate() {
        let length = block.len() as u16;
        out.push(u8::from(index + 1 == blocks));
        out.extend(length.to_le_bytes());
        out.extend((!length).to_le_bytes());
        out.extend(block);
    }
    let (a, b) = data.iter().fold((1_u32, 0_u32), |(a, b), &byte| {
        let a = (a + u32::from(byte)) % 65_521;
        (a, (b + a) % 65_521)
    });
    out.extend(((b << 16) | a).to_be_bytes());
    out
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |sum, &byte| {
        (0..8).fold(sum ^ u32::from(byte), |sum, _| (sum >> 1) ^ (0xEDB8_8320 & (sum & 1).wrapping_neg()))
    })
}
