/*! The user's configuration: theme and keys, in `$XDG_CONFIG_HOME/edgelesspart/config.ron`. */

use super::error::ConfigError;
use super::theme::Theme;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the file may say.
#[derive(Debug, Clone, PartialEq, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of a theme that ships, or of `<name>.ron` beside the configuration.
    pub theme: Option<String>,
    /// Borders and bars in ASCII.
    pub ascii: bool,
    /// Keys by command, in place of the command's own.
    pub keys: BTreeMap<String, Vec<String>>,
}

/// Where the configuration lies, if the user has a home.
pub fn folder() -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").map(PathBuf::from);
    let config = config.filter(|p| p.is_absolute());
    let home = || std::env::var_os("HOME").map(|h| PathBuf::from(h).join(".config"));
    config.or_else(home).map(|c| c.join("edgelesspart"))
}

/// The configuration of a folder; the default where there is none.
///
/// # Errors
/// Names the file, the place and what was expected.
pub fn read(folder: &Path) -> Result<Config, ConfigError> {
    let file = folder.join("config.ron");
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Config::default()),
        Err(error) => return Err(ConfigError::Read { file, error }),
    };
    let ron =
        ron::Options::default().with_default_extension(ron::extensions::Extensions::IMPLICIT_SOME);
    ron.from_str(&text).map_err(|error| ConfigError::Parse {
        file,
        error: Box::new(error),
    })
}

/// A theme by name: the user's own goes before one that ships.
///
/// # Errors
/// There is none of this name, or its file is wrong.
pub fn theme(name: &str, folder: Option<&Path>) -> Result<Theme, ConfigError> {
    let own = folder.map(|f| f.join(format!("{name}.ron")));
    match own.and_then(|f| std::fs::read_to_string(&f).ok().map(|text| (f, text))) {
        Some((file, text)) => Theme::parse(&text).map_err(|error| ConfigError::Parse {
            file,
            error: Box::new(error),
        }),
        None => Theme::shipped(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_theme_and_keys_and_names_what_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(read(folder.path()).unwrap(), Config::default());
        let file = folder.path().join("config.ron");
        std::fs::write(&file, "(theme: \"mine\", keys: {\"run\": [\"ctrl-e\"]})").unwrap();
        let config = read(folder.path()).unwrap();
        assert_eq!(config.keys["run"], ["ctrl-e"]);
        assert!(theme("mine", Some(folder.path())).is_err());
        std::fs::write(folder.path().join("mine.ron"), "Theme(dim: (bold: true))").unwrap();
        assert!(theme("mine", Some(folder.path())).is_ok());
        std::fs::write(&file, "(tehme: \"x\")").unwrap();
        assert!(
            read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("tehme")
        );
    }
}
