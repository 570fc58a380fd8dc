/*!
What the palette takes with an argument, as `threshold 0.9`: every setting of the catalog by its name, and
commands that would ask for a text. Beside each, the command line that does the same.
*/

#[cfg(test)]
use super::COMMANDS;
use super::{Command, search};
use crate::plan::SplitRule;
use crate::session::catalog::{SETTINGS, Setting};
use crate::tui::error::AnswerError;
use crate::tui::message::{Effect, Source};
use crate::tui::state::State;
use crate::tui::state::overlay::Prompt;
use crate::tui::theme;

/// What an argument is of.
#[derive(Debug, Clone, Copy)]
pub enum Takes {
    Setting(&'static Setting),
    /// The share of memory before the split in hand.
    Memory,
    /// The share of layers before the split in hand.
    Layers,
    /// The layer before the split in hand.
    After,
    Open,
    Theme,
    /// What a command asks for.
    Prompt(Prompt),
}

/// Words that take an argument, besides the settings; what the argument is, and what comes of it.
const SPOKEN: &[(&str, Takes, &str, &str)] = &[
    (
        "memory",
        Takes::Memory,
        "0 to 1",
        "split by the share of memory before it",
    ),
    (
        "layers",
        Takes::Layers,
        "0 to 1",
        "split by the share of layers before it",
    ),
    ("after", Takes::After, "a layer", "split behind a layer"),
    ("open", Takes::Open, "a file", "open a session"),
    ("theme", Takes::Theme, "a name", "take a theme"),
    (
        "save-as",
        Takes::Prompt(Prompt::SaveAs),
        "a file",
        "save the session there",
    ),
    (
        "export",
        Takes::Prompt(Prompt::Export),
        "a file",
        "write the layer table, .csv or .json",
    ),
    (
        "filter",
        Takes::Prompt(Prompt::Filter),
        "a word",
        "show only layers with it",
    ),
    (
        "cheapest",
        Takes::Prompt(Prompt::Accuracy),
        "percent",
        "the cheapest threshold with this accuracy",
    ),
    (
        "most-accurate",
        Takes::Prompt(Prompt::Latency),
        "ms",
        "the most accurate threshold within this time",
    ),
    (
        "limit-accuracy",
        Takes::Prompt(Prompt::LimitAccuracy),
        "percent",
        "only plans with this accuracy",
    ),
    (
        "limit-latency",
        Takes::Prompt(Prompt::LimitLatency),
        "ms",
        "only plans within this mean time",
    ),
    (
        "limit-memory",
        Takes::Prompt(Prompt::LimitMemory),
        "MB",
        "only plans within this edge memory",
    ),
    (
        "limit-cost",
        Takes::Prompt(Prompt::LimitCost),
        "US$",
        "only plans with this bill per million",
    ),
    (
        "limit-energy",
        Takes::Prompt(Prompt::LimitEnergy),
        "mJ",
        "only plans within this energy per inference",
    ),
];

/// What a row of the palette does.
#[derive(Debug, Clone)]
pub enum Entry {
    Command(&'static Command),
    /// A word that takes an argument, still to be typed, and what comes of it.
    Word(String, &'static str),
    /// A word with its argument.
    Said(Takes, String),
}

/// The word at the beginning of a line and what follows, where the word takes an argument.
pub fn parse(line: &str) -> Option<(Takes, &str)> {
    let (word, argument) = line.trim_start().split_once(' ')?;
    let own = SPOKEN.iter().find(|(name, ..)| *name == word);
    let takes = match own {
        Some((_, takes, ..)) => *takes,
        None => Takes::Setting(Setting::find(word).ok()?),
    };
    Some((takes, argument.trim()))
}

/// The rows of the palette for what is typed: a word with its argument, then what a search finds. A search
/// of two words may begin with one that takes an argument, as `threshold down`, and then comes first.
pub fn entries(state: &State, line: &str) -> Vec<Entry> {
    let found = found(state, line);
    let Some((takes, argument)) = parse(line) else {
        return found;
    };
    let fits = |text: &String| {
        text.len() > argument.len() && text.to_lowercase().starts_with(&argument.to_lowercase())
    };
    let typed = (!argument.is_empty()).then(|| argument.to_owned());
    let more = takes.completions(state, argument).into_iter().filter(fits);
    let more: Vec<String> = more.collect();
    // Where a value was begun, Enter must do nothing else than say what is wrong with it.
    let meant = !more.is_empty()
        || !argument.starts_with(char::is_alphabetic)
        || takes.holds(state, argument);
    let said = typed.into_iter().chain(more);
    let said = said.map(|text| Entry::Said(takes, text));
    if meant {
        said.chain(found).collect()
    } else {
        found.into_iter().chain(said).collect()
    }
}

/// What a search for all words finds: commands, words that take an argument, settings.
fn found(state: &State, line: &str) -> Vec<Entry> {
    let words = line.trim().to_lowercase();
    let mut all: Vec<Entry> = search(state, line)
        .into_iter()
        .map(Entry::Command)
        .collect();
    if words.is_empty() {
        return all;
    }
    let fits = |name: &str, help: &str| {
        let text = format!("{name} {help}").to_lowercase();
        words.split_whitespace().all(|w| text.contains(w))
    };
    let spoken = SPOKEN.iter().filter(|(name, _, _, help)| fits(name, help));
    all.extend(spoken.map(|(name, _, _, help)| Entry::Word((*name).into(), help)));
    let settings = SETTINGS.iter().filter(|s| fits(s.path, s.help));
    all.extend(settings.map(|s| Entry::Word(s.path.into(), s.help)));
    // What begins with the word is meant more often, and a command before a word with an argument.
    let begins = |entry: &Entry| {
        let name = entry.name();
        let last = name.rsplit('.').next().unwrap_or(&name);
        !name.starts_with(&words) && !last.starts_with(&words)
    };
    all.sort_by_key(begins);
    all
}

impl Entry {
    fn name(&self) -> String {
        match self {
            Entry::Command(command) => command.name.to_owned(),
            Entry::Word(name, ..) => name.clone(),
            Entry::Said(takes, argument) => format!("{} {argument}", takes.name()),
        }
    }

    /// The line that typing it gives.
    pub fn line(&self) -> String {
        match self {
            Entry::Word(name, ..) => format!("{name} "),
            other => other.name(),
        }
    }

    /// The command line that does the same; absent where there is none.
    pub fn command_line(&self, state: &State) -> Option<String> {
        let document = &state.document;
        let file = document.file.as_ref().map(|f| f.display().to_string());
        match self {
            Entry::Command(command) => {
                let (_, verb) = SAME.iter().find(|(name, _)| *name == command.name)?;
                state.shell([*verb].into_iter().map(str::to_owned).chain(file), None)
            }
            Entry::Word(..) => None,
            Entry::Said(Takes::Open, path) => shlex::try_join(["edgelesspart", path.as_str()]).ok(),
            Entry::Said(Takes::Theme | Takes::Prompt(_), _) => None,
            Entry::Said(takes, argument) => {
                let path = match takes {
                    Takes::Setting(setting) => setting.path,
                    _ => "splits",
                };
                let next = takes.change(state, argument).ok()?;
                let verb = std::iter::once("run".to_owned());
                let setting = Setting::find(path).ok()?;
                state.shell(verb.chain(file), Some((setting, &next)))
            }
        }
    }
}

/// Commands of the workbench, and the program's that do the same.
const SAME: &[(&str, &str)] = &[
    ("run", "run"),
    ("plan", "plan"),
    ("threshold", "sweep"),
    ("explore", "explore"),
    ("playback", "playback"),
];

impl State {
    /// A command line, with what was edited since the file was saved as `--set`; none where the tiers
    /// were, for which there is no flag.
    fn shell(
        &self,
        words: impl Iterator<Item = String>,
        more: Option<(&'static Setting, &crate::session::Session)>,
    ) -> Option<String> {
        let (now, saved) = (&self.document.session, self.document.as_saved());
        if now.tiers != saved.tiers {
            return None;
        }
        let mut line: Vec<String> = std::iter::once("edgelesspart".to_owned())
            .chain(words)
            .collect();
        for setting in SETTINGS {
            let next = more.filter(|(own, _)| own.path == setting.path);
            let text = setting.text(next.map_or(now, |(_, next)| next));
            if text != setting.text(saved) {
                line.extend(["--set".into(), format!("{}={text}", setting.path)]);
            }
        }
        shlex::try_join(line.iter().map(String::as_str)).ok()
    }

    /// Does what a word and its argument say.
    ///
    /// # Errors
    /// What is wrong with the argument.
    pub fn say_with(&mut self, takes: Takes, argument: &str) -> Result<Vec<Effect>, AnswerError> {
        match takes {
            Takes::Setting(_) | Takes::Memory | Takes::Layers | Takes::After => {
                let next = takes.change(self, argument)?;
                Ok(self.take_session(next))
            }
            Takes::Open => Ok(self.ask_open(Source::File(argument.into()))),
            Takes::Theme => {
                self.theme = theme::Theme::shipped(argument)
                    .map_err(|e| AnswerError::Theme(e.to_string()))?;
                self.theme_name = argument.to_owned();
                Ok(Vec::new())
            }
            Takes::Prompt(Prompt::Filter) => {
                self.layers.filter = argument.to_owned();
                Ok(Vec::new())
            }
            Takes::Prompt(kind) => self.answer(kind, argument),
        }
    }
}

impl Takes {
    fn name(self) -> &'static str {
        if let Takes::Setting(setting) = self {
            return setting.path;
        }
        let same = |(_, takes, ..): &&(&str, Takes, &str, &str)| match (takes, self) {
            (Takes::Prompt(one), Takes::Prompt(other)) => *one == other,
            (one, other) => std::mem::discriminant(one) == std::mem::discriminant(&other),
        };
        SPOKEN.iter().find(same).map_or("", |(name, ..)| name)
    }

    /// Whether the argument is a file's path.
    pub fn is_path(self) -> bool {
        matches!(
            self,
            Takes::Open | Takes::Prompt(Prompt::SaveAs | Prompt::Export)
        )
    }

    /// What the argument may be, and what it is now.
    pub fn words(self, state: &State) -> String {
        match self {
            Takes::Setting(setting) => {
                let now = setting.text(&state.document.session);
                format!(
                    "{}; now {now}, usually {}",
                    setting.values(),
                    setting.usual_in(&state.document.session)
                )
            }
            _ => {
                let own = SPOKEN.iter().find(|(name, ..)| *name == self.name());
                own.map_or(String::new(), |(_, _, what, help)| {
                    format!("{what}: {help}")
                })
            }
        }
    }

    fn completions(self, state: &State, argument: &str) -> Vec<String> {
        match self {
            Takes::Setting(setting) => setting.choices().into_iter().map(str::to_owned).collect(),
            Takes::After => {
                let layers = state.network.iter().flat_map(|n| &n.table.layers);
                layers
                    .filter(|l| l.split_legal)
                    .map(|l| l.name.clone())
                    .collect()
            }
            Takes::Theme => theme::names().map(str::to_owned).collect(),
            _ if self.is_path() => state.paths(argument),
            _ => Vec::new(),
        }
    }

    /// Whether the argument can be taken, as far as is known before.
    fn holds(self, state: &State, argument: &str) -> bool {
        match self {
            Takes::Setting(_) | Takes::Memory | Takes::Layers => {
                self.change(state, argument).is_ok()
            }
            Takes::After | Takes::Theme => {
                let all = self.completions(state, argument);
                all.iter().any(|name| name == argument)
            }
            Takes::Open | Takes::Prompt(_) => true,
        }
    }

    /// The session with the argument in it.
    fn change(self, state: &State, argument: &str) -> Result<crate::session::Session, AnswerError> {
        let session = &state.document.session;
        let share = || {
            let number = argument.parse::<f64>().ok();
            let number = number.filter(|n| (0.0..=1.0).contains(n));
            number.ok_or_else(|| AnswerError::Share(argument.to_owned()))
        };
        let rule = match self {
            Takes::Setting(setting) => return Ok(setting.change(session, argument)?),
            Takes::Memory => SplitRule::Memory { share: share()? },
            Takes::Layers => SplitRule::Layers { share: share()? },
            _ => SplitRule::After(argument.to_owned()),
        };
        let mut next = session.clone();
        next.set_split(state.split_in_hand(), rule);
        Ok(next)
    }
}

/// Whether a name of a command is one of the registry's; for the tests of these lists.
#[cfg(test)]
fn is_command(name: &str) -> bool {
    COMMANDS.iter().any(|command| command.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_name_what_there_is() {
        assert!(SAME.iter().all(|(name, _)| is_command(name)));
        for (name, takes, ..) in SPOKEN {
            assert_eq!(takes.name(), *name);
            assert!(Setting::find(name).is_err(), "{name} is a setting too");
        }
    }
}
