/*! Which key runs which command, by name: the registry's own keys, or the configuration's in their place. */

use super::error::ConfigError;
use super::input::Key;
use std::collections::BTreeMap;

/// Which key runs what.
#[derive(Debug, Clone)]
pub struct Keymap {
    /// Commands and their keys, in the order of the registry.
    keys: Vec<(&'static str, Vec<Key>)>,
}

impl Keymap {
    /// The keys of the commands, with the configuration's in place of a command's own.
    ///
    /// # Errors
    /// Names a command or a key that doesn't exist.
    pub fn new(
        commands: impl Iterator<Item = (&'static str, &'static [&'static str])>,
        own: &BTreeMap<String, Vec<String>>,
    ) -> Result<Keymap, ConfigError> {
        let keys = commands.map(|(name, keys)| {
            let keys: Result<Vec<Key>, ConfigError> = match own.get(name) {
                Some(own) => own.iter().map(|k| k.parse()).collect(),
                None => keys.iter().map(|k| k.parse()).collect(),
            };
            keys.map(|keys| (name, keys))
        });
        let keys = keys.collect::<Result<Vec<(&str, Vec<Key>)>, ConfigError>>()?;
        match own.keys().find(|name| !keys.iter().any(|(n, _)| n == name)) {
            Some(unknown) => Err(ConfigError::Command(unknown.clone())),
            None => Ok(Keymap { keys }),
        }
    }

    /// Keys of a command.
    pub fn of(&self, name: &str) -> &[Key] {
        let found = self.keys.iter().find(|(n, _)| *n == name);
        found.map_or(&[], |(_, keys)| keys)
    }

    /// The first key that runs a command, for a sentence on screen.
    pub fn first(&self, name: &str) -> String {
        self.of(name)
            .first()
            .map_or_else(|| format!(":{name}"), Key::to_string)
    }
}
