/*! The exits, trained, and what they are sure of. */

use super::Pipeline;
use crate::backend::BackendId;
use crate::data::Set;
use crate::event::{Event, Note, Said, Stage};
use crate::plan::{Compression, TierHead};
use crate::predict::CompressionRatio;
use crate::predict::doubt::doubts;
use crate::run::stage_cache::Listener;
use crate::run::train_heads::{self, TrainingContext};
use crate::run::{RunError, tables, travel};
use crate::session::results::{ImageTables, TrainedHead};
use crate::session::stages::Inputs;

impl Pipeline<'_> {
    pub(super) fn learn(
        &mut self,
        on: Listener,
        heads: &[TierHead],
        frozen: Option<usize>,
    ) -> Result<(), RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let key = train_heads::key(self.session, &self.network, data, heads);
        if let Some(results) = self.session.results.as_deref()
            && results.heads_key == key
            && frozen.is_some()
            && self.keep.adopt("heads", &key, &results.heads)?
        {
            on(brought(
                Stage::Heads,
                "the session brings these exits trained",
            ));
        }
        let context = TrainingContext {
            session: self.session,
            network: &self.network,
            data,
            keep: &self.keep,
            folder: &self.options.out,
            cancel: self.cancel,
        };
        let learnt = match frozen {
            Some(epochs) => context.frozen(on, heads, epochs, &mut self.fleet)?,
            None => context.together(on, heads)?,
        };
        if let Some(network) = learnt.network {
            self.network = network;
        }
        self.results.heads_key = key;
        self.head_keys = learnt.keys;
        self.heads = learnt.heads;
        Ok(())
    }

    pub(super) fn make_tables(&mut self, on: Listener) -> Result<(), RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let key = Inputs::new()
            .with("heads", &self.results.heads_key)
            .with("network", &self.network.hash)
            .with("calibration", data.hash(Set::Calibration))
            .with("test", data.hash(Set::Test));
        // Left out where nothing is held back and where the tables are our own engine's, so that tables kept
        // before either could be otherwise are still found.
        let held_back = self.session.guarantee.is_some();
        let key = if held_back {
            key.with("held back", "half")
        } else {
            key
        };
        let key = match self.session.table_engine() {
            BackendId::Native => key.key(),
            engine => key.with("engine", engine.to_string()).key(),
        };
        let (session, network, cancel) = (self.session, &self.network, self.cancel);
        let heads = &self.heads;
        if let Some(results) = session.results.as_deref()
            && results.tables_key == key
            && let (Some(calibration), Some(test)) = (&results.calibration, &results.test)
        {
            let kept = tables::Tables {
                temperatures: results.heads.iter().map(|h| h.temperature).collect(),
                calibration: calibration.clone(),
                test: test.clone(),
            };
            if self.keep.adopt("tables", &key, &kept)? {
                on(brought(Stage::Tables, "the session brings these tables"));
            }
        }
        let made = self.keep.stage(
            on,
            (Stage::Tables, "tables", &key),
            |t: &tables::Tables| {
                let (calibration, test) = (t.calibration.samples, t.test.samples);
                format!("{calibration} calibration and {test} test images through every exit")
            },
            |reporter| tables::make(reporter, session, network, data, heads, cancel),
        )?;
        for (head, t) in self.heads.iter_mut().zip(&made.temperatures) {
            head.temperature = *t;
        }
        self.results.heads = self
            .heads
            .iter()
            .map(TrainedHead::pack)
            .collect::<Result<_, _>>()?;
        for (head, key) in self.results.heads.iter_mut().zip(&self.head_keys) {
            head.key.clone_from(key);
        }
        let calibration = made.calibration.unpack()?;
        for doubt in doubts(&calibration, network.table.classes, data.class_names()) {
            on(said(Stage::Tables, Note::Doubt(doubt)));
        }
        self.tables = Some((calibration, made.test.unpack()?));
        self.results.tables_key = key;
        self.results.held_back = held_back;
        self.results.calibration = Some(made.calibration);
        self.results.test = Some(made.test);
        self.make_travel(on)
    }

    /// What becomes of images and tensors on their way to another tier.
    fn make_travel(&mut self, on: Listener) -> Result<(), RunError> {
        let data = self.data.as_ref().ok_or(RunError::NothingToRun)?;
        let (session, network, cancel) = (self.session, &self.network, self.cancel);
        let quality = session.jpeg_quality;
        let inputs = || Inputs::new().with("tables", &self.results.tables_key);
        let key = inputs().with("quality", quality.to_string()).key();
        if let Some(results) = session.results.as_deref()
            && results.tables_key == self.results.tables_key
            && let Some(images) = results.images.as_ref().filter(|i| i.quality == quality)
        {
            self.keep.adopt("images", &key, images)?;
        }
        let images = self.keep.stage(
            on,
            (Stage::Tables, "images", &key),
            |made: &ImageTables| {
                let (calibration, test) = made.bytes;
                format!(
                    "images as JPEG files of quality {quality}: {calibration:.0} bytes each to calibrate, \
                     {test:.0} to test"
                )
            },
            |reporter| travel::images(reporter, session, network, data, cancel),
        )?;
        self.results.images = Some(images);
        if session.wire.compression != Compression::None {
            let key = inputs().with("wire", format!("{:?}", session.wire)).key();
            self.results.ratios = self.keep.stage(
                on,
                (Stage::Tables, "ratios", &key),
                |made: &Vec<CompressionRatio>| {
                    format!("tensors behind {} layers compressed", made.len())
                },
                |_| travel::ratios(session, network, data, cancel),
            )?;
        }
        Ok(())
    }
}

fn brought(stage: Stage, what: &str) -> Event {
    said(stage, format!("{what}; --fresh makes them again").into())
}

fn said(stage: Stage, note: Note) -> Event {
    Event::Say(Said {
        stage,
        origin: None,
        note,
    })
}
