//! What fills the demo's vault: a few documents, pictures that open in any viewer, and one long sound file.

use std::borrow::Cow;
use std::io::{self, Write};

use super::picture::Scene;

/// The vault's name on the server.
pub const VAULT: &str = "Vault";
/// A plain file beside the vault, and what it says.
pub const PLAIN: (&str, &str) = (
    "Not in the vault.txt",
    "This file lies beside the vault. The server can read it, and so can anybody who can read the server.\n",
);
/// Directories in the vault.
pub const DIRECTORIES: [&str; 3] = ["Documents", "Pictures", "Recordings"];
/// The sound file's name in the vault.
pub const RECORDING: &str = "Recordings/Pond at dusk.wav";
/// Its length, bytes.
pub const RECORDING_LEN: u64 = 64 * 1024 * 1024;

/// The small files, by their names in the vault.
#[must_use]
pub fn small_files() -> Vec<(&'static str, Cow<'static, [u8]>)> {
    let scene = |sky, glow, sun| Scene { sky, glow, sun }.png().into();
    vec![
        ("Documents/Letter.txt", LETTER.as_bytes().into()),
        ("Documents/Minutes.md", MINUTES.as_bytes().into()),
        ("Documents/Budget.csv", BUDGET.as_bytes().into()),
        ("Pictures/Morning.png", scene([0.35, 0.55, 0.85], [0.95, 0.85, 0.75], 0.45)),
        ("Pictures/Noon.png", scene([0.2, 0.5, 0.95], [0.7, 0.85, 1.0], 0.15)),
        ("Pictures/Dusk.png", scene([0.15, 0.1, 0.35], [1.0, 0.5, 0.25], 0.55)),
    ]
}

const LETTER: &str = "Dear Bob,\n\nthe contract is in the usual place. You will need your key and your code to get there,\n\
    and the vault's password to read it.\n\nYours,\nAlice\n";

const MINUTES: &str = "# Minutes\n\n- The files stay at headquarters.\n- Nobody carries copies on a laptop.\n\
    - Whoever is on the road mounts the vault.\n";

const BUDGET: &str = "item,amount\nbread,12.50\nboat,4800.00\nbinoculars,310.00\n";

/// Samples a second and channel.
const RATE: u32 = 44_100;
/// Bytes of all channels' samples at one moment: two of 16 bits.
const FRAME_LEN: u32 = 4;
/// Length of the part in front of the samples, bytes.
const HEADER_LEN: u32 = 44;

/// Writes the sound file (RIFF WAVE, 16 bits, stereo), going on as long as `go_on` says so between two seconds of
/// sound.
///
/// # Errors
///
/// What `out` says; [`io::ErrorKind::Interrupted`] if it was not to go on.
pub fn write_recording(mut out: impl Write, go_on: impl Fn() -> bool) -> io::Result<()> {
    let samples_len = u32::try_from(RECORDING_LEN).unwrap_or(u32::MAX) - HEADER_LEN;
    let mut header = Vec::new();
    header.extend(b"RIFF");
    header.extend((samples_len + HEADER_LEN - 8).to_le_bytes());
    header.extend(b"WAVEfmt ");
    header.extend(16_u32.to_le_bytes());
    // Uncompressed, two channels.
    header.extend([1, 0, 2, 0]);
    header.extend(RATE.to_le_bytes());
    header.extend((RATE * FRAME_LEN).to_le_bytes());
    header.extend([FRAME_LEN as u8, 0, 16, 0]);
    header.extend(b"data");
    header.extend(samples_len.to_le_bytes());
    out.write_all(&header)?;
    let second = second_of_sound();
    let mut left = samples_len as usize;
    while left > 0 {
        if !go_on() {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let part = second.get(..left).unwrap_or(&second);
        out.write_all(part)?;
        left -= part.len();
    }
    out.flush()
}

/// A frog's two croaks, softer on the right.
fn second_of_sound() -> Vec<u8> {
    let mut sound = Vec::with_capacity((RATE * FRAME_LEN) as usize);
    for frame in 0..RATE {
        let time = f64::from(frame) / f64::from(RATE);
        let croak = (time * 2.0).fract();
        let loudness = if croak < 0.4 { (croak / 0.4 * std::f64::consts::PI).sin() } else { 0.0 };
        let wave = (time * std::f64::consts::TAU * 110.0).sin() * (time * std::f64::consts::TAU * 22.0).sin();
        for side in [0.3, 0.2] {
            let sample = (wave * loudness * side * f64::from(i16::MAX)) as i16;
            sound.extend(sample.to_le_bytes());
        }
    }
    sound
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn the_recording_has_the_length_that_its_header_says() {
        let mut sound = Vec::new();
        write_recording(&mut sound, || true).unwrap();
        assert_eq!(sound.len() as u64, RECORDING_LEN);
        assert_eq!(u32::from_le_bytes(sound[4..8].try_into().unwrap()) as usize + 8, sound.len());
        assert_eq!(u32::from_le_bytes(sound[40..44].try_into().unwrap()) as usize + 44, sound.len());
    }
}
