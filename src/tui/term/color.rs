/*! How many colours the terminal shows, and the nearest of those it does. */

use ratatui::style::Color;

/// How many colours are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// No colours: bold, dim and reverse alone.
    None,
    /// The terminal's own sixteen.
    Sixteen,
    /// 256 colours by index.
    Indexed,
    /// Colours of 24 bits.
    True,
}

/// What `--color` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// By NO_COLOR, COLORTERM and TERM.
    #[default]
    Auto,
    /// No colours: bold, dim and reverse alone.
    None,
    /// The terminal's own sixteen.
    #[value(name = "16")]
    Sixteen,
    /// 256 colours by index.
    #[value(name = "256")]
    Indexed,
    /// Colours of 24 bits.
    True,
}

impl ColorChoice {
    /// The depth; `variable` looks an environment variable up.
    pub fn depth(self, variable: impl Fn(&str) -> Option<String>) -> Depth {
        let set = |name: &str| variable(name).unwrap_or_default();
        match self {
            ColorChoice::None => Depth::None,
            ColorChoice::Sixteen => Depth::Sixteen,
            ColorChoice::Indexed => Depth::Indexed,
            ColorChoice::True => Depth::True,
            // no-color.org: present and not empty.
            ColorChoice::Auto if !set("NO_COLOR").is_empty() => Depth::None,
            ColorChoice::Auto => match (set("COLORTERM").as_str(), set("TERM").as_str()) {
                ("truecolor" | "24bit", _) => Depth::True,
                (_, "dumb" | "vt100" | "vt220") => Depth::None,
                (_, term) if term.contains("direct") => Depth::True,
                (_, term) if term.contains("256color") => Depth::Indexed,
                _ => Depth::Sixteen,
            },
        }
    }
}

impl Depth {
    /// The nearest colour at this depth.
    pub fn reduce(self, color: Color) -> Color {
        match (self, color) {
            (Depth::None, _) => Color::Reset,
            (Depth::Indexed, Color::Rgb(r, g, b)) => Color::Indexed(to_index(r, g, b)),
            (Depth::Sixteen, Color::Rgb(r, g, b)) => to_sixteen(r, g, b),
            (Depth::Sixteen, Color::Indexed(i)) if i >= 16 => {
                let (r, g, b) = from_index(i);
                to_sixteen(r, g, b)
            }
            (_, other) => other,
        }
    }
}

/// Number in the 6×6×6 cube, or in the ramp of greys where that is nearer.
fn to_index(r: u8, g: u8, b: u8) -> u8 {
    let step = |v: u8| match v {
        0..48 => 0,
        48..115 => 1,
        v => (v - 35) / 40,
    };
    let cube = 16 + 36 * step(r) + 6 * step(g) + step(b);
    let mean = (u16::from(r) + u16::from(g) + u16::from(b)) / 3;
    let grey = 232 + (mean.saturating_sub(3) / 10).min(23) as u8;
    let far = |i: u8| distance((r, g, b), from_index(i));
    if far(grey) < far(cube) { grey } else { cube }
}

fn from_index(index: u8) -> (u8, u8, u8) {
    let level = |v: u8| if v == 0 { 0 } else { 55 + 40 * v };
    match index {
        0..16 => SIXTEEN[index as usize].1,
        16..232 => {
            let i = index - 16;
            (level(i / 36), level(i / 6 % 6), level(i % 6))
        }
        grey => (
            8 + 10 * (grey - 232),
            8 + 10 * (grey - 232),
            8 + 10 * (grey - 232),
        ),
    }
}

fn distance(a: (u8, u8, u8), b: (u8, u8, u8)) -> u32 {
    let square = |x: u8, y: u8| u32::from(x.abs_diff(y)).pow(2);
    square(a.0, b.0) + square(a.1, b.1) + square(a.2, b.2)
}

const SIXTEEN: [(Color, (u8, u8, u8)); 16] = [
    (Color::Black, (0, 0, 0)),
    (Color::Red, (205, 49, 49)),
    (Color::Green, (13, 188, 121)),
    (Color::Yellow, (200, 180, 60)),
    (Color::Blue, (60, 110, 210)),
    (Color::Magenta, (188, 63, 188)),
    (Color::Cyan, (17, 168, 205)),
    (Color::Gray, (205, 205, 205)),
    (Color::DarkGray, (102, 102, 102)),
    (Color::LightRed, (241, 76, 76)),
    (Color::LightGreen, (35, 209, 139)),
    (Color::LightYellow, (245, 245, 67)),
    (Color::LightBlue, (59, 142, 234)),
    (Color::LightMagenta, (214, 112, 214)),
    (Color::LightCyan, (41, 184, 219)),
    (Color::White, (255, 255, 255)),
];

fn to_sixteen(r: u8, g: u8, b: u8) -> Color {
    let nearest = SIXTEEN
        .iter()
        .min_by_key(|(_, rgb)| distance((r, g, b), *rgb));
    nearest.map_or(Color::Reset, |(color, _)| *color)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&[("NO_COLOR", "1"), ("COLORTERM", "truecolor")], Depth::None)]
    #[case(&[("NO_COLOR", ""), ("COLORTERM", "truecolor")], Depth::True)]
    #[case(&[("TERM", "tmux-256color")], Depth::Indexed)]
    #[case(&[("TERM", "xterm")], Depth::Sixteen)]
    #[case(&[("TERM", "dumb")], Depth::None)]
    #[case(&[], Depth::Sixteen)]
    fn auto_reads_the_environment(#[case] set: &[(&str, &str)], #[case] depth: Depth) {
        let look = |name: &str| {
            let found = set.iter().find(|(n, _)| *n == name);
            found.map(|(_, v)| v.to_string())
        };
        assert_eq!(ColorChoice::Auto.depth(look), depth);
        assert_eq!(ColorChoice::True.depth(look), Depth::True);
    }

    #[test]
    fn reduces_to_the_nearest() {
        assert_eq!(
            Depth::Indexed.reduce(Color::Rgb(255, 0, 0)),
            Color::Indexed(196)
        );
        assert_eq!(
            Depth::Indexed.reduce(Color::Rgb(128, 128, 128)),
            Color::Indexed(244)
        );
        assert_eq!(
            Depth::Sixteen.reduce(Color::Rgb(250, 250, 250)),
            Color::White
        );
        assert_eq!(Depth::Sixteen.reduce(Color::Indexed(196)), Color::Red);
        assert_eq!(Depth::None.reduce(Color::Red), Color::Reset);
    }
}
