/*!
Themes: what each role on the screen looks like. A theme is a RON file; those that ship are embedded,
others come from the configuration folder. A role that a theme leaves out looks like plain text, and
no meaning is in colour alone: marks, letters and attributes say the same.
*/

use super::error::ConfigError;
use crate::plan::Tier;
use ratatui::style::{Color, Modifier, Style};
use ron::error::SpannedError;
use serde::Deserialize;

/// Foreground, background and attributes of a role, as the file writes them.
#[derive(Debug, Clone, Copy, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Paint {
    fg: Option<Color>,
    bg: Option<Color>,
    bold: bool,
    dim: bool,
    italic: bool,
    underline: bool,
    reverse: bool,
}

impl Paint {
    /// As ratatui takes it.
    pub fn style(self) -> Style {
        let mut style = Style::new();
        style.fg = self.fg;
        style.bg = self.bg;
        for (on, modifier) in [
            (self.bold, Modifier::BOLD),
            (self.dim, Modifier::DIM),
            (self.italic, Modifier::ITALIC),
            (self.underline, Modifier::UNDERLINED),
            (self.reverse, Modifier::REVERSED),
        ] {
            if on {
                style = style.add_modifier(modifier);
            }
        }
        style
    }
}

macro_rules! roles {
    ($($role:ident),* $(,)?) => {
        #[derive(Debug, Clone, PartialEq, Default, Deserialize)]
        #[serde(default, deny_unknown_fields, rename = "Theme")]
        struct Roles { $($role: Paint),* }

        /// The style of every role.
        #[derive(Debug, Clone, PartialEq)]
        pub struct Theme { $(pub $role: Style),* }

        impl From<Roles> for Theme {
            fn from(roles: Roles) -> Theme {
                Theme { $($role: roles.$role.style()),* }
            }
        }
    };
}

roles! {
    // Everything that has no role of its own; its background fills the screen.
    text, dim, title, border, focus, selected, key,
    // What belongs to a side, and what stands on the network.
    edge, middle, cloud, memory, split, exit,
    // Where numbers come from.
    measured, predicted, curve, point,
    good, warning, error,
    // Source text of an exit classifier.
    layer, number, template, comment, cursor,
}

const SHIPPED: [(&str, &str); 6] = [
    ("default", include_str!("../../themes/default.ron")),
    ("dark", include_str!("../../themes/dark.ron")),
    ("light", include_str!("../../themes/light.ron")),
    (
        "high-contrast",
        include_str!("../../themes/high-contrast.ron"),
    ),
    (
        "colour-blind",
        include_str!("../../themes/colour-blind.ron"),
    ),
    ("mono", include_str!("../../themes/mono.ron")),
];

/// The names of the themes that ship.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

impl Theme {
    /// How a tier of a chain of `count` is shown: the first, the last, and those between them.
    pub fn tier(&self, tier: Tier, count: usize) -> Style {
        if tier == Tier::First {
            self.edge
        } else if tier.index() + 1 < count {
            self.middle
        } else {
            self.cloud
        }
    }

    /// A theme that ships.
    ///
    /// # Errors
    /// Names the ones there are.
    pub fn shipped(name: &str) -> Result<Theme, ConfigError> {
        let found = SHIPPED.iter().find(|(n, _)| *n == name);
        let Some((_, text)) = found else {
            return Err(ConfigError::Theme {
                name: name.to_owned(),
                known: names().collect(),
            });
        };
        Theme::parse(text).map_err(|error| ConfigError::Shipped(Box::new(error)))
    }

    /// A theme from the text of its file.
    ///
    /// # Errors
    /// Line and column, and what was expected.
    pub fn parse(text: &str) -> Result<Theme, SpannedError> {
        let ron = ron::Options::default()
            .with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
        let roles: Roles = ron.from_str(text)?;
        Ok(roles.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shipped_themes_parse_and_mono_has_no_colour() {
        for name in names() {
            let theme = Theme::shipped(name).unwrap();
            assert_ne!(theme.selected, theme.text, "{name}");
            assert_ne!(theme.focus, theme.border, "{name}");
        }
        let mono = Theme::shipped("mono").unwrap();
        for style in [mono.edge, mono.cloud, mono.error, mono.selected, mono.text] {
            assert_eq!((style.fg, style.bg), (None, None));
        }
    }

    #[test]
    fn the_default_theme_stays_on_the_terminals_own_background() {
        let theme = Theme::shipped("default").unwrap();
        assert_eq!(theme.text, Style::new());
        for style in [theme.edge, theme.cloud, theme.error, theme.dim] {
            assert_eq!(style.bg, None);
            assert!(!matches!(
                style.fg,
                Some(Color::Rgb(..) | Color::Indexed(_))
            ));
        }
    }

    #[test]
    fn errors_say_what_there_is() {
        let refused = Theme::shipped("pink").unwrap_err();
        assert!(refused.to_string().contains("colour-blind"));
        assert!(
            Theme::parse("Theme(txet: (bold: true))")
                .unwrap_err()
                .to_string()
                .contains("txet")
        );
    }
}
