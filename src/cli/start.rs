/*!
The guided start: `edgelesspart MODEL DATA` on a terminal. Does what `new` does, shows what it finds, asks
what can't be found out (each question with a default that Enter takes), writes the session and opens the
workbench on it. With a session file alone, the workbench opens at once.
*/

mod ask;

use super::data::DataArg;
use super::error::{self, usage};
use super::network::Choice;
use super::new::{self, AgentArg, Side};
use super::{interrupt, tui};
use crate::cli::network::InputShape;
use crate::engine::Cancel;
use crate::explore::{Goal, Objective, Statistic};
use crate::propose::{self, Look, Remark, Trial, Wishes};
use crate::session::{BuiltIn, ModelSource, Session, Target};
use ask::Asker;
use clap::CommandFactory;
use std::io::{IsTerminal as _, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes at the head of a file by which a session is told.
const HEAD: u64 = 4096;

/// What the program is started on, without a command.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct StartArgs {
    /// A session file: the workbench opens on it. Or a network (as for `new`): a session for it is
    /// made, by asking what can't be found out. The workbench opens on the demo if left out.
    #[arg(value_name = "SESSION|MODEL")]
    file: Option<String>,
    /// Labelled images for the network.
    #[arg(value_name = "DATA")]
    data: Option<String>,
    #[command(flatten)]
    look: tui::Look,
}

/// Opens the workbench on what was given.
pub fn run(args: &StartArgs) -> anyhow::Result<()> {
    let Some(file) = &args.file else {
        return tui::open(None, &args.look, None);
    };
    if args.data.is_none() {
        if is_session(Path::new(file)) {
            return tui::open(Some(file.into()), &args.look, None);
        }
        let is_network = *file == "demo" || file.parse::<BuiltIn>().is_ok();
        if !is_network && !Path::new(file).exists() {
            return Err(unknown(file));
        }
    }
    if !std::io::stdin().is_terminal() || !std::io::stdout().is_terminal() {
        let data = args.data.as_deref().unwrap_or("DATA");
        return Err(usage(format!(
            "making a session by questions needs a terminal; in a script write `edgelesspart new {file} \
             {data}`"
        )));
    }
    let over = Arc::new(AtomicBool::new(false));
    let cancel = interrupt::token_until(Arc::clone(&over))?;
    let written = guided(file, args.data.as_deref(), &cancel)?;
    over.store(true, Ordering::Relaxed);
    tui::open(Some(written), &args.look, None)
}

/// Whether a file holds a session, by its name or its first lines.
fn is_session(path: &Path) -> bool {
    if path
        .extension()
        .is_some_and(|e| e.eq_ignore_ascii_case("ron"))
    {
        return true;
    }
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|f| f.take(HEAD).read_to_end(&mut head));
    read.is_ok() && head.windows(8).any(|w| w == b"Session(")
}

/// A word that is neither file nor network: probably a command, misspelt.
fn unknown(word: &str) -> anyhow::Error {
    let command = super::Cli::command();
    let names = command.get_subcommands().map(|c| c.get_name().to_string());
    let near = names
        .map(|name| (strsim::damerau_levenshtein(word, &name), name))
        .min()
        .filter(|(edits, name)| 2 * edits <= name.len());
    let meant = near.map_or(String::new(), |(_, name)| {
        format!("; did you mean `{name}`?")
    });
    usage(format!(
        "{word}: no such file, and no command or built-in network of that name{meant} (`edgelesspart \
         --help` lists the commands)"
    ))
}

/// From the arguments to a session file, by questions.
fn guided(model: &str, data: Option<&str>, cancel: &Cancel) -> anyhow::Result<PathBuf> {
    let mut ask = Asker::new(cancel);
    ask.say(
        "This makes a session for your network and images, and opens the workbench on it. Enter takes \
         the answer in brackets, Ctrl-C ends without writing anything.",
    );
    let data: DataArg = match data {
        Some(text) => read_data(text).map_err(usage)?,
        None => ask.until(
            "Where are the labelled images? A folder (a folder per class, with train/ and test/ or \
             without), a table (.csv), an .npz or .tar file, or `synthetic`",
            None,
            read_data,
        )?,
    };
    let look = look(&mut ask, model, &data, cancel)?;
    let trial = new::tried(&look, None, cancel)?;
    let mut trial = trial;
    if let Some(trial) = &mut trial {
        super::printed(new::table(&mut std::io::stdout().lock(), trial))?;
        preprocessing(&mut ask, trial)?;
    }
    let edge = target(&mut ask, Side::Edge, cancel)?;
    let cloud = target(&mut ask, Side::Cloud, cancel)?;
    let goal = goal(&mut ask)?;
    let (file, replace) = file(&mut ask, model)?;
    let wishes = Wishes {
        edge,
        between: Vec::new(),
        cloud,
        goal,
        name: new::run_name(&file),
        folder: file.parent().unwrap_or(Path::new("")).to_owned(),
    };
    let session: Session = propose::settle(&look, trial.as_ref(), &wishes)?;
    new::written(&session, &look, trial.as_ref(), &file, replace)?;
    ask.say(&format!(
        "{} is written. In the workbench `r` runs it; later `edgelesspart {}` opens it again.",
        file.display(),
        file.display()
    ));
    ask.pause("Enter opens the workbench")?;
    Ok(file)
}

fn read_data(text: &str) -> Result<DataArg, String> {
    // As a shell would: a path is often pasted or typed with it.
    let home = text
        .strip_prefix("~/")
        .and_then(|rest| Some((std::env::var("HOME").ok()?, rest)));
    let text = home.map_or(text.to_string(), |(home, rest)| format!("{home}/{rest}"));
    text.parse().map_err(|why: String| format!("{text}: {why}"))
}

/// Looks, shows what is found, and asks for a size where any would do.
fn look(ask: &mut Asker, model: &str, data: &DataArg, cancel: &Cancel) -> anyhow::Result<Look> {
    let source =
        |input| -> anyhow::Result<ModelSource> { new::model(model, input, &Choice::default()) };
    let mut look = new::look(source(None)?, data, None, cancel)?;
    super::printed(new::describe(&mut std::io::stdout().lock(), &look))?;
    let any_size = |r: &Remark| matches!(r, Remark::SizeChosen { .. });
    if look.remarks.iter().any(any_size) {
        let [c, h, w] = look.input;
        let own = InputShape([c, h, w]);
        let read = |text: &str| text.parse::<InputShape>();
        let asked = "The network takes images of any size. Which one (channels x height x width)?";
        let chosen = ask.until(asked, Some(&own.to_string()), read)?;
        if chosen != own {
            let InputShape(input) = chosen;
            look = new::look(source(Some(chosen))?, data, Some(input), cancel)?;
            super::printed(new::describe(&mut std::io::stdout().lock(), &look))?;
        }
    }
    Ok(look)
}

/// Asks which preprocessing it is where the images don't tell, and whether to go on where none fits.
fn preprocessing(ask: &mut Asker, trial: &mut Trial) -> anyhow::Result<()> {
    if trial.is_guessing() {
        let go_on = ask.choose(
            "No usual preprocessing makes the network much better than guessing. What now?",
            &[
                "stop here and look into network, labels and preprocessing",
                "write the session all the same",
            ],
        )?;
        return match go_on {
            0 => Err(anyhow::Error::msg("stopped; nothing was written")),
            _ => Ok(()),
        };
    }
    if trial.is_reordered() {
        let as_found = ask.choose(
            "The classes seem to be in another order than the network's outputs. Which order?",
            &["the one that fits far better", "as the labels stand"],
        )?;
        if as_found == 1 {
            trial.classes.clear();
        }
    }
    let near: Vec<usize> = (0..trial.tried.len())
        .filter(|&at| at == 0 || trial.tried[at].is_tie)
        .collect();
    if near.len() > 1 {
        let of = |&at: &usize| {
            let tried = &trial.tried[at];
            format!("{} ({:.1} %)", tried.name, 100.0 * tried.accuracy())
        };
        let options: Vec<String> = near.iter().map(of).collect();
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        let chosen = ask.choose(
            "The images can't tell these apart. Which one was the network trained with, if you know?",
            &options,
        )?;
        let chosen = trial.tried.remove(near[chosen]);
        trial.tried.insert(0, chosen);
    }
    Ok(())
}

/// Asks where a part is to run, until it answers.
fn target(ask: &mut Asker, side: Side, cancel: &Cancel) -> anyhow::Result<Vec<Target>> {
    let (question, here) = match side {
        Side::Edge => (
            "Where will the edge part run?",
            "on this machine, slowed down six times to stand in for a small board",
        ),
        Side::Between | Side::Cloud => ("And the cloud part?", "on this machine"),
    };
    let there = "on another machine, where `edgelesspart agent` runs";
    if ask.choose(question, &[here, there])? == 0 {
        return Ok(Vec::new());
    }
    let address = format!(
        "Address of that agent, as https://jetson:7070 (its token is taken from the variable {})",
        side.variable()
    );
    loop {
        let agent = ask.until(&address, None, |text| text.parse::<AgentArg>())?;
        match agent.reached(side, cancel) {
            Ok(target) => return Ok(vec![target]),
            Err(error) if !cancel.is_cancelled() => ask.say(&error::line(&error)),
            Err(error) => return Err(error),
        }
        if ask.choose("It wasn't reached. What now?", &["try again", here])? == 1 {
            return Ok(Vec::new());
        }
    }
}

/// Asks what is wanted of a deployment.
fn goal(ask: &mut Asker) -> anyhow::Result<Goal> {
    let objectives = [
        Objective::Latency(Statistic::Mean),
        Objective::Latency(Statistic::P95),
        Objective::Cost,
        Objective::EdgeMemory,
        Objective::Energy,
    ];
    let chosen = ask.choose(
        "What should be as small as possible?",
        &[
            "the mean latency",
            "the latency of the slow ones (95th percentile)",
            "the cloud's bill",
            "the memory of the edge part",
            "the energy of the edge",
        ],
    )?;
    let points = ask.until(
        "How many points of accuracy may that cost (0 to 100)?",
        Some("1"),
        |text| match text.parse::<f64>() {
            Ok(points) if (0.0..=100.0).contains(&points) => Ok(points),
            _ => Err("a number from 0 to 100".to_string()),
        },
    )?;
    let mut goal = Goal {
        minimise: objectives[chosen],
        ..Goal::default()
    };
    goal.within.accuracy_loss_points = Some(points);
    Ok(goal)
}

/// Asks where the session goes; whether what is there may be replaced.
fn file(ask: &mut Asker, model: &str) -> anyhow::Result<(PathBuf, bool)> {
    let mut proposed = new::proposed_file(model);
    loop {
        let shown = proposed.display().to_string();
        let read = |text: &str| -> Result<PathBuf, String> {
            let path = PathBuf::from(text);
            match path.parent() {
                _ if path.file_name().is_none() => Err("a file is needed, as my.ron".into()),
                Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => {
                    Err(format!("{}: no such folder", folder.display()))
                }
                _ if path.extension().is_none() => Ok(path.with_extension("ron")),
                _ => Ok(path),
            }
        };
        let file = ask.until("Which file should hold the session?", Some(&shown), read)?;
        if !file.exists() {
            return Ok((file, false));
        }
        let question = format!("{} is there already. What now?", file.display());
        let options = [
            "give another name",
            "replace it; what is there is kept with .bak added to its name",
        ];
        if ask.choose(&question, &options)? == 1 {
            return Ok((file, true));
        }
        let stem = file
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        proposed = file.with_file_name(format!("{stem}-2.ron"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_told_by_its_name_or_its_text() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        assert!(is_session(&at("a.ron", "")));
        assert!(is_session(&at("mine", "// words\nSession(version: 1")));
        assert!(!is_session(&at("net.onnx", "onnx")));
        assert!(!is_session(dir.path()));
    }

    #[test]
    fn a_misspelt_command_is_guessed() {
        assert!(unknown("pla").to_string().contains("did you mean `plan`?"));
        assert!(!unknown("my-network").to_string().contains("did you mean"));
    }
}
