/*! Which key runs which command: the registry's own, or the configuration's in their place. */

use super::{COMMANDS, Command, Place, places};
use crate::tui::input::Key;
use crate::tui::state::State;
use std::collections::BTreeMap;

/// Which key runs what.
#[derive(Debug, Clone)]
pub struct Keymap {
    /// In the order of [`COMMANDS`].
    keys: Vec<Vec<Key>>,
}

impl Keymap {
    /// The keys of the registry, with the configuration's in place of a command's own.
    ///
    /// # Errors
    /// Names a command or a key that doesn't exist.
    pub fn new(own: &BTreeMap<String, Vec<String>>) -> Result<Keymap, String> {
        for name in own.keys() {
            if !COMMANDS.iter().any(|c| c.name == name) {
                return Err(format!(
                    "keys: there is no command `{name}`; `:` lists them"
                ));
            }
        }
        let keys = COMMANDS.iter().map(|command| match own.get(command.name) {
            Some(keys) => keys.iter().map(|k| k.parse()).collect(),
            None => command.keys.iter().map(|k| k.parse()).collect(),
        });
        let keys = keys.collect::<Result<Vec<Vec<Key>>, String>>()?;
        Ok(Keymap { keys })
    }

    /// What a key means here and now.
    pub fn find(&self, key: Key, state: &State) -> Option<&'static Command> {
        self.find_in(key, places(state).into_iter().flatten())
    }

    fn find_in(&self, key: Key, places: impl Iterator<Item = Place>) -> Option<&'static Command> {
        let mut places = places;
        places.find_map(|place| {
            let mut all = COMMANDS.iter().zip(&self.keys);
            all.find(|(c, keys)| c.place == place && keys.contains(&key))
                .map(|(c, _)| c)
        })
    }

    /// A command's keys.
    pub fn of(&self, name: &str) -> &[Key] {
        let at = COMMANDS.iter().position(|c| c.name == name);
        at.map_or(&[], |i| &self.keys[i])
    }

    /// The first key that runs a command, for a sentence on screen.
    pub fn first(&self, name: &str) -> String {
        self.of(name)
            .first()
            .map_or_else(|| format!(":{name}"), Key::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tui::state::Panel;

    #[test]
    fn the_configuration_replaces_keys_and_is_checked() {
        let own =
            |name: &str, key: &str| BTreeMap::from([(name.to_string(), vec![key.to_string()])]);
        let map = Keymap::new(&own("split-here", "ctrl-x")).unwrap();
        let find = |key: &str| {
            let places = [Place::In(Panel::Layers), Place::Any];
            map.find_in(key.parse().unwrap(), places.into_iter())
                .map(|c| c.name)
        };
        assert_eq!(find("ctrl-x"), Some("split-here"));
        assert_eq!(find("s"), None);
        assert_eq!(find("?"), Some("help"));
        assert!(Keymap::new(&own("splt", "x")).unwrap_err().contains("splt"));
        assert!(
            Keymap::new(&own("split-here", "hyper-x"))
                .unwrap_err()
                .contains("hyper-x")
        );
    }
}
