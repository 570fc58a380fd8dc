/*! The samples that a report shows, as pictures of half blocks, where the terminal has colours. */

use crate::report::Report;
use crate::report::evidence::{Group, Picture, ShownSample};
use anyhow::Context;
use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};

/// Columns of a picture; two pixels stand in a row of text.
const SIDE: u32 = 16;
/// Pictures beside each other in 80 columns.
const ACROSS: usize = 4;

/// Shows the first of each group, if standard output is a terminal with colours.
pub fn show(report: &Report) -> anyhow::Result<()> {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|set| !set.is_empty())
        || std::env::var_os("TERM").is_none_or(|term| term == "dumb");
    let Some(evidence) = &report.evidence else {
        return Ok(());
    };
    if plain || !io::stdout().is_terminal() {
        return Ok(());
    }
    let exact = std::env::var("COLORTERM").is_ok_and(|c| c == "truecolor" || c == "24bit");
    let text = drawn(&evidence.samples, exact);
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the pictures"),
    }
}

/// Rows of pictures, each with its caption above.
fn drawn(samples: &[ShownSample], exact: bool) -> String {
    let mut out = String::new();
    for (group, title) in [
        (Group::Early, "left at the first exit"),
        (Group::Late, "went to the final classifier"),
        (Group::Wrong, "answered wrongly"),
    ] {
        let of = samples.iter().filter(|s| s.group == group);
        let shown: Vec<(&ShownSample, &Picture)> = of
            .filter_map(|s| Some((s, s.picture.as_ref()?)))
            .take(ACROSS)
            .collect();
        if shown.is_empty() {
            continue;
        }
        // Writing to a string can't fail.
        let _ = writeln!(out, "{title}");
        for (sample, _) in &shown {
            let text = format!("{} {}", sample.sample, sample.prediction);
            let text: String = text.chars().take(SIDE as usize).collect();
            let _ = write!(out, "{text:<width$}  ", width = SIDE as usize);
        }
        out.push('\n');
        for row in 0..SIDE / 2 {
            for (_, picture) in &shown {
                for column in 0..SIDE {
                    let (above, below) = (
                        at(picture, column, 2 * row),
                        at(picture, column, 2 * row + 1),
                    );
                    let _ = write!(
                        out,
                        "{}{}▀",
                        colour(38, above, exact),
                        colour(48, below, exact)
                    );
                }
                out.push_str("\x1b[0m  ");
            }
            out.push('\n');
        }
    }
    out
}

/// The pixel of a picture that stands at a place of a square of [`SIDE`].
fn at(picture: &Picture, x: u32, y: u32) -> [u8; 3] {
    let (x, y) = (x * picture.width / SIDE, y * picture.height / SIDE);
    let first = 3 * (y * picture.width + x) as usize;
    let pixel = picture.rgb.get(first..first + 3);
    pixel.map_or([0; 3], |rgb| [rgb[0], rgb[1], rgb[2]])
}

/// The escape sequence of a colour, of text (38) or ground (48); of the 256 where it can't be exact.
fn colour(what: u8, [r, g, b]: [u8; 3], exact: bool) -> String {
    if exact {
        return format!("\x1b[{what};2;{r};{g};{b}m");
    }
    let step = |c: u8| (u16::from(c) * 5 + 127) / 255;
    format!(
        "\x1b[{what};5;{}m",
        16 + 36 * step(r) + 6 * step(g) + step(b)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_drawn_with_its_colours() {
        let picture = Picture {
            width: 1,
            height: 2,
            rgb: vec![255, 0, 0, 0, 0, 255],
        };
        let sample = ShownSample {
            group: Group::Wrong,
            sample: 7,
            label: "cat".into(),
            prediction: "dog".into(),
            after: None,
            confidence: 0.9,
            latency_ms: None,
            picture: Some(picture),
        };
        let text = drawn(&[sample], true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!((lines.len(), lines[0]), (10, "answered wrongly"));
        assert!(lines[1].starts_with("7 dog"));
        let (red, blue) = (
            "\x1b[38;2;255;0;0m\x1b[48;2;255;0;0m▀",
            "\x1b[38;2;0;0;255m\x1b[48;2;0;0;255m▀",
        );
        assert!(
            lines[2].starts_with(red) && lines[9].starts_with(blue),
            "{text:?}"
        );
        assert_eq!(colour(38, [255, 128, 0], false), "\x1b[38;5;214m");
    }
}
