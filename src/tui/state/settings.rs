/*!
The session's page: its settings and tiers as rows that are edited, targets tested. What a setting may be
is the catalog's to say; here is only which row is looked at, and what is typed.
*/

use super::State;
use super::document::EditKind;
use super::overlay::Overlay;
use super::typed::Typed;
use crate::event::TargetId;
use crate::plan::Tier;
use crate::session::catalog::{SETTINGS, Setting, SettingError, TARGET_FORMS};
use crate::session::{Session, Target};
use crate::tui::message::{Effect, Tested};
use std::collections::BTreeMap;

/// A row of the page.
#[derive(Debug, Clone, Copy)]
pub enum Row {
    Setting(&'static Setting),
    /// A tier's name.
    Tier(Tier),
    /// A target of a tier, by its number there.
    Target(Tier, usize),
}

/// What a typed value is of.
#[derive(Debug, Clone, Copy)]
pub enum Edited {
    Row(Row),
    /// A target more in this tier.
    NewTarget(Tier),
    /// A tier more at the end, with this its first target.
    NewTier,
}

/// A value while it is typed.
#[derive(Debug, Clone)]
pub struct ValueForm {
    pub of: Edited,
    pub input: Typed,
    pub error: Option<String>,
}

impl PartialEq for ValueForm {
    fn eq(&self, other: &ValueForm) -> bool {
        self.of.title() == other.of.title()
            && (&self.input, &self.error) == (&other.input, &other.error)
    }
}

/// Where the page stands, and what tests of targets have said.
#[derive(Debug, Default)]
pub struct SettingsPage {
    pub selected: usize,
    pub tested: BTreeMap<TargetId, Tested>,
    /// Tests that go on, numbered, so that the word of a stopped one isn't taken for the next one's.
    pub test: u64,
    pub testing: bool,
}

impl Row {
    /// All rows, in the order of the file.
    pub fn all(session: &Session) -> Vec<Row> {
        let (before, after): (Vec<&Setting>, Vec<&Setting>) = {
            let at = SETTINGS.iter().position(|s| s.path == "train_on");
            let (before, after) = SETTINGS.split_at(at.unwrap_or(SETTINGS.len()));
            (before.iter().collect(), after.iter().collect())
        };
        let mut rows: Vec<Row> = before.into_iter().map(Row::Setting).collect();
        for tier in session.chain() {
            rows.push(Row::Tier(tier));
            let targets = session.targets(tier).len();
            rows.extend((0..targets).map(|at| Row::Target(tier, at)));
        }
        rows.extend(after.into_iter().map(Row::Setting));
        rows
    }

    /// The setting's fields, as the file has them.
    pub fn path(self) -> String {
        match self {
            Row::Setting(setting) => setting.path.to_owned(),
            Row::Tier(tier) => format!("tiers[{}].name", tier.index()),
            Row::Target(tier, at) => format!("tiers[{}].targets[{at}]", tier.index()),
        }
    }

    /// Its value, as the file has it to the letter; a tier's name without its quotes.
    pub fn text(self, session: &Session) -> String {
        match self {
            Row::Setting(setting) => setting.text(session),
            Row::Tier(tier) => session.tier_names().name(tier).to_owned(),
            Row::Target(tier, at) => session
                .targets(tier)
                .get(at)
                .map_or(String::new(), Target::text),
        }
    }

    /// Its value where a file leaves it out; none where it must have it.
    pub fn usual(self, session: &Session) -> Option<String> {
        match self {
            Row::Setting(setting) if !setting.is_required() => Some(setting.usual_in(session)),
            _ => None,
        }
    }

    pub fn help(self) -> &'static str {
        match self {
            Row::Setting(setting) => setting.help,
            Row::Tier(_) => "What the tier is called on screen and in reports",
            Row::Target(..) => "A device that runs the tier's part; several share the samples",
        }
    }

    /// What it may be.
    pub fn allowed(self) -> String {
        match self {
            Row::Setting(setting) => setting.values(),
            Row::Tier(_) => "a word of letters, digits and `-`".into(),
            Row::Target(..) => TARGET_FORMS.into(),
        }
    }

    fn tier(self) -> Option<Tier> {
        match self {
            Row::Setting(_) => None,
            Row::Tier(tier) | Row::Target(tier, _) => Some(tier),
        }
    }
}

impl Edited {
    pub fn title(self) -> String {
        match self {
            Edited::Row(row) => row.path(),
            Edited::NewTarget(tier) => format!("a target more in tiers[{}]", tier.index()),
            Edited::NewTier => "the first target of a tier more".into(),
        }
    }

    pub fn help(self) -> &'static str {
        match self {
            Edited::Row(row) => row.help(),
            Edited::NewTarget(tier) => Row::Target(tier, 0).help(),
            Edited::NewTier => {
                "A tier at the end of the chain; its link is measured, and the splits are spread again"
            }
        }
    }

    pub fn allowed(self) -> String {
        match self {
            Edited::Row(row) => row.allowed(),
            Edited::NewTarget(_) | Edited::NewTier => TARGET_FORMS.into(),
        }
    }

    fn change(self, session: &Session, text: &str) -> Result<Session, SettingError> {
        match self {
            Edited::Row(Row::Setting(setting)) => setting.change(session, text),
            Edited::Row(Row::Tier(tier)) => session.with_tier_name(tier, text),
            Edited::Row(Row::Target(tier, at)) => session.with_target(tier, Some(at), text),
            Edited::NewTarget(tier) => session.with_target(tier, None, text),
            Edited::NewTier => session.with_tier(text),
        }
    }
}

impl State {
    /// The row under the cursor.
    pub fn setting_row(&self) -> Option<Row> {
        let rows = Row::all(&self.document.session);
        let last = rows.len().checked_sub(1)?;
        rows.get(self.settings.selected.min(last)).copied()
    }

    pub fn select_setting(&mut self, by: isize) {
        let last = Row::all(&self.document.session).len().saturating_sub(1);
        let to = self.settings.selected.min(last).saturating_add_signed(by);
        self.settings.selected = to.min(last);
    }

    /// Opens the form for the value under the cursor.
    pub fn edit_setting(&mut self) -> Vec<Effect> {
        let Some(row) = self.setting_row() else {
            return Vec::new();
        };
        // To the letter, quotes too, so that what nobody edits comes back as it was.
        let value = row.text(&self.document.session);
        self.overlay = Some(Overlay::Value(ValueForm {
            of: Edited::Row(row),
            input: Typed::of(value),
            error: None,
        }));
        Vec::new()
    }

    /// Opens the form for a target more: in the tier under the cursor, or in the last.
    pub fn add_target(&mut self) -> Vec<Effect> {
        let tier = self.setting_row().and_then(Row::tier);
        let tier = tier.unwrap_or(self.document.session.last_tier());
        self.new_value(Edited::NewTarget(tier))
    }

    pub fn add_tier(&mut self) -> Vec<Effect> {
        self.new_value(Edited::NewTier)
    }

    fn new_value(&mut self, of: Edited) -> Vec<Effect> {
        self.overlay = Some(Overlay::Value(ValueForm {
            of,
            input: Typed::offer("Local()"),
            error: None,
        }));
        Vec::new()
    }

    /// Takes a typed value; a form that holds none stays, with the reason.
    pub fn take_value(&mut self, form: &mut ValueForm) -> Option<Vec<Effect>> {
        match form.of.change(&self.document.session, form.input.text()) {
            Ok(next) => Some(self.take_session(next)),
            Err(problem) => {
                form.error = Some(problem.to_string());
                None
            }
        }
    }

    /// Makes another session of the open one, as one edit.
    pub fn take_session(&mut self, next: Session) -> Vec<Effect> {
        let targets = self.document.session.tiers != next.tiers;
        let mut effects = self.edit(EditKind::Single, |session| *session = next);
        if targets {
            self.settings.tested.clear();
            effects.extend(self.see_who_is_there());
        }
        effects.extend(self.follow_source());
        effects
    }

    /// Goes through the values that can be listed.
    pub fn turn_setting(&mut self, forward: bool) -> Vec<Effect> {
        let Some(Row::Setting(setting)) = self.setting_row() else {
            self.say("only a setting with listed values is turned; enter types one");
            return Vec::new();
        };
        let choices = setting.choices();
        if choices.len() < 2 {
            self.say("its values can't be listed; enter types one");
            return Vec::new();
        }
        let now = setting.text(&self.document.session);
        let by = if forward { 1 } else { choices.len() - 1 };
        let at = choices.iter().position(|choice| *choice == now);
        let next = choices[at.map_or(0, |at| (at + by) % choices.len())];
        self.set(setting, next)
    }

    fn set(&mut self, setting: &Setting, text: &str) -> Vec<Effect> {
        match setting.change(&self.document.session, text) {
            Ok(next) => self.take_session(next),
            Err(problem) => {
                self.complain(problem.to_string());
                Vec::new()
            }
        }
    }

    /// Removes the target or tier under the cursor; a setting gets the value it has where a file leaves
    /// it out.
    pub fn remove_setting(&mut self) -> Vec<Effect> {
        let session = &self.document.session;
        let removed = match self.setting_row() {
            None => return Vec::new(),
            Some(Row::Setting(setting)) if setting.is_required() => {
                self.complain(format!("a session needs its {}", setting.path));
                return Vec::new();
            }
            Some(Row::Setting(setting)) => {
                let usual = setting.usual_in(session);
                return self.set(setting, &usual);
            }
            Some(Row::Tier(tier)) => session.without_tier(tier),
            Some(Row::Target(tier, at)) => session.without_target(tier, at),
        };
        match removed {
            Ok(next) => self.take_session(next),
            Err(problem) => {
                self.complain(problem.to_string());
                Vec::new()
            }
        }
    }

    /// Tests the target under the cursor; on a tier its targets, elsewhere all of them.
    pub fn test_targets(&mut self) -> Vec<Effect> {
        let session = self.document.session.resolved(&self.document.folder);
        let row = self.setting_row();
        let mut targets = Vec::new();
        for part in session.chain() {
            for (index, target) in session.targets(part).iter().enumerate() {
                let here = match row {
                    Some(Row::Target(tier, at)) => (tier, at) == (part, index),
                    Some(Row::Tier(tier)) => tier == part,
                    _ => true,
                };
                if here {
                    targets.push((TargetId { part, index }, target.clone()));
                }
            }
        }
        let page = &mut self.settings;
        page.test += 1;
        page.testing = true;
        for (id, _) in &targets {
            page.tested.insert(*id, Tested::Asked);
        }
        vec![Effect::Test {
            number: page.test,
            targets,
        }]
    }

    /// What a test says of a target; that of an earlier test is over.
    pub fn got_tested(&mut self, number: u64, target: TargetId, tested: Tested) {
        if number != self.settings.test {
            return;
        }
        self.settings.tested.insert(target, tested);
        let mut all = self.settings.tested.values();
        self.settings.testing = all.any(|t| matches!(t, Tested::Asked | Tested::Reached));
    }

    /// Stops a test that goes on; otherwise the run that is shown.
    pub fn stop_test(&mut self) -> Vec<Effect> {
        if !self.settings.testing {
            return self.stop();
        }
        let page = &mut self.settings;
        page.testing = false;
        page.test += 1;
        let open = |t: &Tested| matches!(t, Tested::Asked | Tested::Reached);
        for tested in page.tested.values_mut().filter(|t| open(t)) {
            *tested = Tested::Stopped;
        }
        vec![Effect::StopTest]
    }
}
