/*! `table`: what a run left, as tables for pandas, R or a spreadsheet. */

use super::session::SessionArgs;
use crate::data::Set;
use crate::report::tables::{self, Ran, Table};
use crate::run::{Replayed, RunError};
use crate::session::{Results, Session, write_atomically};
use anyhow::Context;
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Write what a run left as a table, so that any figure of its report can be computed again: every
/// sample at every exit, every record of the run and its baselines, every measured time, and what each
/// run took and is billed by. Without a form, list the tables and their columns.
#[derive(Debug, clap::Args)]
pub struct TableArgs {
    /// A session that ran; the demo that ships with the program if left out.
    #[arg(value_name = "SESSION")]
    session: Option<PathBuf>,
    /// samples: one row per sample and classifier, of the calibration and the test set; records: one per
    /// sample that ran; runs: one per run and tier; profile: one per measured layer, exit, run and link.
    #[arg(long, value_enum, default_value_t = Of::Samples)]
    of: Of,
    /// Comma-separated values, a header line first.
    #[arg(long, group = "form")]
    csv: bool,
    /// One JSON document, an array of an object per row.
    #[arg(long, group = "form")]
    json: bool,
    /// A JSON object per line.
    #[arg(long, group = "form")]
    ndjson: bool,
    /// The file to write, one that is there is replaced; standard output if left out.
    #[arg(long, value_name = "FILE", requires = "form")]
    out: Option<PathBuf>,
    /// Folder of the session's run; runs/NAME if left out.
    #[arg(long, value_name = "DIR")]
    from: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Of {
    Samples,
    Records,
    Runs,
    Profile,
}

impl Of {
    const ALL: [(Of, &'static str); 4] = [
        (Of::Samples, "samples"),
        (Of::Records, "records"),
        (Of::Runs, "runs"),
        (Of::Profile, "profile"),
    ];

    fn table(self, session: &Session, results: &Results) -> anyhow::Result<Table> {
        let replayed = Replayed::of(session)?;
        let evidence = &replayed.evidence;
        Ok(match self {
            Of::Samples => tables::samples(evidence, &replayed.terms, replayed.plan),
            Of::Records => {
                let answers = evidence.answers(Set::Test).map_err(RunError::from)?;
                tables::records(&ran(results)?, &answers.table.labels, &evidence.tiers)
            }
            Of::Runs => tables::runs(&ran(results)?, evidence, session.billing),
            Of::Profile => tables::profile(evidence, &results.parts),
        })
    }
}

/// The runs whose records the session kept.
fn ran(results: &Results) -> anyhow::Result<Vec<Ran>> {
    let unpacked = results.records.iter().map(|kept| {
        let outcome = results.last(&kept.what).map(|last| &last.outcome);
        Ok(Ran {
            what: kept.what.clone(),
            exits: kept.exits.clone(),
            records: kept.unpack().map_err(RunError::from)?,
            resident_bytes: outcome.map_or_else(Vec::new, |outcome| {
                outcome.tiers.iter().map(|tier| tier.memory_bytes).collect()
            }),
        })
    });
    unpacked.collect()
}

/// Runs the command.
pub fn run(args: &TableArgs) -> anyhow::Result<()> {
    let chosen = SessionArgs::of(&args.session, None, &args.from).load()?;
    let session = chosen.as_run()?;
    let results = session.results.as_deref().ok_or(RunError::NoResults)?;
    if !(args.csv || args.json || args.ndjson) {
        return list(&session, results);
    }
    let records = matches!(args.of, Of::Records | Of::Runs);
    if records && results.records.is_empty() {
        return Err(anyhow::Error::msg(format!(
            "the run of {} kept no records of its samples (releases before this one kept none); run it \
             again with `edgelesspart run`",
            chosen.name
        )));
    }
    let table = args.of.table(&session, results)?;
    let written = match (args.csv, args.json) {
        (true, _) => table.csv()?,
        (_, true) => table.json()?,
        _ => table.ndjson()?,
    };
    let Some(file) = &args.out else {
        return match io::stdout().lock().write_all(&written) {
            Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            other => other.context("writing the table"),
        };
    };
    write_atomically(file, &written).context(file.display().to_string())?;
    super::progress::note(format_args!(
        "{}: {} rows of {} columns",
        file.display(),
        table.rows(),
        table.names().count()
    ));
    Ok(())
}

/// Which tables there are, how long they are, and their columns.
fn list(session: &Session, results: &Results) -> anyhow::Result<()> {
    let mut text = String::new();
    for (of, name) in Of::ALL {
        let table = of.table(session, results)?;
        let columns: Vec<&str> = table.names().collect();
        let columns = textwrap::fill(
            &columns.join(", "),
            textwrap::Options::new(78)
                .initial_indent("    ")
                .subsequent_indent("    "),
        );
        text += &format!("{name}, {} rows\n{columns}\n", table.rows());
    }
    text += "\nWrite one with --of NAME and --csv, --json or --ndjson.\n";
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other.context("writing the list"),
    }
}
